//! Whole devices with in-memory TUNs on loopback: real sockets, real handshakes, the packet path as it is.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use std::net::UdpSocket;
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::Event;
use wgengine_core::plan::{AllowedChange, PeerPlan, Plan};
use wgengine_io::{Device, Options};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn packets_that_wait_for_the_handshake_arrive_in_order() {
    let (a, b) = pair();
    for n in 0..20 {
        a.write(&udp(A, B, 100, n));
    }
    for n in 0..20 {
        let packet = b.read(SOON).unwrap();
        assert_eq!(packet[28], n);
    }
    b.write(&udp(B, A, 10, 7));
    assert_eq!(a.read(SOON), Some(udp(B, A, 10, 7)));
    let up =
        |node: &Node| node.device.drain(100).events.iter().any(|(_, event)| matches!(event, Event::SessionUp { .. }));
    assert!(up(&a) && up(&b));
}

#[test]
fn c3_3_padding() {
    let (a, b) = (node(), node());
    let middle = Middle::new();
    a.peer(b.key, Some(middle.address), &["10.9.0.2/32"]);
    b.peer(a.key, None, &["10.9.0.1/32"]);
    a.write(&udp(A, B, 56, 1));
    middle.send(b.port, &middle.receive());
    middle.send(a.port, &middle.receive());
    let lengths = [
        (84, 128),
        (96, 128),
        (97, 144),
        (112, 144),
        (113, 160),
        (1392, 1424),
        (1407, 1440),
        (1409, 1452),
        (1420, 1452),
    ];
    for (inner, _) in lengths {
        a.write(&udp(A, B, inner - 28, 1));
    }
    // The first packet is the one that waited for the handshake.
    for (inner, outer) in std::iter::once((84, 128)).chain(lengths) {
        let datagram = middle.receive();
        assert_eq!(datagram.len(), outer, "inner packet of {inner} bytes");
        middle.send(b.port, &datagram);
        assert_eq!(b.read(SOON).map(|packet| packet.len()), Some(inner), "exactly the packet comes out");
    }
}

#[test]
fn c3_12_newest_timestamp_outlives_the_peer() {
    let (a, b) = (node(), node());
    let middle = Middle::new();
    a.peer(b.key, Some(middle.address), &["10.9.0.2/32"]);
    b.peer(a.key, None, &["10.9.0.1/32"]);
    a.write(&udp(A, B, 10, 1));
    let initiation = middle.receive();
    middle.send(b.port, &initiation);
    assert_eq!(middle.receive().len(), 92);
    b.remove(a.key);
    b.peer(a.key, None, &["10.9.0.1/32"]);
    middle.send(b.port, &initiation);
    eventually("the old initiation is refused", || b.dropped(Drop::ReplayedInitiation) == 1);
    assert!(middle.silent());
    assert_eq!(b.device.shared().state().peers[0].endpoint, None);
}

#[test]
fn c3_13_device_wide_source_check() {
    let (a, b) = pair();
    let third = node();
    b.peer(a.key, None, &["10.9.0.0/16"]);
    b.peer(third.key, None, &["10.9.5.5/32"]);
    a.write(&udp([10, 9, 5, 6], B, 10, 1));
    assert_eq!(b.read(SOON).unwrap()[28], 1);
    a.write(&udp([10, 9, 5, 5], B, 10, 2));
    eventually("another peer's address is refused", || b.dropped(Drop::BadSource) == 1);
    a.write(&udp([192, 0, 2, 9], B, 10, 3));
    eventually("nobody's address is refused", || b.dropped(Drop::BadSource) == 2);
    b.remove(third.key);
    a.write(&udp([10, 9, 5, 5], B, 10, 4));
    assert_eq!(b.read(SOON).unwrap()[28], 4, "the wide prefix holds again at once");
}

