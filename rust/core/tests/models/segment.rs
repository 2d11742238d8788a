//! Cutting super-packets, against packets built one by one.

use crate::packets::*;
use proptest::prelude::*;
use wgengine_core::observe::drop::Drop;
use wgengine_core::packet::segment::{Segments, MAX_PADDING};

const NEEDS_CSUM: u8 = 1;
const NONE: u8 = 0;
const TCPV4: u8 = 1;
const UFO: u8 = 3;
const TCPV6: u8 = 4;
const UDP_L4: u8 = 5;
const ECN: u8 = 0x80;

/// Padding as the tunnel does it: to a multiple of 16, but not beyond the MTU.
fn pad(length: usize, mtu: usize) -> usize {
    length.next_multiple_of(16).min(mtu.max(length))
}

/// A TUN read and room behind it, filled with what an earlier read may have left there.
fn read(vnet: Vec<u8>, packet: &[u8]) -> (Vec<u8>, usize) {
    let bytes = [&vnet[..], packet].concat();
    let len = bytes.len();
    ([bytes, vec![0xa5; MAX_PADDING]].concat(), len)
}

fn gso_type(packet: &Packet) -> u8 {
    match (packet.tcp, packet.ipv6) {
        (true, false) => TCPV4,
        (true, true) => TCPV6,
        (false, _) => UDP_L4,
    }
}

fn checksum_offset(packet: &Packet) -> u16 {
    if packet.tcp {
        16
    } else {
        6
    }
}

/// The read for a super-packet.
fn super_read(packet: &Packet, size: u16, ecn: u8) -> (Vec<u8>, usize) {
    let header = vnet(NEEDS_CSUM, gso_type(packet) | ecn, size, packet.transport(), checksum_offset(packet));
    read(header, &packet.bytes_with(Check::Partial))
}

/// All packets of a read, each without padding; the padding is checked to be zeros.
fn cut(buf: &mut [u8], len: usize, mtu: usize) -> Vec<Vec<u8>> {
    let mut segments = Segments::new(buf, len).expect("a good read");
    let (count, longest) = (segments.count(), segments.longest());
    let mut packets = Vec::new();
    while let Some((padded, length)) = segments.next(|length| pad(length, mtu)) {
        assert_eq!(padded.len(), pad(length, mtu));
        assert!(padded[length..].iter().all(|byte| *byte == 0), "padding is not zero");
        packets.push(padded[..length].to_vec());
    }
    assert!(segments.next(|length| length).is_none());
    assert_eq!(packets.len(), count);
    assert_eq!(packets.iter().map(Vec::len).max(), Some(longest));
    packets
}

fn expect_cut(packet: &Packet, size: u16, ecn: u8, mtu: usize) {
    let (mut buf, len) = super_read(packet, size, ecn);
    let expected: Vec<Vec<u8>> = packet.split(usize::from(size)).iter().map(Packet::bytes).collect();
    let got = cut(&mut buf, len, mtu);
    for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
        assert_eq!(got, expected, "packet {i} of {}", packet.payload.len());
    }
    assert_eq!(got.len(), expected.len());
}

fn sample(ipv6: bool, tcp: bool, payload: usize) -> Packet {
    Packet {
        ipv6,
        tcp,
        hosts: (1, 2),
        ports: (40_000, 443),
        tos: 0,
        ttl: 64,
        df: true,
        id: 0xffff,
        flow_label: 0x1234,
        seq: 0xffff_ff00,
        ack: 99,
        flags: ACK | PSH | FIN | CWR,
        reserved: 1,
        window: 500,
        options: if tcp { noise(3, 12) } else { Vec::new() },
        extra: Vec::new(),
        payload: noise(5, payload),
    }
}

#[test]
fn a_full_super_packet_of_each_kind() {
    for (ipv6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let packet = sample(ipv6, tcp, 65_535 - 100);
        expect_cut(&packet, 1368, 0, 1420);
        expect_cut(&packet, 1368, ECN, 1420);
    }
}

