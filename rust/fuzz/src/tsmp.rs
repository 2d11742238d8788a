//! What is spoken to the engine inside the tunnel, TSMP and echoes, against a reading of the bytes one by one; and what the
//! engine makes of it again.

use crate::bytes::{pseudo_header, slow_sum};
use wgengine_core::packet::icmp::{self, Echo, Half};
use wgengine_core::packet::parse::{is_traffic, Parsed};
use wgengine_core::wire::tsmp::{Reason, Reject, Tsmp};

pub fn run(data: &[u8]) {
    let Some(parsed) = Parsed::of(data) else { return };
    let body = &data[parsed.transport..parsed.length];
    let whole = parsed.fragment.is_none();
    let expected = message(body).filter(|_| parsed.protocol == 99 && whole);
    let found = Tsmp::of(&parsed, data);
    assert_eq!(found, expected);
    let echo = Echo::of(&parsed, data);
    assert_eq!(echo.map(|echo| (echo.half, echo.id, echo.payload)), echo_of(&parsed, &data[..parsed.length]));
    if found.is_some() || echo.is_some() {
        assert!(!is_traffic(data), "the engine would never look at it");
    }
    if let Some(message) = found {
        let again = message.packet(parsed.source, parsed.destination).expect("of one family");
        assert_eq!(Tsmp::of(&Parsed::of(&again).expect("a packet"), &again), Some(message));
        let answer = message.answer(&parsed, data).expect("of one family");
        let back = Parsed::of(&answer).expect("a packet");
        assert_eq!((back.source, back.destination), (parsed.destination, parsed.source));
    }
    let answer = icmp::answer(&parsed, data);
    assert_eq!(answer.is_some(), echo.is_some_and(|echo| echo.half == Half::Request), "requests alone are answered");
    if let (Some(asked), Some(answer)) = (echo, answer) {
        let back = Parsed::of(&answer).expect("a packet");
        let reply = Echo::of(&back, &answer).expect("an echo");
        assert_eq!((reply.half, reply.id, reply.payload), (Half::Reply, asked.id, asked.payload));
        assert_eq!((back.source, back.destination), (parsed.destination, parsed.source));
    }
}

fn message(body: &[u8]) -> Option<Tsmp> {
    let id = |body: &[u8]| [body[1], body[2], body[3], body[4], body[5], body[6], body[7], body[8]];
    match *body.first()? {
        b'p' if body.len() >= 9 => Some(Tsmp::Ping(id(body))),
        b'o' if body.len() >= 11 => {
            Some(Tsmp::Pong { id: id(body), peer_api_port: u16::from(body[9]) << 8 | u16::from(body[10]) })
        }
        b'o' if body.len() >= 9 => Some(Tsmp::Pong { id: id(body), peer_api_port: 0 }),
        b'a' if body.len() >= 33 => {
            let mut key = [0; 32];
            key.copy_from_slice(&body[1..33]);
            Some(Tsmp::DiscoKey(key))
        }
        b'!' if body.len() >= 7 => Some(Tsmp::Reject(Reject {
            protocol: body[1],
            reason: match body[2] {
                0x41 => Reason::Acl,
                0x53 => Reason::ShieldsUp,
                0x46 => Reason::ForwardingDisabled,
                0x57 => Reason::HostFirewall,
                other => Reason::Other(other),
            },
            source_port: u16::from(body[3]) << 8 | u16::from(body[4]),
            destination_port: u16::from(body[5]) << 8 | u16::from(body[6]),
            maybe_broken: body.len() > 7 && body[7] % 2 == 1,
        })),
        _ => None,
    }
}

fn echo_of<'a>(parsed: &Parsed, packet: &'a [u8]) -> Option<(Half, [u8; 4], &'a [u8])> {
    let body = &packet[parsed.transport..];
    if body.len() < 8 || body[1] != 0 || parsed.fragment.is_some() {
        return None;
    }
    let half = match (parsed.version, parsed.protocol, body[0]) {
        (4, 1, 8) | (6, 58, 128) => Half::Request,
        (4, 1, 0) | (6, 58, 129) => Half::Reply,
        _ => return None,
    };
    let pseudo = if parsed.version == 6 { pseudo_header(packet, 58, body.len()) } else { Vec::new() };
    let intact = slow_sum(&[&pseudo, body]) == 0xffff;
    intact.then(|| (half, [body[4], body[5], body[6], body[7]], &body[8..]))
}