#[test]
fn c3_14_a_stranger_who_repeats_what_he_saw_moves_nobody() {
    let (a, b) = (node(), node());
    let (middle, stranger) = (Middle::new(), Middle::new());
    a.peer(b.key, Some(middle.address), &["10.9.0.2/32"]);
    b.peer(a.key, None, &["10.9.0.1/32"]);
    a.write(&udp(A, B, 10, 1));
    let initiation = middle.receive();
    middle.send(b.port, &initiation);
    middle.send(a.port, &middle.receive());
    let data = middle.receive();
    middle.send(b.port, &data);
    assert!(b.read(SOON).is_some());
    stranger.send(b.port, &data);
    // Within a fiftieth of a second a second initiation is refused unread.
    std::thread::sleep(Duration::from_millis(25));
    stranger.send(b.port, &initiation);
    let mut garbled = data.clone();
    garbled[30] ^= 1;
    garbled[8] ^= 0x40;
    stranger.send(b.port, &garbled);
    eventually("all three are refused", || {
        b.dropped(Drop::Replayed) == 1 && b.dropped(Drop::ReplayedInitiation) == 1 && b.dropped(Drop::BadTag) == 1
    });
    assert!(stranger.silent());
    assert_eq!(b.device.shared().state().peers[0].endpoint, Some(middle.address));
    // The same data, authentic and new, from elsewhere: the peer has moved.
    a.write(&udp(A, B, 10, 2));
    stranger.send(b.port, &middle.receive());
    assert!(b.read(SOON).is_some());
    assert_eq!(b.device.shared().state().peers[0].endpoint, Some(stranger.address));
}

#[test]
fn strangers_get_no_answer_to_any_length_of_any_type() {
    let (a, b) = pair();
    let stranger = Middle::new();
    let mut expected = 0;
    for kind in 0..=5u8 {
        for len in 0..=2048usize {
            let mut datagram: Vec<u8> = (0..len).map(|n| (n * 31 + len) as u8).collect();
            if len >= 4 {
                datagram[..4].copy_from_slice(&[kind, 0, 0, 0]);
            }
            stranger.send(b.port, &datagram);
            expected += 1;
            if expected % 64 == 0 {
                eventually("b keeps up", || b.total("udp_rx_datagrams") + 64 >= expected);
            }
        }
    }
    for len in [8_000, 40_000, 65_507] {
        stranger.send(b.port, &vec![4; len]);
    }
    eventually("all were judged", || b.device.drops().iter().map(|(_, n)| n).sum::<u64>() >= expected);
    assert!(stranger.silent());
    a.write(&udp(A, B, 10, 9));
    assert_eq!(b.read(SOON).unwrap()[28], 9, "and the tunnel works");
}

#[test]
fn a_port_in_use_is_an_error_and_changes_nothing() {
    let (a, b) = pair();
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let before = a.device.shared().state();
    for port in [port, b.port] {
        let error = a.device.shared().commit(&Plan { listen_port: Some(port), ..Plan::default() }).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
    }
    let after = a.device.shared().state();
    assert_eq!(before.listen_port, after.listen_port);
    a.write(&udp(A, B, 10, 1));
    assert!(b.read(SOON).is_some());
}

#[test]
fn a_port_shared_with_so_reuseport_is_in_use_all_the_same() {
    let shared = UdpSocket::bind("0.0.0.0:0").unwrap();
    let one: libc::c_int = 1;
    // SAFETY: `one` outlives the call and its length is given.
    let set = unsafe {
        use std::os::fd::AsRawFd;
        libc::setsockopt(shared.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, (&raw const one).cast(), 4)
    };
    assert_eq!(set, 0);
    let port = shared.local_addr().unwrap().port();
    for shards in [1, 3] {
        assert!(wgengine_io::udp::Sockets::bind(port, 0, shards).is_err());
    }
    let sockets = wgengine_io::udp::Sockets::bind(0, 0, 3).unwrap();
    assert_eq!(sockets.v4.len(), 3);
    assert!(sockets.all().all(|socket| socket.port().unwrap() == sockets.port), "all shards on one port");
    assert!(wgengine_io::udp::Sockets::bind(sockets.port, 0, 1).is_err());
}

#[test]
fn a_port_that_was_left_can_be_taken_again_at_once() {
    let (a, b) = pair();
    let listen = |port| {
        a.device.shared().commit(&Plan { listen_port: Some(port), ..Plan::default() }).unwrap();
        a.device.shared().state().listen_port
    };
    let first = listen(0);
    for _ in 0..100 {
        let other = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        assert_eq!(listen(other), other);
        assert_eq!(listen(first), first);
    }
    a.write(&udp(A, B, 10, 1));
    assert!(b.read(SOON).is_some());
}

