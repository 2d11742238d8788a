//! Addresses where peers were when they shook hands, or are said to be: under a flood they get a cookie before strangers
//! do. Roughly: a table of fixed size, in which an address may push out another one.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

const PLACES: usize = 16_384;

/// Written by the control thread and by callers, read by all.
pub struct Familiar {
    /// Keyed, so that nobody can choose an address that pushes out a certain other one.
    hash: RandomState,
    places: Box<[AtomicU32]>,
}

impl Default for Familiar {
    fn default() -> Familiar {
        Familiar { hash: RandomState::new(), places: (0..PLACES).map(|_| AtomicU32::new(0)).collect() }
    }
}

impl Familiar {
    /// Where an address stands, and by what it is known there; 0 is nobody.
    fn place(&self, address: SocketAddr) -> (&AtomicU32, u32) {
        let hash = self.hash.hash_one(address);
        (&self.places[hash as usize % PLACES], (hash >> 32) as u32 | 1)
    }

    pub fn note(&self, address: SocketAddr) {
        let (place, name) = self.place(address);
        place.store(name, Relaxed);
    }

    pub fn forget(&self, address: SocketAddr) {
        let (place, name) = self.place(address);
        // Not the one that has pushed it out.
        let _ = place.compare_exchange(name, 0, Relaxed, Relaxed);
    }

    pub fn knows(&self, address: SocketAddr) -> bool {
        let (place, name) = self.place(address);
        place.load(Relaxed) == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> SocketAddr {
        (std::net::Ipv4Addr::from(n), 51820).into()
    }

    #[test]
    fn peers_are_known_and_strangers_are_not() {
        let familiar = Familiar::default();
        (0..1000).for_each(|n| familiar.note(address(n)));
        assert!((0..1000).filter(|n| familiar.knows(address(*n))).count() > 900, "few push each other out");
        assert!((1000..100_000).filter(|n| familiar.knows(address(*n))).count() <= 1);
        familiar.note(address(1));
        familiar.forget(address(1));
        familiar.forget(address(100_000));
        assert!(!familiar.knows(address(1)), "forgotten");
        familiar.note(address(1));
        assert!(!familiar.knows(SocketAddr::new(address(1).ip(), 51821)), "another port is another address");
    }
}
