//! Pings through the packet path: sent, answered or expired, and each told once.

use crate::clock;
use crate::random;
use crate::shared::Shared;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use wgengine_core::observe::event::{Event, PingKind};
use wgengine_core::observe::pings::{self, Answer, Id, Refused, Way};
use wgengine_core::packet::icmp::{self, Echo, Half};
use wgengine_core::plan::PublicKey;
use wgengine_core::time::Tick;
use wgengine_core::wire::tsmp::Tsmp;

/// Why a ping was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingError {
    /// One address is IPv4, the other IPv6.
    Families,
    /// No peer's allowed IPs hold the destination.
    NoPeer,
    /// As many as may be are under way.
    TooMany,
    /// The queue into the tunnel is full.
    QueueFull,
}

/// The pings that are under way.
#[derive(Default)]
pub struct Pings {
    table: Mutex<pings::Pings>,
    /// Asked for every echo that comes in: no lock while there is none.
    under_way: AtomicUsize,
}

impl Pings {
    /// Is any under way?
    pub fn any(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0
    }

    fn with<T>(&self, change: impl FnOnce(&mut pings::Pings) -> T) -> T {
        let mut table = self.table.lock();
        let outcome = change(&mut table);
        self.under_way.store(table.len(), Ordering::Release);
        outcome
    }

    pub fn answered(&self, id: Id, way: &Way, peer_api_port: u16, now: Tick) -> Answer {
        if !self.any() {
            return Answer::Unknown;
        }
        self.with(|table| table.answered(id, way, peer_api_port, now))
    }

    /// When the next one expires.
    pub fn next(&self) -> Option<Tick> {
        self.any().then(|| self.table.lock().next()).flatten()
    }

    /// One whose time is over. Call until `None`.
    pub fn expire(&self, now: Tick) -> Option<Event> {
        self.any().then(|| self.with(|table| table.expire(now))).flatten()
    }
}

/// An identity that nobody can guess, and so nobody can answer unseen.
fn draw(kind: PingKind) -> Id {
    let mut bytes = [0; 8];
    if !random::fill(&mut bytes) {
        bytes[..4].copy_from_slice(&random::number().to_ne_bytes());
    }
    match kind {
        PingKind::Tsmp => Id::Tsmp(bytes),
        PingKind::Icmp => Id::Echo([bytes[0], bytes[1], bytes[2], bytes[3]]),
    }
}

fn packet(id: Id, source: IpAddr, destination: IpAddr) -> Option<Vec<u8>> {
    match id {
        Id::Tsmp(id) => Tsmp::Ping(id).packet(source, destination),
        Id::Echo(id) => icmp::echo(source, destination, 0, &Echo { half: Half::Request, id, payload: &[] }),
    }
}

impl Shared {
    /// Send a ping, without waiting for anything. Its token comes back in just one event: [`Event::Pong`], or
    /// [`Event::PingExpired`] when `timeout` is over.
    pub fn ping(
        &self,
        kind: PingKind,
        source: IpAddr,
        destination: IpAddr,
        timeout: Duration,
    ) -> Result<u64, PingError> {
        let peer = self.table.owner(destination).ok_or(PingError::NoPeer)?.key;
        let way = Way { peer, source, destination };
        let (id, token) = loop {
            let id = draw(kind);
            // Made before the clock starts.
            let packet = packet(id, source, destination).ok_or(PingError::Families)?;
            match self.pings.with(|table| table.begin(id, way, clock::tick(), timeout)) {
                Err(Refused::Taken) => continue,
                Err(Refused::Full) => return Err(PingError::TooMany),
                Ok(token) if self.inject(packet).is_ok() => break (id, token),
                Ok(_) => {
                    self.pings.with(|table| table.cancel(id));
                    return Err(PingError::QueueFull);
                }
            }
        };
        if self.pings.with(|table| table.is_next(id)) {
            // It expires before what the control thread sleeps for.
            self.inbox.wake();
        }
        Ok(token)
    }

    /// Tell whoever has `destination` which disco key is ours. False: the queue into the tunnel is full.
    pub fn advertise_disco_key(&self, source: IpAddr, destination: IpAddr, key: PublicKey) -> Result<bool, PingError> {
        let packet = Tsmp::DiscoKey(key.0).packet(source, destination).ok_or(PingError::Families)?;
        Ok(self.inject(packet).is_ok())
    }
}
