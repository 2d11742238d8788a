//! Our side of all handshakes, derived once from the private key.

use boringtun::noise::rate_limiter::RateLimiter;
use std::sync::Arc;
use wgengine_core::plan::{PublicKey, Secret};
use x25519_dalek::{PublicKey as Point, StaticSecret};

/// The device's own key, and what each `Tunn` shares.
pub struct Identity {
    pub(crate) private: StaticSecret,
    public: Point,
    /// Checks mac1 inside boringtun. Never "under load": who is let in is `tunnel::admission`'s to say, before any
    /// Diffie-Hellman; so its one counter for all sources (C3 row 5) limits nobody.
    pub(crate) gate: Arc<RateLimiter>,
}

impl Identity {
    pub fn new(private: &Secret) -> Identity {
        let private = StaticSecret::from(private.0);
        let public = Point::from(&private);
        Identity { gate: Arc::new(RateLimiter::new(&public, u64::MAX)), private, public }
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.public.to_bytes())
    }

    pub(crate) fn point(&self) -> &Point {
        &self.public
    }
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Identity({:?})", self.public())
    }
}
