//! Cookies, given by boringtun's own limiter: an independent judge of what we make of them.
#![allow(clippy::unwrap_used)]

mod common;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::TunnResult;
use boringtun::x25519::PublicKey as Point;
use common::*;
use std::net::IpAddr;
use wgengine_core::observe::drop::Drop;
use wgengine_core::plan::PublicKey;
use wgengine_core::wire::wireguard::COOKIE_REPLY_LEN;

/// Someone under load: every handshake message needs a cookie.
struct UnderLoad(RateLimiter);

impl UnderLoad {
    fn of(key: PublicKey) -> UnderLoad {
        UnderLoad(RateLimiter::new(&Point::from(key.0), 0))
    }

    /// Let in, or the cookie to come back with.
    fn judge(&self, message: &[u8]) -> Option<[u8; COOKIE_REPLY_LEN]> {
        let mut room = [0; COOKIE_REPLY_LEN];
        let from: IpAddr = "192.0.2.1".parse().unwrap();
        match self.0.verify_packet(Some(from), message, &mut room) {
            Ok(_) => None,
            Err(TunnResult::WriteToNetwork(reply)) => Some(reply.try_into().unwrap()),
            Err(_) => panic!("mac1 does not fit"),
        }
    }
}

#[test]
fn a_cookie_opens_the_door_for_every_initiation_of_two_minutes() {
    let (mut a, b) = pair();
    let gate = UnderLoad::of(b.identity.public());
    let reply = gate.judge(&a.initiate(0).unwrap()).expect("nobody comes in without a cookie");
    a.peer.take_cookie(&reply, now(1).tick).unwrap();
    assert!(gate.judge(&a.initiate(6).unwrap()).is_none(), "the next try comes in");
    // The attempt ends, and another one with an engine of its own begins: the cookie is the peer's, not the attempt's.
    a.peer.cancel_handshake();
    assert!(gate.judge(&a.initiate(100).unwrap()).is_none());
    assert!(gate.judge(&a.initiate(121).unwrap()).is_some(), "after 120 seconds it is not sent any more");
}

#[test]
fn a_response_carries_the_cookie_too() {
    let (mut a, mut b) = pair();
    let gate = UnderLoad::of(a.identity.public());
    let response = b.respond(0, ADDRESS_A, &a.initiate(0).unwrap()).unwrap();
    let reply = gate.judge(&response).expect("a responder needs a cookie as well");
    b.peer.take_cookie(&reply, now(0).tick).unwrap();
    let response = b.respond(6, ADDRESS_A, &a.initiate(6).unwrap()).unwrap();
    assert!(gate.judge(&response).is_none());
    assert!(a.finish(6, ADDRESS_B, &response).is_ok());
}

#[test]
fn a_reply_that_is_not_to_the_last_message_or_was_changed_is_refused() {
    let (mut a, b) = pair();
    let gate = UnderLoad::of(b.identity.public());
    let first = gate.judge(&a.initiate(0).unwrap()).unwrap();
    let second = gate.judge(&a.initiate(6).unwrap()).unwrap();
    assert_eq!(a.peer.take_cookie(&first, now(6).tick), Err(Drop::UnknownIndex));
    for byte in 8..COOKIE_REPLY_LEN {
        let mut changed = second;
        changed[byte] ^= 1;
        assert_eq!(a.peer.take_cookie(&changed, now(6).tick), Err(Drop::BadHandshake), "byte {byte}");
    }
    assert!(gate.judge(&a.initiate(12).unwrap()).is_some(), "none of them was taken");
}
