//! Buckets of handshakes, by the facts of the kernel's own self-test (C7 I-3: `selftest/ratelimiter.c`) on a made-up
//! clock, and against a slow bucket that counts in exact fractions.

use proptest::prelude::*;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use wgengine_core::time::Tick;
use wgengine_core::tunnel::buckets::{Buckets, BURST, MAX_SOURCES, PER_SECOND};

const START: Tick = Tick(3_600_000_000_000);

fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// Milliseconds to wait, and whether one more is let through then.
const FACTS: [(u64, bool); 11] = [
    (0, true),
    (0, true),
    (0, true),
    (0, true),
    (0, true),
    (0, false),
    (1000 / PER_SECOND as u64, true),
    (0, false),
    (2000 / PER_SECOND as u64, true),
    (0, true),
    (0, false),
];

#[test]
fn i3_the_kernels_facts_for_one_source() {
    let mut buckets = Buckets::default();
    for source in ["255.1.2.3", "127.0.0.1", "2001:db8::1", "::"].map(address) {
        let mut now = START;
        for (number, (wait, allowed)) in (1..).zip(FACTS) {
            now = now + Duration::from_millis(wait);
            assert_eq!(buckets.allow(source, now), allowed, "{source}, fact {number}");
        }
    }
}

/// All addresses of one /64 share what their network has, and the next network has its own.
#[test]
fn i3_an_ipv6_network_and_its_neighbour() {
    let mut buckets = Buckets::default();
    let host = |network: u128, host: u128| IpAddr::V6((network << 64 | host).into());
    let mut now = START;
    for (number, (wait, allowed)) in (1..).zip(FACTS) {
        now = now + Duration::from_millis(wait);
        let network = 0x2001_0db8_0000_0001;
        assert_eq!(buckets.allow(host(network, u128::from(now.0) * 7919 + number), now), allowed, "fact {number}");
        assert_eq!(buckets.allow(host(network + 1, number), now), allowed, "its neighbour, fact {number}");
    }
}

#[test]
fn i3_a_full_table_lets_nobody_new_in_and_does_not_forget_whom_it_limits() {
    let mut buckets = Buckets::default();
    let source = |n: u32| IpAddr::V4(n.into());
    for n in 0..MAX_SOURCES as u32 {
        assert!(buckets.allow(source(n), START), "{n}");
    }
    assert!(!buckets.allow(source(u32::MAX), START), "one more than there is room for");
    for n in 0..MAX_SOURCES as u32 {
        assert!((1..BURST).all(|_| buckets.allow(source(n), START)), "{n}");
        assert!(!buckets.allow(source(n), START), "{n}");
    }
    assert!(buckets.allow(source(u32::MAX), START + Duration::from_secs(2)));
}

/// A bucket in nanoseconds times handshakes: nothing is rounded.
#[derive(Clone, Copy)]
struct Slow {
    level: u64,
    at: u64,
}

const SECOND: u64 = 1_000_000_000;

impl Slow {
    fn allow(&mut self, now: u64) -> bool {
        self.level = (self.level + (now - self.at) * u64::from(PER_SECOND)).min(u64::from(BURST) * SECOND);
        self.at = now;
        let enough = self.level >= SECOND;
        self.level -= if enough { SECOND } else { 0 };
        enough
    }
}

proptest! {
    #[test]
    fn i3_agrees_with_exact_fractions(steps in prop::collection::vec((0u8..4, 0u64..120), 1..400)) {
        let mut buckets = Buckets::default();
        let mut slow: HashMap<u8, Slow> = HashMap::new();
        let mut now = START;
        for (source, wait) in steps {
            now = now + Duration::from_millis(wait * wait / 40);
            let full = Slow { level: u64::from(BURST) * SECOND, at: now.0 };
            let expected = slow.entry(source).or_insert(full).allow(now.0);
            prop_assert_eq!(buckets.allow(IpAddr::V4([192, 0, 2, source].into()), now), expected);
        }
    }
}
