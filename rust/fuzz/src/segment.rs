//! A TUN read becomes packets: whole, intact, with the same payload, and nothing beside them is touched.

use crate::bytes::{pseudo_header, slow_sum, Bytes};
use wgengine_core::packet::parse::{protocol, Parsed};
use wgengine_core::packet::segment::{Segments, MAX_PADDING};
use wgengine_core::packet::vnet::{self, VnetHeader};
use wgengine_core::wire::wireguard::padded;

const GUARD: [u8; MAX_PADDING] = [0xa5; MAX_PADDING];

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mtu = usize::from(bytes.word());
    let read = bytes.take(data.len());
    let mut room = [read, &GUARD].concat();
    let before = room.clone();
    let Ok(mut segments) = Segments::new(&mut room, read.len()) else {
        assert!(room == before, "what is refused is not changed");
        return;
    };
    let told = VnetHeader::read(read).expect("it was read from here");
    let parsed = *segments.parsed();
    let is_super = told.gso_type & !vnet::GSO_ECN != vnet::GSO_NONE;
    let (count, longest) = (segments.count(), segments.longest());
    assert!(count >= 1 && (is_super || count == 1));
    let mut header = 0;
    let mut payload = Vec::new();
    let mut handed = 0;
    while let Some((packet, length)) = segments.next(|length| padded(length, mtu)) {
        assert!(packet.len() >= length && packet.len() - length <= MAX_PADDING && length <= longest);
        assert!(packet[length..].iter().all(|byte| *byte == 0), "padding is zeros");
        let packet = &packet[..length];
        let part = Parsed::of(packet).expect("a packet");
        assert_eq!((part.length, part.transport), (length, parsed.transport));
        assert_eq!((part.source, part.destination), (parsed.source, parsed.destination));
        if is_super {
            assert_eq!(part.ports, parsed.ports);
            header = header_of(&part, packet);
            assert!(length - header <= usize::from(told.gso_size));
            intact(&part, packet);
            payload.extend_from_slice(&packet[header..]);
        } else {
            same_but_checksum(packet, &before[vnet::LEN..vnet::LEN + parsed.length], &told);
        }
        handed += 1;
    }
    assert_eq!(handed, count);
    if is_super {
        assert!(payload == before[vnet::LEN + header..vnet::LEN + parsed.length], "not a byte is lost");
    }
    let end = vnet::LEN + parsed.length;
    assert!(room[end..] == before[end..], "what lies behind is put back");
}

fn header_of(part: &Parsed, packet: &[u8]) -> usize {
    part.transport
        + match part.protocol {
            protocol::TCP => usize::from(packet[part.transport + 12] >> 4) * 4,
            _ => 8,
        }
}

/// Both checksums, and UDP's own length.
fn intact(part: &Parsed, packet: &[u8]) {
    let (ip, segment) = packet.split_at(part.transport);
    assert!(part.version == 6 || slow_sum(&[ip]) == 0xffff);
    let pseudo = pseudo_header(packet, part.protocol, segment.len());
    assert_eq!(slow_sum(&[&pseudo, segment]), 0xffff);
    if part.protocol == protocol::UDP {
        assert_eq!(usize::from(u16::from_be_bytes([segment[4], segment[5]])), segment.len());
        assert_ne!(segment[6..8], [0, 0], "a datagram without a checksum");
    }
}

fn same_but_checksum(packet: &[u8], read: &[u8], told: &VnetHeader) {
    let mut expected = read.to_vec();
    if told.flags & vnet::F_NEEDS_CSUM != 0 {
        let (start, at) = (usize::from(told.csum_start), usize::from(told.csum_start) + usize::from(told.csum_offset));
        let sum = match !slow_sum(&[&read[start..]]) {
            0 => 0xffff,
            sum => sum,
        };
        expected[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    assert!(packet == expected, "a whole packet is handed out as it is");
}
