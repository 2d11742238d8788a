//! What boringtun lacks against the kernel, each row of C3 by its name.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use wgengine_core::observe::drop::Drop;
use wgengine_core::plan::{PeerPlan, Plan, PublicKey, Secret};
use wgengine_core::tunnel::endpoint::{Endpoint, Source};
use wgengine_core::tunnel::keypairs::REJECT_AFTER_MESSAGES;
use wgengine_core::tunnel::peer::Peer;
use wgengine_core::wire::wireguard::{Message, COOKIE_REPLY_LEN, RESPONSE_LEN};
use wgengine_noise::{generate_psk, Boring};

#[test]
fn c3_1_message_limits() {
    let (mut side, session, index) = with_snow();
    let first = snow_seal(&session, index, 0, &packet(1));
    assert_eq!(side.open(0, &first), Ok(packet(1)));
    for counter in [REJECT_AFTER_MESSAGES, REJECT_AFTER_MESSAGES + 1, u64::MAX - 1] {
        assert_eq!(side.open(0, &snow_seal(&session, index, counter, &packet(2))), Err(Drop::SessionExpired));
    }
    // snow itself refuses to seal with the greatest nonce; the counter in clear is what is judged, so any seal will do.
    let mut greatest = snow_seal(&session, index, 5, &packet(3));
    greatest[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(side.open(0, &greatest), Err(Drop::SessionExpired));
    assert_eq!(side.open(0, &first), Err(Drop::Replayed), "no counter may bring old packets back");
    let last = snow_seal(&session, index, REJECT_AFTER_MESSAGES - 1, &packet(4));
    assert_eq!(side.open(0, &last), Ok(packet(4)));
}

#[test]
fn c3_7_low_order_keys() {
    for key in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        let (_, ours) = identity();
        let mut side = Side::new(ours, PublicKey(key), Some(ADDRESS_B));
        assert_eq!(side.initiate(0), Err(Drop::LowOrderKey), "no datagram may leave for such a key");
    }
    // Nor is one accepted as a sender's ephemeral key: that handshake would be readable by anyone.
    let (mut a, mut b) = pair();
    let mut initiation = a.initiate(0).unwrap();
    initiation[8..40].fill(0);
    assert_eq!(b.respond(0, ADDRESS_A, &initiation), Err(Drop::LowOrderKey));
    let initiation = a.initiate(6).unwrap();
    let mut response = b.respond(6, ADDRESS_A, &initiation).unwrap();
    response[12..44].fill(0);
    assert_eq!(a.finish(6, ADDRESS_B, &response), Err(Drop::LowOrderKey));
}

#[test]
fn c3_9_a_session_after_long_idleness_is_not_born_old() {
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, 0);
    // Nobody touches either side for an hour: no tick, no packet.
    shake(&mut a, &mut b, 3600);
    for second in [3601, 3700, 3779] {
        assert!(a.peer.can_send(now(second).tick));
        let out = a.seal(&packet(1)).unwrap();
        assert_eq!(b.open(second, &out), Ok(packet(1)));
        let back = b.seal(&packet(2)).unwrap();
        assert_eq!(a.open(second, &back), Ok(packet(2)));
    }
    assert!(!a.peer.can_send(now(3780).tick));
}

#[test]
fn c3_12_an_old_initiation_is_refused_also_after_the_peer_was_made_anew() {
    let (mut a, mut b) = pair();
    let recorded = a.initiate(0).unwrap();
    b.respond(0, ADDRESS_A, &recorded).unwrap();
    assert_eq!(b.respond(1, "203.0.113.66:6", &recorded), Err(Drop::ReplayedInitiation));
    // The peer is removed and comes back: a new engine that has seen nothing, but the row's timestamp is kept.
    let newest = b.peer.newest_timestamp();
    b.peer = Peer::new(*b.peer.key(), newest, Default::default());
    b.peer.set_endpoint(address(ADDRESS_A).address);
    assert_eq!(b.respond(2, "203.0.113.66:6", &recorded), Err(Drop::ReplayedInitiation));
    assert_eq!(b.peer.endpoint, Some(address(ADDRESS_A)), "a replay moves nobody");
    let fresh = a.initiate(6).unwrap();
    assert!(b.respond(6, ADDRESS_A, &fresh).is_ok());
}

#[test]
fn c3_14_roaming_only_on_authenticated_packets() {
    let (mut a, mut b) = pair();
    let stranger = "203.0.113.66:6";
    let initiation = a.initiate(0).unwrap();
    // A response that nobody sealed.
    let mut forged = [0; RESPONSE_LEN];
    forged[0] = 2;
    put_mac1(&mut forged, &a.identity.public());
    assert!(a.finish(0, stranger, &forged).is_err());
    assert_eq!(a.peer.endpoint, Some(address(ADDRESS_B)));
    // A cookie reply, right or wrong, comes from anywhere and moves nothing.
    assert!(a.peer.take_cookie(&[3; COOKIE_REPLY_LEN], now(0).tick).is_err());
    assert_eq!(a.peer.endpoint, Some(address(ADDRESS_B)));
    // The true answer still counts after the forged one, and moves the endpoint to where it came from.
    let response = b.respond(0, ADDRESS_A, &initiation).unwrap();
    a.finish(0, "198.51.100.7:7", &response).unwrap();
    assert_eq!(a.peer.endpoint, Some(address("198.51.100.7:7")));
    // Data with a flipped bit does not open, so nothing may be learnt from where it came.
    let keepalive = a.peer.keepalive(now(0).tick).unwrap();
    assert!(b.open(0, &keepalive).is_ok());
    let mut data = a.seal(&packet(1)).unwrap();
    data[20] ^= 1;
    assert_eq!(b.open(0, &data), Err(Drop::BadTag));
    assert_eq!(b.peer.endpoint, Some(address(ADDRESS_A)));
}

