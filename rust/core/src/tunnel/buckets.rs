//! How often one source may have a handshake looked at: a token bucket each, in a table of bounded size (C3 row 5, kernel
//! `ratelimiter.c`). Asked only about sources that have shown by a cookie that they receive there, so nobody fills the
//! table with made-up addresses.

use crate::time::Tick;
use core::time::Duration;
use std::collections::HashMap;
use std::net::IpAddr;

pub const PER_SECOND: u32 = 20;
pub const BURST: u32 = 5;
/// Sources that are remembered at a time; beyond it new ones are refused until a second has passed.
pub const MAX_SOURCES: usize = 16_384;

const COST: Duration = Duration::from_nanos(1_000_000_000 / PER_SECOND as u64);
const FULL: Duration = Duration::from_nanos(COST.as_nanos() as u64 * BURST as u64);
const REMEMBERED: Duration = Duration::from_secs(1);

/// Whoever has one address of an IPv6 network has all of its /64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Source {
        match address {
            IpAddr::V4(address) => Source::V4(address.into()),
            IpAddr::V6(address) => Source::V6((u128::from(address) >> 64) as u64),
        }
    }
}

/// Tokens, as the time that it took to earn them.
#[derive(Clone, Copy, Default)]
pub(super) struct Bucket {
    tokens: Duration,
    at: Tick,
}

impl Bucket {
    pub(super) fn full(full: Duration, now: Tick) -> Bucket {
        Bucket { tokens: full, at: now }
    }

    fn tokens(&self, full: Duration, now: Tick) -> Duration {
        (self.tokens + now.since(self.at)).min(full)
    }

    /// Is there a token to [`Bucket::draw`]?
    pub(super) fn holds(&self, cost: Duration, full: Duration, now: Tick) -> bool {
        self.tokens(full, now) >= cost
    }

    /// Take a token worth `cost` out of a bucket that holds up to `full`, if there is one.
    pub(super) fn draw(&mut self, cost: Duration, full: Duration, now: Tick) -> bool {
        let tokens = self.tokens(full, now);
        let left = tokens.checked_sub(cost);
        *self = Bucket { tokens: left.unwrap_or(tokens), at: now };
        left.is_some()
    }
}

/// The buckets of one device.
#[derive(Default)]
pub struct Buckets {
    sources: HashMap<Source, Bucket>,
    swept: Tick,
}

impl Buckets {
    /// One more handshake of this source: is there a token for it?
    pub fn allow(&mut self, address: IpAddr, now: Tick) -> bool {
        if now.since(self.swept) >= REMEMBERED {
            self.sweep(now);
        }
        let source = Source::from(address);
        if let Some(bucket) = self.sources.get_mut(&source) {
            return bucket.draw(COST, FULL, now);
        }
        if self.sources.len() >= MAX_SOURCES {
            return false;
        }
        self.sources.insert(source, Bucket { tokens: FULL - COST, at: now });
        true
    }

    /// A bucket that nobody drew from for a second is full again, and so as good as none.
    fn sweep(&mut self, now: Tick) {
        self.swept = now;
        self.sources.retain(|_, bucket| now.since(bucket.at) < REMEMBERED);
        if self.sources.is_empty() {
            // After a flood its memory goes, too.
            self.sources = HashMap::new();
        }
    }

    pub fn len(&self) -> usize {
        self.sources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn ms(ms: u64) -> Tick {
        Tick(3_600_000_000_000 + ms * 1_000_000)
    }

    #[test]
    fn c3_5_a_source_has_a_burst_of_five_and_then_twenty_a_second() {
        let mut buckets = Buckets::default();
        let one = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!((0..20).filter(|_| buckets.allow(one, ms(0))).count(), 5);
        // Asking in vain does not put the next token off.
        let allowed = (1..=1000).filter(|at| buckets.allow(one, ms(*at))).count();
        assert_eq!(allowed, 20);
        assert!(buckets.allow(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), ms(1000)), "others have their own");
    }

    #[test]
    fn c3_5_an_ipv6_source_is_its_network_of_64_bits() {
        let mut buckets = Buckets::default();
        let host = |network: u128, host: u128| IpAddr::V6(Ipv6Addr::from(network << 64 | host));
        let allowed = (0..100).filter(|n| buckets.allow(host(7, *n), ms(0))).count();
        assert_eq!(allowed, 5);
        assert!(buckets.allow(host(8, 1), ms(0)));
        assert_eq!(buckets.len(), 2);
    }

    #[test]
    fn c3_5_the_table_is_bounded_and_forgets_within_two_seconds() {
        let mut buckets = Buckets::default();
        let source = |n: u32| IpAddr::V4(Ipv4Addr::from(n));
        let allowed = (0..100_000).filter(|n| buckets.allow(source(*n), ms(0))).count();
        assert_eq!((allowed, buckets.len()), (MAX_SOURCES, MAX_SOURCES));
        assert!(!buckets.allow(source(200_000), ms(999)));
        assert!(buckets.allow(source(200_000), ms(2000)), "room again");
        assert_eq!(buckets.len(), 1);
    }
}