#[test]
fn case_22_the_same_port_is_not_bound_again_and_one_prefix_goes_alone() {
    let (a, b) = pair();
    a.write(&udp(A, B, 10, 1));
    assert!(b.read(SOON).is_some());
    let (before, _) = a.device.shared().sockets();
    a.device.shared().commit(&Plan { listen_port: Some(a.port), ..Plan::default() }).unwrap();
    assert_eq!(a.device.shared().sockets().0, before);
    let change = |changes: Vec<AllowedChange>| {
        let peer = PeerPlan { update_only: true, allowed_ips: changes, ..PeerPlan::new(b.key) };
        a.device.shared().commit(&Plan { peers: vec![peer], ..Plan::default() }).unwrap();
        a.device.shared().state().peers[0].allowed_ips.clone()
    };
    assert_eq!(change(vec![AllowedChange::Add(prefix("10.20.0.0/16"))]).len(), 2);
    assert_eq!(change(vec![AllowedChange::Remove(prefix("10.20.0.0/16"))]), vec![prefix("10.9.0.2/32")]);
    assert_eq!(change(vec![AllowedChange::Remove(prefix("10.77.0.0/16"))]), vec![prefix("10.9.0.2/32")]);
    a.write(&udp(A, B, 10, 2));
    assert_eq!(b.read(SOON).unwrap()[28], 2, "the session lives on");
}

#[test]
fn a_new_private_key_ends_all_sessions_and_shakes_hands_anew() {
    let (a, b) = pair();
    a.write(&udp(A, B, 10, 1));
    assert!(b.read(SOON).is_some());
    let private = wgengine_noise::generate_private();
    let key = wgengine_noise::public_of(&private);
    b.remove(a.key);
    b.peer(key, None, &["10.9.0.1/32"]);
    a.device.shared().commit(&Plan { private_key: Some(private), ..Plan::default() }).unwrap();
    a.write(&udp(A, B, 10, 2));
    assert_eq!(b.read(SOON).unwrap()[28], 2);
}

#[test]
fn our_own_key_is_no_peer() {
    let a = node();
    a.peer(a.key, None, &["10.9.0.9/32"]);
    assert!(a.device.shared().state().peers.is_empty());
}

#[test]
fn packets_without_a_way_are_counted_by_their_reason() {
    let a = node();
    a.write(&udp(A, [10, 77, 0, 1], 10, 1));
    eventually("no peer", || a.dropped(Drop::NoPeer) == 1);
    a.peer(node().key, None, &["10.9.0.2/32"]);
    a.write(&udp(A, B, 10, 1));
    eventually("no endpoint", || a.dropped(Drop::NoEndpoint) == 1);
    a.write(&[0x65; 3]);
    eventually("malformed", || a.dropped(Drop::MalformedPacket) == 1);
    let keyless = Device::start(options()).unwrap();
    let mut peer = PeerPlan::new(a.key);
    peer.endpoint = Some(loopback(9));
    peer.allowed_ips = vec![AllowedChange::Add(prefix("10.9.0.2/32"))];
    keyless.shared().commit(&Plan { peers: vec![peer], ..Plan::default() }).unwrap();
    let keyless = Node { device: keyless, key: a.key, port: 0 };
    keyless.write(&udp(A, B, 10, 1));
    eventually("no private key", || keyless.dropped(Drop::NoPrivateKey) >= 1);
}

#[test]
fn a_device_ends_whole_and_may_be_closed_twice() {
    let (a, b) = pair();
    a.write(&udp(A, B, 10, 1));
    assert!(b.read(SOON).is_some());
    a.device.close();
    a.device.close();
    assert!(a.device.is_closed());
    assert!(UdpSocket::bind(("0.0.0.0", a.port)).is_ok(), "the port is free again");
    assert!(a.device.shared().commit(&Plan::default()).is_err());
    assert!(a.device.shared().state().private_key.is_none(), "no key is kept");
}

#[test]
fn offloads_may_be_switched_while_packets_flow() {
    let (a, b) = pair();
    for (round, on) in [true, false, true].into_iter().enumerate() {
        for node in [&a, &b] {
            node.device.shared().set_offloads(Some(on), Some(on), Some(on)).unwrap();
        }
        for n in 0..50u8 {
            a.write(&udp(A, B, 1000, n));
        }
        for n in 0..50u8 {
            let packet = read_one(&b);
            assert_eq!(packet[28], n, "round {round}");
        }
    }
}

/// One inner packet, also when several came joined as one super-packet.
fn read_one(node: &Node) -> Vec<u8> {
    thread_local! { static LEFT: std::cell::RefCell<std::collections::VecDeque<Vec<u8>>> = Default::default(); }
    LEFT.with_borrow_mut(|left| {
        if left.is_empty() {
            let joined = node.read(SOON).unwrap();
            let (header, payloads) = joined.split_at(28);
            left.extend(payloads.chunks(1000).map(|payload| [header, payload].concat()));
        }
        left.pop_front().unwrap()
    })
}

#[test]
fn a_mtu_of_its_own_is_kept() {
    let device = Device::start(Options { mtu: 1300, ..options() }).unwrap();
    assert_eq!(device.mtu(), 1300);
}