/// Our own end of the path goes the same way: it is learnt from what authenticates, and is no move of the peer.
#[test]
fn c3_14_n18_a_source_is_learnt_with_the_endpoint_and_looked_at_once() {
    let came_to = |source: &str| Endpoint { source: Source::new(source.parse().unwrap(), 2), ..address(ADDRESS_B) };
    let (mut a, mut b) = pair();
    let initiation = a.initiate(0).unwrap();
    let response = b.respond(0, ADDRESS_A, &initiation).unwrap();
    let mut work = a.peer.take_attempt();
    let outcome = work.finish(&response);
    assert_eq!(a.peer.finished(work, outcome, came_to("192.0.2.1"), now(0)), Ok(false), "the peer has not moved");
    assert_eq!(a.peer.destination(1, |_| true), Some(came_to("192.0.2.1")));
    assert_eq!(a.peer.destination(1, |_| unreachable!("looked at already")), Some(came_to("192.0.2.1")));
    // The routes changed: it does not serve now, and does again after the next change.
    assert_eq!(a.peer.destination(2, |_| false), Some(address(ADDRESS_B)));
    assert_eq!(a.peer.destination(2, |_| unreachable!("looked at already")), Some(address(ADDRESS_B)));
    assert_eq!(a.peer.destination(3, |_| true), Some(came_to("192.0.2.1")));
    // The peer addresses another one of ours.
    assert!(!a.peer.received(now(1).tick, true, came_to("192.0.2.9")).0, "the peer has not moved");
    let mut looked = None;
    assert_eq!(a.peer.destination(3, |to| looked.replace(*to).is_none()), Some(came_to("192.0.2.9")));
    assert_eq!(looked, Some(came_to("192.0.2.9")));
    // Configured as it is: nothing changes. Configured anew: a new path, of which nothing was learnt.
    a.peer.set_endpoint(address(ADDRESS_B).address);
    assert_eq!(a.peer.endpoint, Some(came_to("192.0.2.9")));
    a.peer.set_endpoint(address(ADDRESS_A).address);
    assert_eq!(a.peer.endpoint, Some(address(ADDRESS_A)));
}

#[test]
fn c3_15_no_input_panics_and_no_secret_is_shown() {
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, 0);
    let (mut seed, mut out) = (0x9e37_79b9_7f4a_7c15u64, vec![0; 70_000]);
    for len in (0..=2048).chain([65_507, 65_535]) {
        for kind in 1..=4 {
            let mut datagram: Vec<u8> = (0..len)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    seed as u8
                })
                .collect();
            if len >= 4 {
                datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            match Message::parse(&datagram) {
                Ok(Message::Initiation(message)) => assert!(b.respond(1, ADDRESS_A, message).is_err()),
                Ok(Message::Response(message)) => assert!(b.finish(1, ADDRESS_A, message).is_err()),
                Ok(Message::CookieReply(message)) => assert!(b.peer.take_cookie(message, now(1).tick).is_err()),
                Ok(Message::Data(data)) => {
                    assert!(b.peer.open(now(1), data, &mut out).is_err());
                    let live = wgengine_core::wire::wireguard::Data { receiver: 8 << 8 | 1, ..data };
                    assert!(b.peer.open(now(1), live, &mut out).is_err());
                }
                Err(why) => assert_eq!(why, Drop::MalformedMessage),
            }
        }
    }
    // Too little room is an answer, not a panic.
    let sealed = a.seal(&packet(1)).unwrap();
    let Ok(Message::Data(data)) = Message::parse(&sealed) else { panic!("no data") };
    for room in 0..sealed.len() - 16 {
        assert_eq!(b.peer.open(now(1), data, &mut vec![0; room]), Err(Drop::MalformedMessage));
    }
    assert!(a.peer.seal(&packet(1), &mut [0; 63]).is_err());
    assert_eq!(b.open(1, &sealed), Ok(packet(1)), "and the session lives on");

    let (secret, identity) = identity();
    let psk = generate_psk();
    let mut peer = PeerPlan::new(identity.public());
    peer.preshared_key = Some(psk.clone());
    let plan = Plan { private_key: Some(secret.clone()), peers: vec![peer], ..Plan::default() };
    let shown = format!("{identity:?} {secret:?} {psk:?} {plan:?} {plan:#?}");
    for Secret(bytes) in [&secret, &psk] {
        let decimal = format!("{}, {}, {}", bytes[0], bytes[1], bytes[2]);
        let hex: String = bytes[..3].iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!shown.contains(&decimal) && !shown.contains(&hex), "{shown}");
    }
}

