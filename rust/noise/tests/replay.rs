//! The replay window, by the facts of the kernel's own self-test (C7 I-1: `selftest/counter.c`), and against a set.
//!
//! The facts are the kernel's with its window written as ours: it takes what lies up to 8,128 behind the newest message,
//! boringtun what lies up to 1,023 behind (C3 row 2). Nothing else differs.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use std::collections::HashSet;
use wgengine_core::observe::drop::Drop;
use wgengine_core::tunnel::keypairs::REJECT_AFTER_MESSAGES;

/// How far behind the newest message one may be.
const WINDOW: u64 = 1023;
const LIMIT: u64 = WINDOW + 1;

/// One session of ours, and whoever sends into it with any counter.
struct Receiver {
    side: Side,
    session: snow::StatelessTransportState,
    index: u32,
}

impl Receiver {
    fn new() -> Receiver {
        let (side, session, index) = with_snow();
        Receiver { side, session, index }
    }

    fn open(&mut self, counter: u64) -> Result<(), Drop> {
        let mut message = match counter {
            // snow seals with no nonce beyond; the counter in clear is judged before the tag.
            u64::MAX => snow_seal(&self.session, self.index, 0, &packet(1)),
            _ => snow_seal(&self.session, self.index, counter, &packet(1)),
        };
        message[8..16].copy_from_slice(&counter.to_le_bytes());
        self.side.open(0, &message).map(|packet| assert_eq!(packet.len(), 32))
    }

    /// All are taken.
    fn all(&mut self, counters: impl Iterator<Item = u64>) {
        for counter in counters {
            assert_eq!(self.open(counter), Ok(()), "{counter}");
        }
    }

    fn none(&mut self, counters: impl Iterator<Item = u64>) {
        for counter in counters {
            assert_eq!(self.open(counter), Err(Drop::Replayed), "{counter}");
        }
    }
}

#[test]
fn i1_the_thirty_four_facts_of_the_kernel() {
    let mut receiver = Receiver::new();
    let facts = [
        (0, true),
        (1, true),
        (1, false),
        (9, true),
        (8, true),
        (7, true),
        (7, false),
        (LIMIT, true),
        (LIMIT - 1, true),
        (LIMIT - 1, false),
        (LIMIT - 2, true),
        (2, true),
        (2, false),
        (LIMIT + 16, true),
        (3, false),
        (LIMIT + 16, false),
        (LIMIT * 4, true),
        (LIMIT * 4 - (LIMIT - 1), true),
        (10, false),
        (LIMIT * 4 - LIMIT, false),
        (LIMIT * 4 - (LIMIT + 1), false),
        (LIMIT * 4 - (LIMIT - 2), true),
        (LIMIT * 4 + 1 - LIMIT, false),
        (0, false),
        (REJECT_AFTER_MESSAGES, false),
        (REJECT_AFTER_MESSAGES - 1, true),
        (REJECT_AFTER_MESSAGES, false),
        (REJECT_AFTER_MESSAGES - 1, false),
        (REJECT_AFTER_MESSAGES - 2, true),
        (REJECT_AFTER_MESSAGES + 1, false),
        (REJECT_AFTER_MESSAGES + 2, false),
        (REJECT_AFTER_MESSAGES - 2, false),
        (REJECT_AFTER_MESSAGES - 3, true),
        (0, false),
    ];
    for (number, (counter, taken)) in (1..).zip(facts) {
        let why = if counter >= REJECT_AFTER_MESSAGES { Drop::SessionExpired } else { Drop::Replayed };
        let expected = if taken { Ok(()) } else { Err(why) };
        assert_eq!(receiver.open(counter), expected, "fact {number}: counter {counter}");
    }
}

#[test]
fn i1_a_whole_window_in_order_and_then_the_oldest() {
    let mut receiver = Receiver::new();
    receiver.all(1..=WINDOW);
    receiver.all(0..=0);
    receiver.none(0..=0);
}

#[test]
fn i1_a_window_in_order_that_has_just_left_the_oldest_behind() {
    let mut receiver = Receiver::new();
    receiver.all(2..=WINDOW + 1);
    receiver.all(1..=1);
    receiver.none(0..=0);
}

#[test]
fn i1_a_window_backwards_down_to_the_oldest() {
    let mut receiver = Receiver::new();
    receiver.all((0..=WINDOW).rev());
    receiver.none(0..=WINDOW);
}

#[test]
fn i1_a_window_backwards_one_further_on() {
    let mut receiver = Receiver::new();
    receiver.all((2..=WINDOW + 1).rev());
    receiver.none(0..=0);
}

#[test]
fn i1_a_window_backwards_then_the_next_and_the_oldest_is_lost() {
    let mut receiver = Receiver::new();
    receiver.all((1..=WINDOW).rev());
    receiver.all(WINDOW + 1..=WINDOW + 1);
    receiver.none(0..=0);
}

#[test]
fn i1_a_window_backwards_then_the_oldest_and_the_next() {
    let mut receiver = Receiver::new();
    receiver.all((1..=WINDOW).rev());
    receiver.all([0, WINDOW + 1].into_iter());
}

/// C3 row 2: what the kernel's wider window would still take, and ours does not.
#[test]
fn c3_2_what_comes_later_than_1_023_others_is_lost() {
    let mut receiver = Receiver::new();
    receiver.all(10_000..=10_000);
    for (behind, taken) in [(1, true), (1023, true), (1024, false), (4096, false), (8128, false), (8129, false)] {
        let expected = if taken { Ok(()) } else { Err(Drop::Replayed) };
        assert_eq!(receiver.open(10_000 - behind), expected, "{behind} behind");
    }
}

/// Jumps of all sizes, against all counters that ever came.
#[test]
fn i1_any_order_is_judged_as_a_set_would() {
    let mut receiver = Receiver::new();
    let mut taken = HashSet::new();
    let (mut newest, mut dice) = (0u64, 0x9e37_79b9_7f4a_7c15u64);
    for step in 0..20_000 {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let far = [2, 64, 65, 1100, 3000][(dice >> 40) as usize % 5];
        let by = (dice >> 8) % far;
        let counter = if dice & 3 == 0 { newest + by } else { newest.saturating_sub(by) };
        let expected = counter + WINDOW >= newest && taken.insert(counter);
        assert_eq!(receiver.open(counter).is_ok(), expected, "step {step}: {counter}, the newest is {newest}");
        newest = newest.max(counter);
    }
    assert!(taken.len() > 5000);
}
