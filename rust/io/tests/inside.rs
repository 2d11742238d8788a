//! What engines say to each other inside the tunnel: injection, pings, TSMP, and that none of it reaches anybody else.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::{Event, PingKind};
use wgengine_core::observe::pings::MAX_PINGS;
use wgengine_core::packet::build;
use wgengine_core::packet::icmp::{self, Echo, Half};
use wgengine_core::packet::parse::Parsed;
use wgengine_core::plan::PublicKey;
use wgengine_core::wire::tsmp::{Reason, Reject, Tsmp};
use wgengine_io::injection::MAX_PACKETS;
use wgengine_io::pings::PingError;

const SOON: Duration = Duration::from_secs(5);
const A6: &str = "fd00:9::1";
const B6: &str = "fd00:9::2";

/// Two devices with addresses of both families.
fn tailnet() -> (Node, Node) {
    let (a, b) = (node(), node());
    a.peer(b.key, Some(loopback(b.port)), &["10.9.0.2/32", "fd00:9::2/128"]);
    b.peer(a.key, None, &["10.9.0.1/32", "fd00:9::1/128"]);
    own(&a, &["10.9.0.1", A6]);
    own(&b, &["10.9.0.2", B6]);
    (a, b)
}

fn own(node: &Node, addresses: &[&str]) {
    node.device.shared().hooks.set_own_addresses(addresses.iter().map(|text| address(text)));
}

fn families() -> [(IpAddr, IpAddr); 2] {
    [(IpAddr::from(A), IpAddr::from(B)), (address(A6), address(B6))]
}

fn ping(node: &Node, kind: PingKind, way: (IpAddr, IpAddr), timeout: Duration) -> u64 {
    node.device.shared().ping(kind, way.0, way.1, timeout).unwrap()
}

fn pong(node: &Node) -> (u64, PublicKey, PingKind, Duration) {
    node.event("a pong", |event| match event {
        Event::Pong { token, peer, kind, latency, .. } => Some((*token, *peer, *kind, *latency)),
        _ => None,
    })
}

/// Whatever came before it would have come out first.
fn nothing_else_comes_out(from: &Node, to: &Node, source: [u8; 4], destination: [u8; 4]) {
    let last = udp(source, destination, 10, 0xee);
    from.write(&last);
    assert_eq!(to.read(SOON), Some(last));
}

#[test]
fn a_tsmp_ping_is_answered_by_the_engine_and_reaches_nobody_else() {
    let (a, b) = tailnet();
    for way in families() {
        let token = ping(&a, PingKind::Tsmp, way, SOON);
        let (told, peer, kind, latency) = pong(&a);
        assert_eq!((told, peer, kind), (token, b.key, PingKind::Tsmp));
        assert!(latency > Duration::ZERO && latency < SOON);
    }
    nothing_else_comes_out(&a, &b, A, B);
    nothing_else_comes_out(&b, &a, B, A);
    assert_eq!([a.total("tsmp_received"), b.total("tsmp_received")], [2, 2]);
    assert_eq!([a.total("injected_packets"), b.total("injected_packets")], [2, 2]);
    assert_eq!([a.total("tun_rx_packets"), b.total("tun_rx_packets")], [1, 1], "what was injected is no host's packet");
}

#[test]
fn an_echo_is_answered_by_the_other_host_and_its_reply_is_swallowed_here() {
    let (a, b) = tailnet();
    for way in families() {
        let token = ping(&a, PingKind::Icmp, way, SOON);
        let request = b.read(SOON).unwrap();
        let reply = icmp::answer(&Parsed::of(&request).unwrap(), &request).unwrap();
        b.write(&reply);
        let (told, peer, kind, _) = pong(&a);
        assert_eq!((told, peer, kind), (token, b.key, PingKind::Icmp));
        // The same once more answers nothing of ours: it is the host's.
        b.write(&reply);
        assert_eq!(a.read(SOON), Some(reply));
    }
}

#[test]
fn row_17_another_peers_echo_reply_is_dropped_and_the_hosts_own_pass() {
    let (a, b) = tailnet();
    let c = node();
    a.peer(c.key, Some(loopback(c.port)), &["10.9.0.3/32"]);
    c.peer(a.key, Some(loopback(a.port)), &["10.9.0.1/32"]);
    let token = ping(&a, PingKind::Icmp, families()[0], SOON);
    let request = b.read(SOON).unwrap();
    let asked = Echo::of(&Parsed::of(&request).unwrap(), &request).unwrap();
    let reply = Echo { half: Half::Reply, ..asked };
    c.write(&icmp::echo(address("10.9.0.3"), A.into(), 0, &reply).unwrap());
    eventually("the forged reply is dropped", || a.dropped(Drop::ForgedEchoReply) == 1);
    let hosts_own = icmp::echo(address("10.9.0.3"), A.into(), 0, &Echo { id: [0; 4], ..reply }).unwrap();
    c.write(&hosts_own);
    assert_eq!(a.read(SOON), Some(hosts_own), "and nothing before it");
    b.write(&icmp::echo(B.into(), A.into(), 0, &reply).unwrap());
    assert_eq!(pong(&a).0, token, "the true answer counts all the same");
}

