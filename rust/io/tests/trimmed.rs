//! Peers that are trimmed, woken and begun anew: nothing is lost, nothing of them is forgotten, and idle ones cost nothing.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::{Event, Traffic};
use wgengine_core::plan::{PeerPlan, Plan, PublicKey};

const SOON: Duration = Duration::from_secs(5);

fn trim(key: PublicKey, trimmed: bool) -> PeerPlan {
    PeerPlan { trimmed: Some(trimmed), ..PeerPlan::new(key) }
}

fn reset(key: PublicKey) -> PeerPlan {
    PeerPlan { reset_session: true, ..PeerPlan::new(key) }
}

/// A pair with a session that has carried a packet each way.
fn warm() -> (Node, Node) {
    let (a, b) = pair();
    a.write(&udp(A, B, 10, 1));
    assert!(b.read(SOON).is_some());
    b.write(&udp(B, A, 10, 1));
    assert!(a.read(SOON).is_some());
    (a, b)
}

fn woke(node: &Node) -> Vec<(PublicKey, Traffic)> {
    let told = node.events().into_iter().filter_map(|event| match event {
        Event::PeerWoke { peer, by } => Some((peer, by)),
        _ => None,
    });
    told.collect()
}

#[test]
fn case_35_the_first_packet_to_a_trimmed_peer_arrives() {
    let (a, b) = warm();
    let before = a.peer_state(&b.key);
    a.change(PeerPlan { reset_session: true, ..trim(b.key, true) });
    let trimmed = a.peer_state(&b.key);
    assert!(trimmed.trimmed);
    assert_eq!((trimmed.tx_bytes, trimmed.rx_bytes), (before.tx_bytes, before.rx_bytes));
    assert_eq!((trimmed.last_handshake, trimmed.endpoint), (before.last_handshake, before.endpoint));
    assert_eq!(trimmed.allowed_ips, before.allowed_ips);
    assert!(before.last_handshake.is_some());
    for n in 2..6 {
        a.write(&udp(A, B, 10, n));
    }
    for n in 2..6 {
        assert_eq!(b.read(SOON), Some(udp(A, B, 10, n)));
    }
    assert_eq!(woke(&a), [(b.key, Traffic::Sent)]);
    assert!(!a.peer_state(&b.key).trimmed);
}

#[test]
fn case_35_the_first_packet_of_a_trimmed_peer_arrives_wherever_it_is_now() {
    let (a, b) = warm();
    a.change(PeerPlan { reset_session: true, ..trim(b.key, true) });
    b.change(reset(a.key));
    // It roams while nobody hears it.
    b.device.shared().commit(&Plan { listen_port: Some(free_port()), ..Plan::default() }).unwrap();
    let port = b.device.shared().state().listen_port;
    assert_ne!(port, b.port);
    b.write(&udp(B, A, 10, 2));
    assert_eq!(a.read(SOON), Some(udp(B, A, 10, 2)));
    assert_eq!(woke(&a), [(b.key, Traffic::Received)]);
    let state = a.peer_state(&b.key);
    assert!(!state.trimmed);
    assert_eq!(state.endpoint, Some(loopback(port)));
    a.write(&udp(A, B, 10, 3));
    assert_eq!(b.read(SOON), Some(udp(A, B, 10, 3)));
}

