//! What a stranger changes on the way, and what an authenticated peer puts into its tunnel: counted, and nothing else.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::state::PeerState;
use wgengine_core::plan::{PeerPlan, Plan};
use wgengine_core::tunnel::noise::Noise;
use wgengine_core::wire::wireguard::{DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};
use wgengine_noise::{generate_private, public_of, Boring, Identity};

const SOON: Duration = Duration::from_secs(5);
const MAC: usize = 16;
/// So many are sent before the device is given time to judge them.
const BATCH: usize = 64;

/// Everything that is known of a device's only peer.
fn shown(node: &Node) -> impl PartialEq + std::fmt::Debug {
    let PeerState { endpoint, last_handshake, tx_bytes, rx_bytes, .. } = node.device.shared().state().peers[0].clone();
    (endpoint, last_handshake, tx_bytes, rx_bytes)
}

fn all_drops(node: &Node) -> u64 {
    node.device.drops().iter().map(|(_, count)| count).sum()
}

/// Sends `message` with every bit of its first `bytes` turned over, one at a time: all are dropped, nothing changes.
fn every_bit(node: &Node, stranger: &Middle, message: &[u8], bytes: usize) {
    let (before, dropped) = (shown(node), all_drops(node));
    for bit in 0..bytes * 8 {
        let mut changed = message.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        stranger.send(node.port, &changed);
        if bit % BATCH == 0 {
            eventually("the device keeps up", || all_drops(node) > dropped + bit as u64);
        }
    }
    eventually("all were dropped", || all_drops(node) == dropped + bytes as u64 * 8);
    assert_eq!(shown(node), before, "what is refused changes nothing");
    assert!(stranger.silent(), "what is refused is not answered");
}

#[test]
fn i5_every_bit_of_every_message_through_real_sockets() {
    let (a, b) = (node(), node());
    let (middle, stranger) = (Middle::new(), Middle::new());
    a.peer(b.key, Some(middle.address), &["10.9.0.2/32"]);
    b.peer(a.key, None, &["10.9.0.1/32"]);
    a.write(&udp(A, B, 36, 1));
    let initiation = middle.receive();
    assert_eq!(initiation.len(), INITIATION_LEN);
    // mac2 is looked at under load only: whoever turns one of its bits sends the true initiation.
    every_bit(&b, &stranger, &initiation, INITIATION_LEN - MAC);
    middle.send(b.port, &initiation);
    let response = middle.receive();
    assert_eq!(response.len(), RESPONSE_LEN);
    every_bit(&a, &stranger, &response, RESPONSE_LEN - MAC);
    middle.send(a.port, &response);
    let data = middle.receive();
    every_bit(&b, &stranger, &data, data.len());
    middle.send(b.port, &data);
    assert_eq!(b.read(SOON), Some(udp(A, B, 36, 1)), "the true ones still do their work");
    assert_eq!(b.device.shared().state().peers[0].endpoint, Some(middle.address));
}

#[test]
fn i4_random_bytes_under_every_type_and_wrong_reserved_bytes() {
    let (a, b) = pair();
    let stranger = Middle::new();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut sent = 0;
    let mut send = |datagram: &[u8]| {
        stranger.send(b.port, datagram);
        sent += 1;
        if sent % BATCH as u64 == 0 {
            eventually("b keeps up", || all_drops(&b) >= sent);
        }
    };
    for (kind, length) in [(1u8, 148usize), (2, 92), (3, 64), (4, 32), (4, 160), (4, 1452)] {
        for round in 0..200 {
            let mut datagram: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
            if round % 2 == 1 {
                datagram[1 + round / 2 % 3] = (random() as u8).max(1);
            }
            send(&datagram);
        }
    }
    for _ in 0..1000 {
        let length = random() as usize % 2049;
        send(&(0..length).map(|_| random() as u8).collect::<Vec<_>>());
    }
    eventually("all were dropped", || all_drops(&b) == sent);
    assert!(stranger.silent());
    a.write(&udp(A, B, 10, 9));
    assert_eq!(b.read(SOON).unwrap()[28], 9, "and the tunnel works");
}

/// A peer that has a session with `node` and seals whatever it likes.
struct Insider {
    wire: Middle,
    engine: Boring,
}

