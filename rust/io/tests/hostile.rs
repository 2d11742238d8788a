//! Devices under attack, and with more peers than may shake hands at a time.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wgengine_core::observe::drop::Drop;
use wgengine_core::plan::{AllowedChange, PeerPlan, Plan, PublicKey};
use wgengine_core::time::Tick;
use wgengine_core::tunnel::backlog::MAX_TRYING;
use wgengine_core::tunnel::noise::Noise;
use wgengine_core::tunnel::staging::MAX_BYTES;
use wgengine_core::wire::wireguard::{COOKIE_REPLY_LEN, INITIATION_LEN};
use wgengine_io::clock;
use wgengine_noise::{generate_private, Boring, Identity};

/// Any initiation of `private` to `key`, valid to the last bit.
fn initiation(private: &wgengine_core::plan::Secret, key: &PublicKey) -> [u8; INITIATION_LEN] {
    let identity = Identity::new(private);
    let mut message = [0; INITIATION_LEN];
    Boring::new(&identity, key, None, 1).ok().unwrap().initiate(&mut message).unwrap();
    message
}

/// While strangers who know our key send all they can, a peer gets a session: by a cookie, in two tries.
#[test]
fn c3_4_c3_5_under_a_flood_strangers_get_cookies_and_a_peer_gets_in() {
    let (a, b) = (node(), node());
    a.peer(b.key, Some(loopback(b.port)), &["10.9.0.2/32"]);
    b.peer(a.key, None, &["10.9.0.1/32"]);
    let stranger = Middle::new();
    let message = initiation(&generate_private(), &b.key);
    let stop = Arc::new(AtomicBool::new(false));
    let flood = {
        let (stop, port, socket) = (stop.clone(), b.port, stranger.socket.try_clone().unwrap());
        std::thread::spawn(move || {
            let end = Instant::now() + Duration::from_secs(20);
            while !stop.load(Ordering::Relaxed) && Instant::now() < end {
                // In bursts that are load, apart enough that cookies are left between them: a peer is refused by bad luck only.
                for _ in 0..256 {
                    let _ = socket.send_to(&message, loopback(port));
                }
                std::thread::sleep(Duration::from_millis(900));
            }
        })
    };
    eventually("there is load", || b.total("cookies_sent") > 0);
    a.write(&udp(A, B, 10, 7));
    assert_eq!(b.read(Duration::from_secs(15)), Some(udp(A, B, 10, 7)));
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    assert_eq!(stranger.receive().len(), COOKIE_REPLY_LEN, "an answer shorter than the question, and no other");
    assert!(b.total("cookies_sent") <= b.dropped(Drop::CookieRequired));
    assert_eq!(b.total("handshakes_answered"), 1);
}

/// While no cookie is left, what brings none does not reach the control thread; what brings one does, right or wrong.
#[test]
fn c3_8_without_a_cookie_to_be_had_data_threads_drop_what_brings_none() {
    let b = node();
    let peers = [generate_private(), generate_private()];
    peers.iter().for_each(|private| b.peer(wgengine_noise::public_of(private), None, &[]));
    let inbox = &b.device.shared().inbox;
    inbox.close(clock::tick() + Duration::from_secs(20));
    assert!(inbox.is_closed());
    let stranger = Middle::new();
    stranger.send(b.port, &initiation(&peers[0], &b.key));
    eventually("it is dropped", || b.dropped(Drop::CookieRequired) == 1);
    let mut signed = initiation(&peers[1], &b.key);
    signed[INITIATION_LEN - 1] = 1;
    stranger.send(b.port, &signed);
    // There is no load in truth, so no cookie is looked at.
    eventually("it is let through", || b.total("handshakes_answered") == 1);
    let (private, home) = (generate_private(), Middle::new());
    b.peer(wgengine_noise::public_of(&private), Some(home.address), &[]);
    home.send(b.port, &initiation(&private, &b.key));
    eventually("where a peer is said to be one is heard", || b.total("handshakes_answered") == 2);
    inbox.close(Tick::default());
    assert!(!inbox.is_closed());
    stranger.send(b.port, &initiation(&peers[0], &b.key));
    eventually("it is open again", || b.total("handshakes_answered") == 3);
    assert_eq!(b.dropped(Drop::CookieRequired), 1);
}

/// Of one peer's initiations only five, and one in 20 ms, cost more than one Diffie-Hellman, however new each of them is.
#[test]
fn c3_6_a_peer_that_shakes_hands_without_end_is_limited() {
    let b = node();
    let private = generate_private();
    b.peer(wgengine_noise::public_of(&private), None, &[]);
    let peer = Middle::new();
    let start = Instant::now();
    for _ in 0..60 {
        peer.send(b.port, &initiation(&private, &b.key));
    }
    eventually("all are looked at", || b.total("handshakes_answered") + b.dropped(Drop::PeerLimited) == 60);
    let most = start.elapsed().as_millis() as u64 / 20 + 5;
    assert!(b.total("handshakes_answered") <= most, "{} in {:?}", b.total("handshakes_answered"), start.elapsed());
    assert!(b.dropped(Drop::PeerLimited) > 0);
}

fn inner(n: usize) -> [u8; 4] {
    let [_, _, high, low] = (n as u32).to_be_bytes();
    [10, 10, high, low]
}

/// Three thousand peers that are not there, all sent to: memory is bounded, and the peer behind them in the queue, which
/// is there, gets its packet.
#[test]
fn peers_that_are_gone_do_not_keep_out_one_that_is_there() {
    const GONE: usize = 3 * MAX_TRYING / 2;
    let (a, b) = (node(), node());
    let black_hole = Middle::new();
    let peers = (0..GONE).map(|n| {
        let mut peer = PeerPlan::new(wgengine_noise::public_of(&generate_private()));
        peer.endpoint = Some(black_hole.address);
        let [w, x, y, z] = inner(n);
        peer.allowed_ips = vec![AllowedChange::Add(prefix(&format!("{w}.{x}.{y}.{z}/32")))];
        peer
    });
    a.device.shared().commit(&Plan { peers: peers.collect(), ..Plan::default() }).unwrap();
    a.peer(b.key, Some(loopback(b.port)), &["10.9.0.2/32"]);
    b.peer(a.key, None, &["10.9.0.1/32"]);
    for n in 0..GONE {
        a.write(&udp(A, inner(n), 1000, 0));
    }
    eventually("as many as may try do", || a.total("handshakes_initiated") >= MAX_TRYING as u64);
    a.write(&udp(A, B, 10, 7));
    assert_eq!(b.read(Duration::from_secs(15)), Some(udp(A, B, 10, 7)));
    assert!(a.device.shared().table.staged_bytes() <= MAX_BYTES);
    assert_eq!(a.dropped(Drop::StagingBudget), 0, "one packet each finds room");
}