#[test]
fn row_17_tsmp_of_the_host_and_tsmp_that_is_not_for_us_ends() {
    let (a, b) = tailnet();
    let ping = Tsmp::Ping([1; 8]);
    a.write(&ping.packet(A.into(), B.into()).unwrap());
    a.write(&ping.packet(address(A6), address(B6)).unwrap());
    eventually("the host may not", || a.dropped(Drop::HostTsmp) == 2);
    nothing_else_comes_out(&a, &b, A, B);
    b.peer(a.key, None, &["10.9.0.1/32", "fd00:9::1/128", "10.9.9.0/24"]);
    a.peer(b.key, None, &["10.9.0.2/32", "fd00:9::2/128", "10.9.8.0/24"]);
    for message in [ping, Tsmp::DiscoKey([7; 32])] {
        a.device.shared().inject(message.packet(A.into(), [10, 9, 8, 1].into()).unwrap()).unwrap();
    }
    eventually("not for b", || b.dropped(Drop::ForeignTsmp) == 2);
    let pong = Tsmp::Pong { id: [1; 8], peer_api_port: 0 };
    a.device.shared().inject(pong.packet(A.into(), B.into()).unwrap()).unwrap();
    eventually("nobody asked", || b.dropped(Drop::UnsolicitedPong) == 1);
    for body in [&b"p1234567"[..], b"", b"x12345678"] {
        a.device.shared().inject(build::ip(A.into(), B.into(), 99, 0, body).unwrap()).unwrap();
    }
    a.device.shared().inject(Tsmp::DiscoKey([0; 32]).packet(A.into(), B.into()).unwrap()).unwrap();
    eventually("none of TSMP's", || b.dropped(Drop::MalformedTsmp) == 4);
    nothing_else_comes_out(&a, &b, A, B);
    assert!(!b.events().iter().any(|event| matches!(event, Event::DiscoKeyAdvertised { .. })));
    assert_eq!(b.total("injected_packets"), 0, "nothing of it is answered");
}

#[test]
fn row_17_tsmp_reaches_no_host_in_pieces_or_behind_other_headers() {
    let (a, b) = tailnet();
    let four = Tsmp::Ping([1; 8]).packet(A.into(), B.into()).unwrap();
    let first = [&four[..6], &[0x20, 0], &four[8..]].concat();
    let later = [&four[..6], &[0, 2], &four[8..]].concat();
    let six = |headers: &[u8], next: u8| {
        let body = [headers, b"p12345678"].concat();
        build::ip(address(A6), address(B6), next, 0, &body).unwrap()
    };
    let fragment = six(&[99, 0, 0, 1, 0, 0, 0, 7], 44);
    let second = six(&[99, 0, 0, 8, 0, 0, 0, 7], 44);
    for piece in [first, later, fragment, second] {
        a.device.shared().inject(piece).unwrap();
    }
    eventually("pieces are no messages", || b.dropped(Drop::MalformedTsmp) == 4);
    // Behind a hop-by-hop header and an authentication header it is one, and is answered.
    a.device.shared().inject(six(&[51, 0, 1, 4, 0, 0, 0, 0, 99, 1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1], 0)).unwrap();
    eventually("the answer comes", || a.dropped(Drop::UnsolicitedPong) == 1);
    nothing_else_comes_out(&a, &b, A, B);
}

#[test]
fn a_disco_key_is_told_and_a_flood_of_them_is_not() {
    let (a, b) = tailnet();
    for (source, destination) in families() {
        assert_eq!(a.device.shared().advertise_disco_key(source, destination, PublicKey([5; 32])), Ok(true));
        let told = b.event("a key", |event| match event {
            Event::DiscoKeyAdvertised { peer, source, key } => Some((*peer, *source, *key)),
            _ => None,
        });
        assert_eq!(told, (a.key, source, [5; 32]));
    }
    let (source, destination) = families()[0];
    for _ in 0..100 {
        a.device.shared().advertise_disco_key(source, destination, PublicKey([6; 32])).unwrap();
    }
    eventually("all have come", || b.total("tsmp_received") == 102);
    let told = b.events().iter().filter(|event| matches!(event, Event::DiscoKeyAdvertised { .. })).count() as u64;
    assert_eq!(told + b.dropped(Drop::AdvertisementLimited), 100);
    assert!(b.dropped(Drop::AdvertisementLimited) > 0);
    let mixed = a.device.shared().advertise_disco_key(source, address(B6), PublicKey([6; 32]));
    assert_eq!(mixed, Err(PingError::Families));
}

#[test]
fn a_reject_ends_here() {
    let (a, b) = tailnet();
    let reject = Reject { protocol: 6, reason: Reason::Acl, source_port: 1, destination_port: 2, maybe_broken: false };
    a.device.shared().inject(Tsmp::Reject(reject).packet(A.into(), B.into()).unwrap()).unwrap();
    eventually("it has come", || b.total("tsmp_received") == 1);
    nothing_else_comes_out(&a, &b, A, B);
}

