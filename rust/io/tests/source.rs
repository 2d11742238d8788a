//! Which of our addresses a datagram leaves from, and which one it came to, between real sockets on loopback.
#![allow(clippy::unwrap_used)]

mod common;

use common::eventually;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use wgengine_core::plan::PublicKey;
use wgengine_core::tunnel::endpoint::{Endpoint, Source};
use wgengine_io::table::Table;
use wgengine_io::udp::batch::{Outbox, Sent};
use wgengine_io::udp::receive::Receiver;
use wgengine_io::udp::{Family, Sockets};

/// Loopback is interface 1 of every network namespace.
const LOOPBACK: u32 = 1;
/// An address that is nobody's, for each family (RFC 5737, RFC 3849).
const NOT_OURS: [&str; 2] = ["192.0.2.77", "2001:db8::77"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn from(address: SocketAddr, source: &str) -> Endpoint {
    Endpoint { address, source: Source::new(ip(source), LOOPBACK) }
}

/// Three datagrams, the last one shorter, as one batch; the failures that were told.
fn send_batch(sockets: &Sockets, to: Endpoint) -> (Sent, Vec<Endpoint>) {
    let peer = Table::default().add(PublicKey([9; 32]));
    let mut outbox = Outbox::default();
    for len in [600, 600, 200] {
        outbox.room(len).unwrap().fill(len as u8);
        outbox.push(&peer, to, len, true);
    }
    let mut told = Vec::new();
    let sent = outbox.flush(sockets, 0, |failure| {
        told.push(failure.to);
        false
    });
    (sent, told)
}

fn take(socket: &UdpSocket) -> (usize, IpAddr) {
    let mut room = [0; 2048];
    let (len, from) = socket.recv_from(&mut room).unwrap();
    (len, from.ip())
}

fn take_batch(socket: &UdpSocket) -> [IpAddr; 3] {
    let came = [0; 3].map(|_| take(socket));
    assert_eq!(came.map(|(len, _)| len), [600, 600, 200]);
    came.map(|(_, from)| from)
}

#[test]
fn n18_datagrams_and_batches_leave_from_their_source() {
    let sockets = Sockets::bind(0, 0, 2).unwrap();
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = from(far.local_addr().unwrap(), "127.0.0.9");
    sockets.of(Family::V4, 1).unwrap().send(&to, b"one").unwrap();
    assert_eq!(take(&far), (3, ip("127.0.0.9")));
    let (sent, told) = send_batch(&sockets, to);
    assert_eq!((sent.over(Family::V4).datagrams, sent.writes, told.len()), (3, 1, 0));
    assert_eq!(take_batch(&far), [ip("127.0.0.9"); 3]);
}

#[test]
fn n17_a_source_that_is_not_ours_is_left_out() {
    let sockets = Sockets::bind(0, 0, 1).unwrap();
    for (here, not_ours) in ["127.0.0.1", "::1"].into_iter().zip(NOT_OURS) {
        let Ok(far) = UdpSocket::bind((here, 0)) else { continue };
        let to = from(far.local_addr().unwrap(), not_ours);
        sockets.of(Family::of(&to.address), 0).unwrap().send(&to, b"one").unwrap();
        assert_eq!(take(&far), (3, ip(here)));
        let (sent, told) = send_batch(&sockets, to);
        assert_eq!((sent.over(Family::of(&to.address)).datagrams, told.len()), (3, 0));
        assert_eq!(take_batch(&far), [ip(here); 3]);
    }
}

#[test]
fn n17_what_is_refused_without_its_source_too_is_told_as_it_was() {
    let sockets = Sockets::bind(0, 0, 1).unwrap();
    // Port 0 is nowhere: EINVAL, as for a source that is not ours.
    let to = from((ip("127.0.0.1"), 0).into(), "127.0.0.9");
    let (sent, told) = send_batch(&sockets, to);
    assert_eq!((sent.over(Family::V4).datagrams, told), (0, vec![to]));
}

#[test]
fn n18_a_block_tells_which_address_it_came_to() {
    let sockets = Sockets::bind(0, 0, 1).unwrap();
    let mut receiver = Receiver::default();
    for (here, there) in [("127.0.0.1", "127.0.0.9"), ("::1", "::1")] {
        let Ok(far) = UdpSocket::bind((here, 0)) else { continue };
        let socket = sockets.of(Family::of(&far.local_addr().unwrap()), 0).unwrap();
        for gro in [false, true] {
            socket.set_gro(gro).unwrap();
            far.send_to(b"one", (there, sockets.port)).unwrap();
            eventually("received", || receiver.receive(socket).is_ok_and(|blocks| blocks == 1));
            let blocks: Vec<_> =
                receiver.blocks().map(|block| (block.from, block.bytes.to_vec(), block.size)).collect();
            assert_eq!(blocks, [(from(far.local_addr().unwrap(), there), b"one".to_vec(), 3)]);
        }
    }
}
