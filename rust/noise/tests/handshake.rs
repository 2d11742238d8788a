//! Handshakes between two of ours, and with `snow` in both roles.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::plan::Secret;
use wgengine_core::tunnel::timers::Due;
use wgengine_core::wire::wireguard::{receiver, sender, Message, RESPONSE_LEN};
use wgengine_noise::{generate_psk, read_initiation};

#[test]
fn two_of_ours_agree_in_both_directions() {
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, 0);
    for tag in 0..200 {
        let out = a.seal(&packet(tag)).unwrap();
        assert_eq!(b.open(1, &out), Ok(packet(tag)));
        assert_eq!(b.open(1, &out), Err(Drop::Replayed));
        let back = b.seal(&packet(tag)).unwrap();
        assert_eq!(a.open(1, &back), Ok(packet(tag)));
    }
}

#[test]
fn the_responder_does_not_send_before_the_session_is_confirmed() {
    let (mut a, mut b) = pair();
    let initiation = a.initiate(0).unwrap();
    b.respond(0, ADDRESS_A, &initiation).unwrap();
    assert!(!b.peer.can_send(now(0).tick));
}

#[test]
fn a_preshared_key_must_be_the_same_on_both_sides() {
    for (ours, theirs, right) in [(1, 1, true), (1, 2, false), (1, 0, false), (0, 2, false)] {
        let psk = |n: u8| (n > 0).then(|| Secret([n; 32]));
        let (mut a, mut b) = pair();
        a.peer.set_psk(psk(ours));
        b.peer.set_psk(psk(theirs));
        let initiation = a.initiate(0).unwrap();
        let response = b.respond(0, ADDRESS_A, &initiation).unwrap();
        assert_eq!(a.finish(0, ADDRESS_B, &response).is_ok(), right);
    }
}

#[test]
fn a_new_preshared_key_lets_the_session_live_and_counts_for_the_next() {
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, 0);
    for side in [&mut a, &mut b] {
        assert!(side.peer.set_psk(Some(Secret([9; 32]))));
        assert!(!side.peer.set_psk(Some(Secret([9; 32]))));
    }
    let out = a.seal(&packet(1)).unwrap();
    assert_eq!(b.open(1, &out), Ok(packet(1)));
    shake(&mut a, &mut b, 2);
}

#[test]
fn a_retry_is_answered_like_the_first_try_and_an_answer_to_the_first_still_counts() {
    let (mut a, mut b) = pair();
    let first = a.initiate(0).unwrap();
    let response = b.respond(0, ADDRESS_A, &first).unwrap();
    let second = a.initiate(6).unwrap();
    assert_ne!(first, second);
    a.finish(6, ADDRESS_B, &response).unwrap();
    let keepalive = a.peer.keepalive(now(6).tick).unwrap();
    assert_eq!(b.open(6, &keepalive), Ok(vec![]));
}

#[test]
fn snow_initiates_with_and_without_psk() {
    for psk in [[0; 32], generate_psk().0] {
        let ((secret, theirs), (_, ours)) = (identity(), identity());
        let mut state = snow(&secret, &ours.public(), &psk, true);
        let mut side = Side::new(ours, theirs.public(), None);
        side.peer.set_psk((psk != [0; 32]).then(|| Secret(psk)));
        let initiation = snow_initiation(&mut state, &side.identity.public(), [1; 12]);
        let response = side.respond(0, ADDRESS_A, &initiation).unwrap();
        assert_eq!(receiver(Message::parse(&response).unwrap()), Some(SNOW_INDEX));
        state.read_message(&response[12..60], &mut [0; 16]).unwrap();
        let index = sender(&response);
        let session = state.into_stateless_transport_mode().unwrap();
        let mut plain = packet(5);
        plain.resize(48, 0);
        assert_eq!(side.open(0, &snow_seal(&session, index, 0, &plain)), Ok(packet(5)));
        let sealed = side.seal(&packet(6)).unwrap();
        assert_eq!(snow_open(&session, &sealed), packet(6));
    }
}