#[test]
fn row_09_a_ping_that_nobody_answers_expires_once() {
    let (a, b) = tailnet();
    own(&b, &[]);
    let brief = Duration::from_millis(50);
    let tokens: Vec<u64> = families().iter().map(|way| ping(&a, PingKind::Tsmp, *way, brief)).collect();
    for token in &tokens {
        let told = a.event("expiry", |event| match event {
            Event::PingExpired { token } => Some(*token),
            _ => None,
        });
        assert_eq!(told, *token);
    }
    eventually("it had come to b", || b.dropped(Drop::ForeignTsmp) == 2);
    // A longer one that was begun first does not hold up a brief one.
    ping(&a, PingKind::Tsmp, families()[0], Duration::from_secs(3600));
    let token = ping(&a, PingKind::Icmp, families()[0], brief);
    let mut ended = Vec::new();
    eventually("the brief one ends", || {
        ended.extend(a.events().into_iter().filter(Event::is_awaited));
        !ended.is_empty()
    });
    assert_eq!(ended, [Event::PingExpired { token }]);
}

#[test]
fn row_10_so_many_pings_and_no_more() {
    let (a, b) = tailnet();
    // Nobody there: what cannot be sent does not answer either.
    let gone = node();
    a.peer(gone.key, None, &["10.9.0.7/32"]);
    let way = (IpAddr::from(A), address("10.9.0.7"));
    let begin = || a.device.shared().ping(PingKind::Tsmp, way.0, way.1, Duration::from_secs(3600));
    let mut begun = 0;
    eventually("as many as may be", || match begin() {
        Ok(_) => {
            begun += 1;
            false
        }
        Err(why) => why == PingError::TooMany,
    });
    assert_eq!(begun, MAX_PINGS);
    assert_eq!(a.device.shared().ping(PingKind::Tsmp, way.0, address("10.9.0.9"), SOON), Err(PingError::NoPeer));
    own(&b, &["10.9.0.2"]);
    assert_eq!(
        a.device.shared().ping(PingKind::Icmp, address(A6), B.into(), SOON),
        Err(PingError::Families),
        "said before anything is looked at"
    );
}

#[test]
fn where_no_system_answers_echoes_the_device_does() {
    let (a, b) = tailnet();
    b.device.shared().hooks.set_respond_to_ping(true);
    for way in families() {
        let token = ping(&a, PingKind::Icmp, way, SOON);
        assert_eq!(pong(&a).0, token);
        assert!(b.read(SOON).is_some(), "the request goes on, too");
    }
    // Not for addresses that are not ours.
    own(&b, &["10.9.0.77"]);
    ping(&a, PingKind::Icmp, families()[0], SOON);
    assert!(b.read(SOON).is_some());
    nothing_else_comes_out(&b, &a, B, A);
    assert_eq!(b.total("injected_packets"), 2);
}

#[test]
fn what_is_injected_waits_for_the_handshake_like_any_packet() {
    let (a, b) = tailnet();
    let packets: Vec<_> = (0..20).map(|n| udp(A, B, 10, n)).collect();
    for packet in &packets {
        a.device.shared().inject(packet.clone()).unwrap();
    }
    for packet in packets {
        assert_eq!(b.read(SOON), Some(packet));
    }
    for bad in [vec![], vec![0x45; 19], vec![0x60; 66_000]] {
        assert_eq!(a.device.shared().inject(bad), Err(Drop::MalformedPacket));
    }
    assert_eq!(a.dropped(Drop::MalformedPacket), 3);
}

#[test]
fn row_15_injection_does_not_wait_for_a_data_thread_that_does() {
    let (a, b) = tailnet();
    let cell = a.device.shared().table.by_key(&b.key).unwrap();
    let held = cell.peer.lock();
    let mut full = false;
    // The data thread takes some away, then it waits for the peer that is held here.
    for _ in 0..3 * MAX_PACKETS {
        full |= a.device.shared().inject(udp(A, B, 10, 1)) == Err(Drop::InjectionQueueFull);
    }
    assert!(full && a.dropped(Drop::InjectionQueueFull) > 0);
    drop(held);
    eventually("it goes on", || a.device.shared().inject(udp(A, B, 10, 2)).is_ok());
}

#[test]
fn row_15_close_ends_while_everybody_injects() {
    for _ in 0..20 {
        let (a, b) = tailnet();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for node in [&a, &a, &b] {
                let (from, to) = if node.key == a.key { (A, B) } else { (B, A) };
                let over = &over;
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let _ = node.device.shared().inject(udp(from, to, 1000, 1));
                        let _ = node.device.shared().ping(PingKind::Tsmp, from.into(), to.into(), SOON);
                    }
                });
            }
            eventually("packets flow", || b.total("tun_tx_packets") > 0 || a.total("tun_tx_packets") > 0);
            a.device.close();
            b.device.close();
            over.store(true, Ordering::Relaxed);
        });
        assert!(a.device.is_closed() && b.device.is_closed());
    }
}