fn free_port() -> u16 {
    std::net::UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn case_35_what_comes_on_a_session_that_the_other_side_still_has_arrives() {
    let (a, b) = warm();
    a.change(trim(b.key, true));
    b.write(&udp(B, A, 10, 2));
    assert_eq!(a.read(SOON), Some(udp(B, A, 10, 2)));
    assert_eq!(woke(&a), [(b.key, Traffic::Received)]);
    assert_eq!(a.total("handshakes_initiated"), 1);
    a.change(trim(b.key, true));
    assert!(a.peer_state(&b.key).trimmed, "again");
    a.write(&udp(A, B, 10, 3));
    assert_eq!(b.read(SOON), Some(udp(A, B, 10, 3)));
    assert_eq!(woke(&a), [(b.key, Traffic::Sent)]);
}

#[test]
fn a_trimmed_peer_sends_nothing_by_itself_until_there_is_traffic() {
    let (a, middle) = (node(), Middle::new());
    let peer = node();
    let keepalive = PeerPlan {
        endpoint: Some(middle.address),
        persistent_keepalive: Some(1),
        allowed_ips: vec![wgengine_core::plan::AllowedChange::Add(prefix("10.9.0.2/32"))],
        ..trim(peer.key, true)
    };
    a.device.shared().commit(&Plan { peers: vec![keepalive], ..Plan::default() }).unwrap();
    // Settings do not wake it, a link that comes up does not, and neither does a wish for new keys.
    a.change(PeerPlan { persistent_keepalive: Some(2), ..PeerPlan::new(peer.key) });
    a.device.shared().link_up();
    assert!(!a.device.shared().rekey(&peer.key));
    a.change(reset(peer.key));
    assert!(middle.silent());
    assert_eq!(a.peer_state(&peer.key).persistent_keepalive, 2);
    a.change(trim(peer.key, false));
    assert_eq!(middle.receive().len(), 148, "it shows itself at once");
    assert_eq!(woke(&a), [], "whoever asked for it knows");
}

#[test]
fn an_attempt_ends_when_its_peer_is_trimmed_and_packets_that_wait_keep_it_awake() {
    let (a, middle) = (node(), Middle::new());
    let peer = node();
    a.peer(peer.key, Some(middle.address), &["10.9.0.2/32"]);
    a.write(&udp(A, B, 10, 1));
    assert_eq!(middle.receive().len(), 148);
    a.change(trim(peer.key, true));
    assert_eq!(woke(&a), [(peer.key, Traffic::Sent)], "whoever wants it trimmed has not heard yet");
    assert!(!a.peer_state(&peer.key).trimmed);
    // Before a retry would be due.
    middle.socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    a.change(reset(peer.key));
    assert_eq!(middle.receive().len(), 148, "a packet waits, so a reset begins a new attempt");
    // Without a packet: the attempt of a keepalive.
    let other = node();
    let second = Middle::new();
    a.peer(other.key, Some(second.address), &["10.9.0.3/32"]);
    a.change(PeerPlan { persistent_keepalive: Some(1), ..PeerPlan::new(other.key) });
    assert_eq!(second.receive().len(), 148);
    a.change(trim(other.key, true));
    assert!(a.peer_state(&other.key).trimmed);
    a.write(&udp(A, [10, 9, 0, 3], 10, 1));
    assert_eq!(second.receive().len(), 148, "a new attempt at once");
}

#[test]
fn only_a_valid_initiation_wakes() {
    let (a, b) = (node(), node());
    let middle = Middle::new();
    a.peer(b.key, None, &["10.9.0.2/32"]);
    b.peer(a.key, Some(middle.address), &["10.9.0.1/32"]);
    b.write(&udp(B, A, 10, 1));
    let initiation = middle.receive();
    middle.send(a.port, &initiation);
    middle.send(b.port, &middle.receive());
    middle.send(a.port, &middle.receive());
    assert!(a.read(SOON).is_some());
    a.change(PeerPlan { reset_session: true, ..trim(b.key, true) });
    std::thread::sleep(Duration::from_millis(25));
    middle.send(a.port, &initiation);
    eventually("an old one is refused", || a.dropped(Drop::ReplayedInitiation) == 1);
    let mut garbled = initiation.clone();
    garbled[50] ^= 1;
    middle.send(a.port, &garbled);
    eventually("a garbled one, too", || a.dropped(Drop::BadMac) == 1);
    assert!(a.peer_state(&b.key).trimmed);
    assert_eq!(woke(&a), []);
}

#[test]
fn a_reset_makes_the_next_packet_shake_hands_and_loses_none() {
    let (a, b) = warm();
    let others = a.total("handshakes_completed");
    a.change(reset(b.key));
    assert_eq!(a.total("handshakes_completed"), others, "nothing by itself");
    for n in 2..40 {
        a.write(&udp(A, B, 10, n));
        if n % 10 == 0 {
            a.change(reset(b.key));
        }
    }
    // What went out on a session that ended here still opened there; what waited went out after the next handshake.
    for n in 2..40 {
        assert_eq!(b.read(SOON), Some(udp(A, B, 10, n)));
    }
    assert!(a.total("handshakes_initiated") >= 2);
}

#[test]
fn a_reset_of_a_cold_peer_does_nothing() {
    let (a, middle) = (node(), Middle::new());
    let peer = node();
    a.peer(peer.key, Some(middle.address), &["10.9.0.2/32"]);
    a.change(reset(peer.key));
    assert!(middle.silent());
    let nobody = node().key;
    a.change(reset(nobody));
    assert!(a.device.shared().peer_state(&nobody).is_none());
}

#[test]
fn activity_is_told_of_peers_that_had_some_and_are_not_trimmed() {
    let (a, b) = pair();
    for n in 0..100 {
        a.peer(node_key(), None, &[&format!("10.10.0.{n}/32")]);
    }
    assert_eq!(a.device.shared().activity(), []);
    a.write(&udp(A, B, 10, 1));
    assert!(b.read(SOON).is_some());
    let told = a.device.shared().activity();
    // The packet waited for the response, which counts as received.
    assert!(matches!(told[..], [(key, Some(sent), Some(received))] if key == b.key && sent <= received));
    // The initiation and the packet were heard; nothing was sent but answers.
    assert!(matches!(b.device.shared().activity()[..], [(key, None, Some(_))] if key == a.key));
    a.change(trim(b.key, true));
    assert_eq!(a.device.shared().activity(), []);
    a.write(&udp(A, B, 10, 2));
    assert!(b.read(SOON).is_some());
    assert_eq!(a.device.shared().activity().len(), 1);
    a.remove(b.key);
    assert_eq!(a.device.shared().activity(), []);
}

fn node_key() -> PublicKey {
    wgengine_noise::public_of(&wgengine_noise::generate_private())
}

#[test]
fn a_replacement_that_does_not_speak_of_it_leaves_nobody_trimmed() {
    let (a, b) = pair();
    a.change(trim(b.key, true));
    let replace = |peer: PeerPlan| {
        let plan = Plan { replace_peers: true, peers: vec![peer], ..Plan::default() };
        a.device.shared().commit(&plan).unwrap();
        a.peer_state(&b.key).trimmed
    };
    assert!(replace(trim(b.key, true)));
    assert!(!replace(PeerPlan::new(b.key)));
}

#[test]
fn to_look_changes_nothing() {
    let (a, b) = pair();
    a.change(trim(b.key, true));
    for _ in 0..10_000 {
        assert_eq!(a.device.shared().table.owner(B.into()).map(|cell| cell.key), Some(b.key));
        assert!(a.device.shared().peer_state(&b.key).is_some_and(|state| state.trimmed));
    }
    assert!(a.device.shared().table.owner([10, 77, 0, 1].into()).is_none());
    assert_eq!(woke(&a), []);
    assert_eq!(a.total("handshakes_initiated"), 0);
}