impl Insider {
    fn new(node: &Node) -> Insider {
        let private = generate_private();
        node.peer(public_of(&private), None, &["10.9.0.1/32", "fd00::1/128"]);
        let identity = Identity::new(&private);
        let (wire, mut engine) = (Middle::new(), Boring::new(&identity, &node.key, None, 7).ok().unwrap());
        let mut initiation = [0; INITIATION_LEN];
        engine.initiate(&mut initiation).unwrap();
        wire.send(node.port, &initiation);
        let response = wire.receive().try_into().unwrap();
        engine.finish(&response).unwrap();
        Insider { wire, engine }
    }

    fn send(&mut self, node: &Node, plain: &[u8]) {
        let mut sealed = vec![0; plain.len() + DATA_OVERHEAD];
        let length = self.engine.seal(plain, &mut sealed).unwrap();
        self.wire.send(node.port, &sealed[..length]);
    }
}

#[test]
fn i7_what_is_no_packet_inside_the_tunnel_is_counted_and_dropped() {
    let b = node();
    let mut insider = Insider::new(&b);
    let good = udp(A, B, 100, 3);
    let v6 = {
        let mut packet = vec![0; 60];
        packet[0] = 0x60;
        packet[5] = 20;
        packet[6..8].copy_from_slice(&[59, 64]);
        packet[8..10].copy_from_slice(&[0xfd, 0]);
        packet[23] = 1;
        packet
    };
    let changed = |packet: &[u8], changes: &[(usize, u8)]| {
        let mut packet = packet.to_vec();
        changes.iter().for_each(|(at, byte)| packet[*at] = *byte);
        packet
    };
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("version 0", changed(&good, &[(0, 0x05)])),
        ("version 5", changed(&good, &[(0, 0x55)])),
        ("version 15", changed(&good, &[(0, 0xff)])),
        ("longer than there is", changed(&good, &[(2, 1), (3, 0)])),
        ("one byte longer than there is", changed(&good, &[(3, 129)])),
        ("shorter than its header", changed(&good, &[(2, 0), (3, 19)])),
        ("of length zero", changed(&good, &[(2, 0), (3, 0)])),
        ("of length 0xffff", changed(&good, &[(2, 0xff), (3, 0xff)])),
        ("a header of four words", changed(&good, &[(0, 0x44)])),
        ("a header longer than the packet", changed(&good, &[(0, 0x4f), (3, 59)])),
        ("half an IPv4 header", good[..10].to_vec()),
        ("one byte", vec![0x45]),
        ("IPv6, longer than there is", changed(&v6, &[(5, 21)])),
        ("IPv6, of length 0xffff", changed(&v6, &[(4, 0xff), (5, 0xff)])),
        ("half an IPv6 header", v6[..39].to_vec()),
        ("zeros", vec![0; 64]),
        ("ones", vec![0xff; 1420]),
    ];
    for (number, (what, packet)) in (1..).zip(&bad) {
        insider.send(&b, packet);
        eventually(what, || b.dropped(Drop::MalformedInner) == number);
    }
    assert_eq!(b.read(Duration::from_millis(100)), None, "nothing of it came out");
    assert_eq!(all_drops(&b), bad.len() as u64, "each was counted once, for one reason");
    insider.send(&b, &v6);
    assert_eq!(b.read(SOON), Some(v6));
    insider.send(&b, &good);
    assert_eq!(b.read(SOON), Some(good), "the session lives on");
}

#[test]
fn i6_a_peer_named_twice_is_one_and_a_pre_shared_key_of_zeros_is_none() {
    let (a, b) = pair();
    let twice = |key| {
        let one = PeerPlan { persistent_keepalive: Some(7), preshared_key: Some(secret(9)), ..PeerPlan::new(key) };
        vec![one, PeerPlan { preshared_key: Some(secret(0)), ..PeerPlan::new(key) }]
    };
    b.device.shared().commit(&Plan { peers: twice(a.key), ..Plan::default() }).unwrap();
    let peers = b.device.shared().state().peers;
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].persistent_keepalive, 7, "what the second does not name, the first has set");
    assert!(peers[0].preshared_key.is_none());
    assert_eq!(peers[0].allowed_ips, vec![prefix("10.9.0.1/32")]);
    a.write(&udp(A, B, 10, 1));
    assert!(b.read(SOON).is_some(), "with zeros as with none");
}