#[test]
fn snow_answers_with_and_without_psk() {
    for psk in [[0; 32], generate_psk().0] {
        let ((secret, theirs), (_, ours)) = (identity(), identity());
        let mut state = snow(&secret, &ours.public(), &psk, false);
        let mut side = Side::new(ours, theirs.public(), Some(ADDRESS_B));
        side.peer.set_psk((psk != [0; 32]).then(|| Secret(psk)));
        let initiation = side.initiate(0).unwrap();
        let mut stamp = [0; 12];
        assert_eq!(state.read_message(&initiation[8..116], &mut stamp).unwrap(), 12);
        assert!(stamp[0] & 0x40 != 0, "TAI64 labels of our time begin with 0x40");
        let mut response = [0; RESPONSE_LEN];
        response[0] = 2;
        response[4..8].copy_from_slice(&SNOW_INDEX.to_le_bytes());
        response[8..12].copy_from_slice(&sender(&initiation).to_le_bytes());
        state.write_message(&[], &mut response[12..60]).unwrap();
        put_mac1(&mut response, &side.identity.public());
        side.finish(0, ADDRESS_B, &response).unwrap();
        let session = state.into_stateless_transport_mode().unwrap();
        let sealed = side.seal(&packet(7)).unwrap();
        assert_eq!(sealed[4..8], SNOW_INDEX.to_le_bytes());
        assert_eq!(snow_open(&session, &sealed), packet(7));
        assert_eq!(side.open(1, &snow_seal(&session, sender(&initiation), 0, &packet(8))), Ok(packet(8)));
    }
}

/// The lock is free while Diffie-Hellman is done: what is configured meanwhile wins, and no index is lost.
#[test]
fn keys_that_change_while_a_handshake_is_computed_make_it_worthless() {
    let (mut a, mut b) = pair();
    let mut work = a.peer.take_attempt();
    let message = work.initiate(&a.identity, || 71);
    assert!(a.peer.set_psk(Some(Secret([9; 32]))));
    assert_eq!(a.peer.initiated(work, message, now(0).tick, Duration::ZERO), Ok(None));
    assert_eq!((a.peer.attempt_index(), a.peer.take_retired()), (None, Some(vec![71])));
    b.peer.set_psk(Some(Secret([9; 32])));

    let initiation = a.initiate(0).unwrap();
    let stamp = read_initiation(&b.identity, &initiation).ok().unwrap().timestamp(&b.identity).unwrap();
    let mut work = b.peer.take_initiation(stamp, now(0).tick).ok().unwrap();
    let response = work.answer(&b.identity, &initiation, || 72);
    b.peer.forget_sessions();
    assert!(b.peer.answered(work, response, stamp, address(ADDRESS_A), now(0).tick).is_err());
    assert_eq!((b.peer.take_retired(), b.peer.newest_timestamp()), (Some(vec![72]), [0; 12]));

    let response = b.respond(0, ADDRESS_A, &initiation).unwrap();
    let mut work = a.peer.take_attempt();
    let outcome = work.finish(&response);
    a.peer.remove();
    assert_eq!(a.peer.finished(work, outcome, address(ADDRESS_B), now(0)), Err(Drop::UnknownIndex));
    assert!(!a.peer.can_send(now(0).tick));
}

/// Otherwise the peer would have to ask again, five seconds later.
#[test]
fn an_answer_that_is_being_written_outlives_a_reset_and_ends_a_sleep() {
    for trimmed in [true, false] {
        let (mut a, mut b) = pair();
        let initiation = a.initiate(0).unwrap();
        let timestamp = read_initiation(&b.identity, &initiation).unwrap().timestamp(&b.identity).unwrap();
        let mut work = b.peer.take_initiation(timestamp, now(0).tick).unwrap();
        let response = work.answer(&b.identity, &initiation, || 9);
        if trimmed {
            assert!(b.peer.trim(now(0).tick));
        } else {
            assert!(!b.peer.reset_sessions(now(0).tick), "nothing waits");
        }
        let answer = b.peer.answered(work, response, timestamp, address(ADDRESS_A), now(0).tick);
        let (response, _) = answer.unwrap();
        assert!(!b.peer.is_trimmed());
        a.finish(0, ADDRESS_B, &response).unwrap();
        let sealed = a.seal(&packet(7)).unwrap();
        assert_eq!(b.open(0, &sealed), Ok(packet(7)));
    }
}

#[test]
fn a_trimmed_peer_hears_what_the_other_side_can_still_send_and_then_keeps_nothing() {
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, 0);
    b.peer.timers.set_persistent(25, now(0).tick);
    assert!(b.peer.trim(now(100).tick));
    let last = a.seal(&packet(7)).unwrap();
    assert_eq!(b.open(179, &last), Ok(packet(7)));
    assert_eq!(b.peer.timers.next(), Some(now(180).tick), "nothing before it but to forget");
    assert_eq!(b.peer.poll(now(180).tick), Some(Due::Forget));
    assert_eq!((b.peer.poll(now(180).tick), b.peer.timers.next()), (None, None));
    let index = b.peer.take_retired();
    assert_eq!(index.map(|all| all.len()), Some(1), "its index is free again");
    // Trimmed when nobody can send any more, it forgets at once.
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, 0);
    assert!(b.peer.trim(now(300).tick));
    assert_eq!((b.peer.timers.next(), b.peer.take_retired().map(|all| all.len())), (None, Some(1)));
}