/// boringtun issue 495: what its own choice of a session does, and what ours does, with the same messages.
#[test]
fn case_32_sessions_are_never_one_way_deaf() {
    // Twenty rekeys, each with a packet of the old session that arrives late: the old one never comes back into use,
    // and each side opens what the other seals in every order.
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, 0);
    for round in 1..=20u64 {
        let at = round * 120;
        let late_out = a.seal(&packet(1)).unwrap();
        let late_back = b.seal(&packet(2)).unwrap();
        let (initiator, responder) = if round % 2 == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        shake(initiator, responder, at);
        assert_eq!(b.open(at, &late_out), Ok(packet(1)));
        assert_eq!(a.open(at, &late_back), Ok(packet(2)));
        for tag in 0..3 {
            let out = a.seal(&packet(tag)).unwrap();
            assert_eq!(b.open(at + 30, &out), Ok(packet(tag)));
            let back = b.seal(&packet(tag)).unwrap();
            assert_eq!(a.open(at + 119, &back), Ok(packet(tag)));
        }
        assert!(a.peer.can_send(now(at + 179).tick) && b.peer.can_send(now(at + 179).tick));
    }
}

#[test]
fn keys_are_forgotten_after_nine_minutes_while_an_attempt_goes_on() {
    use wgengine_core::tunnel::timers::Due;
    let (mut a, mut b) = pair();
    shake(&mut a, &mut b, 0);
    let late = b.seal(&packet(1)).unwrap();
    let initiation = a.initiate(541).unwrap();
    let mut forgotten = false;
    while let Some(due) = a.peer.poll(now(544).tick) {
        forgotten |= due == Due::Forget;
    }
    assert!(forgotten);
    assert_eq!(a.open(544, &late), Err(Drop::UnknownIndex), "the keys are gone, not only refused by their age");
    let response = b.respond(544, ADDRESS_A, &initiation).unwrap();
    assert!(a.finish(544, ADDRESS_B, &response).is_ok());
}

#[test]
fn case_32_handshakes_that_cross_leave_both_sides_hearing() {
    let (mut a, mut b) = pair();
    b.peer.set_endpoint(address(ADDRESS_A).address);
    let (from_a, from_b) = (a.initiate(0).unwrap(), b.initiate(0).unwrap());
    let to_b = a.respond(0, ADDRESS_B, &from_b).unwrap();
    let to_a = b.respond(0, ADDRESS_A, &from_a).unwrap();
    a.finish(0, ADDRESS_B, &to_a).unwrap();
    b.finish(0, ADDRESS_A, &to_b).unwrap();
    for second in 0..179 {
        let out = a.seal(&packet(1)).unwrap();
        assert_eq!(b.open(second, &out), Ok(packet(1)));
        let back = b.seal(&packet(2)).unwrap();
        assert_eq!(a.open(second, &back), Ok(packet(2)));
    }
}

/// Why the choice of a session is ours: a `Tunn` that has just answered has no session to send with, and asks for
/// another handshake at once. (The deafness itself needs its clock: a `Tunn` that was not ticked for REJECT_AFTER_TIME
/// dates its next session by the last tick and drops it at the first one after; ARCHITECTURE.md has the experiment.)
#[test]
fn case_32_a_bare_tunn_answers_and_then_asks_for_another_handshake() {
    use boringtun::noise::{Tunn, TunnResult};
    use boringtun::x25519::{PublicKey as Point, StaticSecret};
    let keys: [StaticSecret; 2] = [generate_private_key(), generate_private_key()];
    let [pa, pb] = [Point::from(&keys[0]), Point::from(&keys[1])];
    let mut a = Tunn::new(keys[0].clone(), pb, None, None, 1, None);
    let mut b = Tunn::new(keys[1].clone(), pa, None, None, 2, None);
    let (mut one, mut two, mut three) = ([0; 256], [0; 256], [0; 256]);
    let TunnResult::WriteToNetwork(initiation) = a.format_handshake_initiation(&mut one, false) else { panic!() };
    let TunnResult::WriteToNetwork(response) = b.decapsulate(None, initiation, &mut two) else { panic!() };
    assert!(matches!(a.decapsulate(None, response, &mut three), TunnResult::WriteToNetwork(_)));
    let asked = b.encapsulate(&packet(1), &mut one);
    assert!(matches!(asked, TunnResult::WriteToNetwork(message) if message.len() == 148));
}

fn generate_private_key() -> boringtun::x25519::StaticSecret {
    boringtun::x25519::StaticSecret::from(wgengine_noise::generate_private().0)
}

#[test]
fn one_engine_is_one_session_and_costs_what_the_budget_says() {
    assert!(size_of::<Boring>() <= 16, "an engine is a pointer: rows of cold peers stay small");
    assert!(size_of::<Peer<Boring>>() <= 640, "a row is {} bytes", size_of::<Peer<Boring>>());
}