#[test]
fn one_packet_is_handed_out_as_it_is() {
    for (ipv6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let bytes = sample(ipv6, tcp, 777).bytes();
        let (mut buf, len) = read(vnet(0, NONE, 0, 0, 0), &bytes);
        let segments = Segments::new(&mut buf, len).expect("a good read");
        assert_eq!((segments.count(), segments.parsed().length), (1, bytes.len()));
        assert_eq!(segments.source(), segments.parsed().source);
        assert_eq!(segments.destination(), segments.parsed().destination);
        assert_eq!(cut(&mut buf, len, 1420), [bytes]);
    }
}

#[test]
fn a_partial_checksum_is_completed() {
    for (ipv6, tcp) in [(false, true), (true, true), (false, false), (true, false)] {
        let packet = sample(ipv6, tcp, 777);
        let header = vnet(NEEDS_CSUM, NONE, 0, packet.transport(), checksum_offset(&packet));
        let (mut buf, len) = read(header, &packet.bytes_with(Check::Partial));
        assert_eq!(cut(&mut buf, len, 1420), [packet.bytes()]);
    }
}

/// RFC 768: zero would mean "no checksum".
#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    for ipv6 in [false, true] {
        let packet = sample(ipv6, false, 500).with_zero_checksum(100);
        let bytes = packet.bytes();
        assert_eq!(bytes[packet.transport() + 6..][..2], [0xff, 0xff]);
        let (mut buf, len) = read(vnet(NEEDS_CSUM, NONE, 0, packet.transport(), 6), &packet.bytes_with(Check::Partial));
        assert_eq!(cut(&mut buf, len, 1420), std::slice::from_ref(&bytes));
        let (mut buf, len) = super_read(&packet, 500, 0);
        assert_eq!(cut(&mut buf, len, 1420), [bytes]);
    }
}

/// VXLAN: the outer UDP datagram has no checksum, the inner one's is left to us.
#[test]
fn a_partial_checksum_further_in_is_completed() {
    let inner = sample(false, true, 300);
    let outer = |inner: Vec<u8>| Packet { payload: [vec![0; 22], inner].concat(), ..sample(false, false, 0) };
    let start = 28 + 22 + inner.transport();
    let header = vnet(NEEDS_CSUM, NONE, 0, start, 16);
    let (mut buf, len) = read(header, &outer(inner.bytes_with(Check::Partial)).bytes_with(Check::None));
    assert_eq!(cut(&mut buf, len, 1420), [outer(inner.bytes()).bytes_with(Check::None)]);
}

#[test]
fn what_lies_behind_the_declared_length_is_no_part_of_the_packet() {
    let bytes = sample(false, true, 100).bytes();
    let (mut buf, len) = read(vnet(0, NONE, 0, 0, 0), &[&bytes[..], &[0xee; 9]].concat());
    assert_eq!(cut(&mut buf, len, 1420), [bytes]);
}

