//! Sockets are tried: macOS tells a program its way out by what it binds and connects.

use super::trial;
use crate::changes;
use crate::fd::Held;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use wgengine_core::tunnel::endpoint::Endpoint;

/// The host's routes.
#[derive(Debug, Default)]
pub struct Routes {
    changes: Option<Held<OwnedFd>>,
}

impl Routes {
    /// There are no marks here, and no rules that look at ports.
    pub fn new(_port: u16, _mark: u32) -> Routes {
        Routes { changes: changes::of_routes().ok() }
    }

    /// Readable when something changed.
    pub fn changes(&self) -> Option<RawFd> {
        self.changes.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Take in what changed. True: something did.
    pub fn look(&self) -> bool {
        self.changes.as_ref().is_some_and(|told| changes::drain(told))
    }

    pub fn set_mark(&self, _mark: u32) {}

    /// May the endpoint be answered from its source? Yes as well where nobody can tell.
    pub fn serves(&self, endpoint: &Endpoint) -> bool {
        trial::serves(endpoint)
    }
}
