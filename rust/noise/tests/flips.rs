//! Every bit of every kind of message turned over, one at a time (C7 I-5): refused, nothing changes, and the true message
//! still does its work afterwards. mac2 is the admission's to judge, and only under load.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use wgengine_core::observe::drop::Drop;
use wgengine_core::tunnel::admission::{Admission, Gate, Verdict, LOADED};
use wgengine_core::wire::wireguard::{Message, COOKIE_REPLY_LEN, INITIATION_LEN, RESPONSE_LEN};

const MAC: usize = 16;

/// All that a peer shows, and that a refused message must not change.
fn shown(side: &Side) -> impl PartialEq + std::fmt::Debug {
    let peer = &side.peer;
    let known = (peer.bytes(), peer.address(), peer.last_handshake(), peer.newest_timestamp());
    (known, peer.timers.next(), peer.attempt_index(), peer.can_send(now(1).tick))
}

fn flipped<const LEN: usize>(message: &[u8; LEN], bit: usize) -> [u8; LEN] {
    let mut changed = *message;
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}

#[test]
fn i5_every_bit_of_an_initiation() {
    let (mut a, mut b) = pair();
    let initiation = a.initiate(0).unwrap();
    let before = shown(&b);
    for bit in 32..(INITIATION_LEN - MAC) * 8 {
        assert!(b.respond(1, ADDRESS_A, &flipped(&initiation, bit)).is_err(), "bit {bit}");
        assert_eq!(shown(&b), before, "bit {bit}");
    }
    let response = b.respond(1, ADDRESS_A, &initiation).unwrap();
    assert!(a.finish(1, ADDRESS_B, &response).is_ok());
}

/// By someone who knows the public key and makes mac1 fit again: the Noise tags cover what Noise is about.
#[test]
fn i5_every_bit_of_an_initiation_with_a_mac_that_fits() {
    let (mut a, mut b) = pair();
    let initiation = a.initiate(0).unwrap();
    let before = shown(&b);
    for bit in 8 * 8..(INITIATION_LEN - 2 * MAC) * 8 {
        let mut changed = flipped(&initiation, bit);
        put_mac1(&mut changed, &b.identity.public());
        assert!(b.respond(1, ADDRESS_A, &changed).is_err(), "bit {bit}");
        assert_eq!(shown(&b), before, "bit {bit}");
    }
    assert!(b.respond(1, ADDRESS_A, &initiation).is_ok());
}

#[test]
fn i5_every_bit_of_a_response() {
    let (mut a, mut b) = pair();
    let initiation = a.initiate(0).unwrap();
    let response = b.respond(0, ADDRESS_A, &initiation).unwrap();
    let before = shown(&a);
    for bit in 32..(RESPONSE_LEN - MAC) * 8 {
        assert!(a.finish(1, ADDRESS_B, &flipped(&response, bit)).is_err(), "bit {bit}");
        assert_eq!(shown(&a), before, "bit {bit}");
    }
    for bit in 12 * 8..(RESPONSE_LEN - 2 * MAC) * 8 {
        let mut changed = flipped(&response, bit);
        put_mac1(&mut changed, &a.identity.public());
        assert!(a.finish(1, ADDRESS_B, &changed).is_err(), "bit {bit}, mac1 made to fit");
        assert_eq!(shown(&a), before, "bit {bit}");
    }
    a.finish(1, ADDRESS_B, &response).unwrap();
    let data = a.seal(&packet(9)).unwrap();
    assert_eq!(b.open(1, &data), Ok(packet(9)));
}

#[test]
fn i5_every_bit_of_a_cookie_reply() {
    // A machine that has just started has earned no cookies yet.
    const HOUR: u64 = 3600;
    let (mut a, b) = pair();
    let admission = Admission::new(&b.identity.public());
    let mut gate = Gate::default();
    let fill = |bytes: &mut [u8]| {
        bytes.fill(0x42);
        true
    };
    let from = address(ADDRESS_A).address;
    let initiation = a.initiate(HOUR).unwrap();
    let Verdict::Reply(reply) = gate.admit(&admission, &initiation, from, LOADED, now(HOUR).tick, fill) else {
        panic!("no cookie");
    };
    let before = shown(&a);
    for bit in 32..COOKIE_REPLY_LEN * 8 {
        assert!(a.peer.take_cookie(&flipped(&reply, bit), now(HOUR + 1).tick).is_err(), "bit {bit}");
        assert_eq!(shown(&a), before, "bit {bit}");
    }
    let bare = a.initiate(HOUR + 6).unwrap();
    assert_eq!(bare[INITIATION_LEN - MAC..], [0; MAC], "none of them was taken");
    let Verdict::Reply(reply) = gate.admit(&admission, &bare, from, LOADED, now(HOUR + 6).tick, fill) else {
        panic!("no cookie");
    };
    a.peer.take_cookie(&reply, now(HOUR + 6).tick).unwrap();
    let signed = a.initiate(HOUR + 12).unwrap();
    // Now mac2 counts, every bit of it and of what it covers.
    for bit in 0..INITIATION_LEN * 8 {
        let verdict = gate.admit(&admission, &flipped(&signed, bit), from, LOADED, now(HOUR + 12).tick, fill);
        assert!(matches!(verdict, Verdict::Reply(_) | Verdict::Refuse(Drop::CookieRequired)), "bit {bit}");
    }
    assert_eq!(gate.admit(&admission, &signed, from, LOADED, now(HOUR + 12).tick, fill), Verdict::Pass);
}

#[test]
fn i5_every_bit_of_data_in_both_directions() {
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, 0);
    for direction in 0..2 {
        let data: [u8; 64] = a.seal(&packet(5)).unwrap().try_into().unwrap();
        let before = shown(&b);
        for bit in 0..data.len() * 8 {
            let changed = flipped(&data, bit);
            match Message::parse(&changed) {
                Ok(_) => assert!(b.open(1, &changed).is_err(), "bit {bit}, direction {direction}"),
                Err(why) => assert!(why == Drop::MalformedMessage && bit < 32),
            }
            assert_eq!(shown(&b), before, "bit {bit}");
        }
        assert_eq!(b.open(1, &data), Ok(packet(5)));
        assert_eq!(b.open(1, &data), Err(Drop::Replayed));
        std::mem::swap(&mut a, &mut b);
    }
}

/// The type word: another type has another length, and reserved bytes are zero.
#[test]
fn i5_every_bit_of_a_type() {
    for (kind, length) in [(1u8, INITIATION_LEN), (2, RESPONSE_LEN), (3, COOKIE_REPLY_LEN), (4, 80)] {
        let mut message = vec![0; length];
        message[0] = kind;
        assert!(Message::parse(&message).is_ok());
        for bit in 0..32 {
            message[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Message::parse(&message), Err(Drop::MalformedMessage), "type {kind}, bit {bit}");
            message[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