#[test]
fn reads_that_cannot_be_cut_are_malformed() {
    let tcp = sample(false, true, 3000);
    let udp = sample(true, false, 3000);
    let bytes = |packet: &Packet| packet.bytes_with(Check::Partial);
    let with = |packet: &Packet, at: usize, value: u8| {
        let mut bytes = packet.bytes_with(Check::Partial);
        bytes[at] = value;
        bytes
    };
    let mut cases = vec![
        ("gso_size 0", vnet(1, TCPV4, 0, 20, 16), bytes(&tcp)),
        ("UFO", vnet(1, UFO, 1000, 40, 6), bytes(&udp)),
        ("unknown type", vnet(1, 9, 1000, 20, 16), bytes(&tcp)),
        ("other family", vnet(1, TCPV6, 1000, 20, 16), bytes(&tcp)),
        ("other transport", vnet(1, UDP_L4, 1000, 20, 16), bytes(&tcp)),
        ("checksum elsewhere", vnet(1, TCPV4, 1000, 21, 16), bytes(&tcp)),
        ("other checksum", vnet(1, TCPV4, 1000, 20, 6), bytes(&tcp)),
        ("fragment", vnet(1, TCPV4, 1000, 20, 16), with(&tcp, 6, 0x20)),
        ("TCP header too short", vnet(1, TCPV4, 1000, 20, 16), with(&tcp, 32, 0x40)),
        ("TCP header beyond the packet", vnet(1, TCPV4, 1000, 20, 16), with(&sample(false, true, 5), 32, 0xf0)),
        ("no room for a TCP header", vnet(1, TCPV4, 1000, 20, 16), {
            let mut bytes = sample(false, false, 2).bytes();
            bytes[9] = 6;
            bytes
        }),
        ("no IP", vnet(0, NONE, 0, 0, 0), vec![0x00; 60]),
        ("nothing", vnet(0, NONE, 0, 0, 0), vec![]),
        ("checksum behind the end", vnet(1, NONE, 0, 3050, 16), bytes(&tcp)),
        ("checksum far behind the end", vnet(1, NONE, 0, 20, 0xffff), bytes(&tcp)),
        ("checksum in the IP header", vnet(1, NONE, 0, 0, 10), bytes(&tcp)),
    ];
    cases.push(("half a vnet header", vec![0; 9], vec![]));
    for (name, header, packet) in cases {
        let (mut buf, len) = read(header, &packet);
        let before = buf.clone();
        assert_eq!(Segments::new(&mut buf, len).err(), Some(Drop::MalformedPacket), "{name}");
        assert_eq!(buf, before, "{name}: bad input changes nothing");
    }
    let (mut buf, len) = read(vnet(0, NONE, 0, 0, 0), &sample(false, true, 0).bytes());
    assert!(Segments::new(&mut buf[..len + MAX_PADDING - 1], len).is_err(), "no room for padding");
}

proptest! {
    #[test]
    fn cutting_gives_the_packets_built_one_by_one(
        mut packet in headers(true),
        payload in 1usize..60_000,
        size in 1u16..9000,
        ecn in prop_oneof![Just(0), Just(ECN)],
        mtu in 0usize..9000,
        seed in any::<u64>(),
    ) {
        packet.payload = noise(seed, payload);
        // Not more than 200 packets at a time: the model is slow.
        let size = size.max((payload / 200 + 1) as u16);
        expect_cut(&packet, size, ecn, mtu);
    }

    #[test]
    fn tiny_pieces(mut packet in headers(true), payload in 1usize..300, size in 1u16..40, seed in any::<u64>()) {
        packet.payload = noise(seed, payload);
        expect_cut(&packet, size, 0, 1420);
    }

    /// Whatever the kernel, or who plays it, writes: an error or packets within the read.
    #[test]
    fn no_read_makes_it_panic(
        header in any::<(u8, u8, u16, u16, u16)>(),
        packet in headers(true),
        payload in 0usize..4000,
        tame in any::<bool>(),
        hits in prop::collection::vec((0usize..120, any::<u8>()), 0..4),
        cut_off in 0usize..100,
    ) {
        let (flags, mut kind, size, mut start, mut offset) = header;
        if tame {
            (kind, start, offset) = (gso_type(&packet), packet.transport() as u16, checksum_offset(&packet));
        }
        let mut bytes = Packet { payload: noise(1, payload), ..packet }.bytes();
        for (at, value) in hits {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(bytes.len() - cut_off.min(bytes.len()));
        let (mut buf, len) = read(vnet(flags, kind, size, usize::from(start), offset), &bytes);
        if let Ok(mut segments) = Segments::new(&mut buf, len) {
            let (count, longest) = (segments.count(), segments.longest());
            let mut seen = 0;
            while let Some((padded, length)) = segments.next(|length| length + 99) {
                prop_assert!(length <= longest && padded.len() == length + MAX_PADDING);
                seen += 1;
            }
            prop_assert_eq!(seen, count);
        }
    }
}
