//! What a packet says about itself, against a walk that writes down every header it passes.

use std::net::IpAddr;
use wgengine_core::packet::parse::{source_and_length, Parsed};

/// TCP, UDP, SCTP: their ports come first.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

pub fn run(data: &[u8]) {
    let Some(parsed) = Parsed::of(data) else {
        assert!(source_and_length(data).is_err(), "what has a source and a length is a packet");
        return;
    };
    assert_eq!(source_and_length(data), Ok((parsed.source, parsed.length)));
    assert!(parsed.transport <= parsed.length && parsed.length <= data.len());
    let packet = &data[..parsed.length];
    let (protocol, transport, fragment, destination) = if parsed.version == 4 { v4(packet) } else { v6(packet) };
    assert_eq!((parsed.protocol, parsed.transport), (protocol, transport));
    assert_eq!(parsed.destination, destination);
    assert_eq!(parsed.fragment.map(|piece| (piece.offset, piece.more)), fragment);
    let later = fragment.is_some_and(|(offset, _)| offset > 0);
    assert_eq!(parsed.is_later_fragment(), later);
    let ports = packet.get(transport..transport + 4).filter(|_| WITH_PORTS.contains(&protocol) && !later);
    assert_eq!(
        parsed.ports,
        ports.map(|bytes| (u16::from_be_bytes([bytes[0], bytes[1]]), u16::from_be_bytes([bytes[2], bytes[3]])))
    );
}

type Walked = (u8, usize, Option<(u16, bool)>, IpAddr);

fn v4(packet: &[u8]) -> Walked {
    let word = u16::from_be_bytes([packet[6], packet[7]]);
    let fragment = (word & 0x3fff != 0).then_some(((word & 0x1fff) * 8, word & 0x2000 != 0));
    let destination = [packet[16], packet[17], packet[18], packet[19]];
    (packet[9], usize::from(packet[0] & 15) * 4, fragment, destination.into())
}

fn v6(packet: &[u8]) -> Walked {
    let mut destination = [0; 16];
    destination.copy_from_slice(&packet[24..40]);
    let (mut protocol, mut at, mut fragment) = (packet[6], 40, None);
    for _ in 0..8 {
        let rest = &packet[at..];
        let length = match protocol {
            0 | 43 | 60 if rest.len() >= 2 => 8 + usize::from(rest[1]) * 8,
            51 if rest.len() >= 2 => 8 + usize::from(rest[1]) * 4,
            44 => 8,
            _ => break,
        };
        if rest.len() < length {
            break;
        }
        if protocol == 44 {
            let word = u16::from_be_bytes([rest[2], rest[3]]);
            fragment = Some((word & !7, word & 1 == 1));
        }
        (protocol, at) = (rest[0], at + length);
        if fragment.is_some_and(|(offset, _)| offset > 0) {
            break;
        }
    }
    (protocol, at, fragment, destination.into())
}
