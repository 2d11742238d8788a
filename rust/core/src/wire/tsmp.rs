//! TSMP, by which nodes of a tailnet speak of the tunnel inside the tunnel: IP protocol 99, over IPv4 and IPv6, never
//! fragmented. The first byte says what it is.
//!
//! | type | bytes | |
//! |---|---|---|
//! | `p` ping | 9 | 8 of the sender's own |
//! | `o` pong | 11 | the same 8, then the port of the peer's API; 9 from nodes that know none |
//! | `!` reject | 7, 8 | the flow that was refused, why, and flags |
//! | `a` disco key | 33 | the sender's |
//!
//! Longer ones are read as if they ended there, so that fields may be added; shorter ones are none.

use crate::packet::build;
use crate::packet::parse::{protocol, Parsed};
use std::net::IpAddr;

const PING: u8 = b'p';
const PONG: u8 = b'o';
const REJECT: u8 = b'!';
const DISCO_KEY: u8 = b'a';

/// The flow may work some other time: nothing final.
const MAYBE_BROKEN: u8 = 1;

/// By which a pong shows which ping it answers.
pub type PingId = [u8; 8];

/// Why a flow was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The access rules do not allow it.
    Acl,
    /// The node takes no connections at all.
    ShieldsUp,
    /// A relay that does not forward.
    ForwardingDisabled,
    /// The firewall of the host behind.
    HostFirewall,
    Other(u8),
}

impl Reason {
    fn of(byte: u8) -> Reason {
        match byte {
            b'A' => Reason::Acl,
            b'S' => Reason::ShieldsUp,
            b'F' => Reason::ForwardingDisabled,
            b'W' => Reason::HostFirewall,
            other => Reason::Other(other),
        }
    }

    fn byte(self) -> u8 {
        match self {
            Reason::Acl => b'A',
            Reason::ShieldsUp => b'S',
            Reason::ForwardingDisabled => b'F',
            Reason::HostFirewall => b'W',
            Reason::Other(other) => other,
        }
    }
}

/// A flow was refused. It went from the packet's destination to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The flow's IP protocol.
    pub protocol: u8,
    pub reason: Reason,
    pub source_port: u16,
    pub destination_port: u16,
    /// Advice only: the flow may work all the same.
    pub maybe_broken: bool,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tsmp {
    Ping(PingId),
    /// `peer_api_port`: 0 when it is unknown.
    Pong {
        id: PingId,
        peer_api_port: u16,
    },
    Reject(Reject),
    DiscoKey([u8; 32]),
}

impl Tsmp {
    /// The message in `packet`, whose header says `parsed`. `None`: another protocol, a piece, too short, of no known type.
    pub fn of(parsed: &Parsed, packet: &[u8]) -> Option<Tsmp> {
        if parsed.protocol != protocol::TSMP || parsed.fragment.is_some() {
            return None;
        }
        let (kind, body) = packet.get(parsed.transport..parsed.length)?.split_first()?;
        match *kind {
            PING => Some(Tsmp::Ping(*body.first_chunk()?)),
            PONG => {
                let (id, rest) = body.split_first_chunk()?;
                let peer_api_port = rest.first_chunk().map_or(0, |port| u16::from_be_bytes(*port));
                Some(Tsmp::Pong { id: *id, peer_api_port })
            }
            REJECT => {
                let ([protocol, reason, a, b, c, d], rest) = body.split_first_chunk()?;
                Some(Tsmp::Reject(Reject {
                    protocol: *protocol,
                    reason: Reason::of(*reason),
                    source_port: u16::from_be_bytes([*a, *b]),
                    destination_port: u16::from_be_bytes([*c, *d]),
                    maybe_broken: rest.first().is_some_and(|flags| flags & MAYBE_BROKEN != 0),
                }))
            }
            DISCO_KEY => Some(Tsmp::DiscoKey(*body.first_chunk()?)),
            _ => None,
        }
    }

    fn body(&self) -> Vec<u8> {
        match self {
            Tsmp::Ping(id) => [&[PING][..], id].concat(),
            Tsmp::Pong { id, peer_api_port } => [&[PONG][..], id, &peer_api_port.to_be_bytes()].concat(),
            Tsmp::Reject(reject) => {
                let mut body = vec![REJECT, reject.protocol, reject.reason.byte()];
                body.extend(reject.source_port.to_be_bytes());
                body.extend(reject.destination_port.to_be_bytes());
                if reject.maybe_broken {
                    body.push(MAYBE_BROKEN);
                }
                body
            }
            Tsmp::DiscoKey(key) => [&[DISCO_KEY][..], key].concat(),
        }
    }

    /// The message as a packet; `None` when the addresses are of different families.
    pub fn packet(&self, source: IpAddr, destination: IpAddr) -> Option<Vec<u8>> {
        build::ip(source, destination, protocol::TSMP, 0, &self.body())
    }

    /// The message as the answer to `asked`, whose header says `parsed`.
    pub fn answer(&self, parsed: &Parsed, asked: &[u8]) -> Option<Vec<u8>> {
        let id = !build::id(asked)?;
        build::ip(parsed.destination, parsed.source, protocol::TSMP, id, &self.body())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FOUR: [&str; 2] = ["1.2.3.4", "4.3.2.1"];
    const SIX: [&str; 2] = ["2001:db8::1", "2001:db8::2"];

    fn packet(message: Tsmp, addresses: [&str; 2]) -> Vec<u8> {
        let [a, b] = addresses.map(|text| text.parse().expect("address"));
        message.packet(a, b).expect("one family")
    }

    fn read(packet: &[u8]) -> Option<Tsmp> {
        Tsmp::of(&Parsed::of(packet)?, packet)
    }

    const REFUSED: Reject =
        Reject { protocol: 6, reason: Reason::Acl, source_port: 0x3039, destination_port: 443, maybe_broken: false };

    /// As they are on the wire between other nodes of the kind.
    #[test]
    fn golden_vectors() {
        let four = packet(Tsmp::DiscoKey([7; 32]), FOUR);
        let header = [0x45, 0, 0, 0x35, 0, 0, 0, 0, 0x40, 0x63, 0x70, 0x5d, 1, 2, 3, 4, 4, 3, 2, 1, b'a', 7];
        assert_eq!((four.len(), &four[..22]), (53, &header[..]));
        let six = packet(Tsmp::DiscoKey([7; 32]), SIX);
        assert_eq!((six.len(), &six[..8]), (73, &[0x60, 0, 0, 0, 0, 0x21, 0x63, 0x40][..]));
        let body = |message: Tsmp| packet(message, FOUR).split_off(20);
        assert_eq!(body(Tsmp::Ping(*b"12345678")), b"p12345678");
        assert_eq!(body(Tsmp::Pong { id: *b"12345678", peer_api_port: 0x1f90 }), b"o12345678\x1f\x90");
        assert_eq!(body(Tsmp::Reject(REFUSED)), b"!\x06A\x30\x39\x01\xbb");
        let maybe = Reject { maybe_broken: true, reason: Reason::HostFirewall, ..REFUSED };
        assert_eq!(body(Tsmp::Reject(maybe)), b"!\x06W\x30\x39\x01\xbb\x01");
    }

    #[test]
    fn an_answer_goes_back_with_the_complement_of_the_identification() {
        let mut ping = packet(Tsmp::Ping(*b"12345678"), SIX);
        ping[2..4].copy_from_slice(&[0x12, 0x34]);
        let parsed = Parsed::of(&ping).expect("a packet");
        let pong = Tsmp::Pong { id: *b"12345678", peer_api_port: 0 }.answer(&parsed, &ping).expect("one family");
        assert_eq!(pong[..4], [0x60, 0, 0xed, 0xcb]);
        let turned = Parsed::of(&pong).expect("a packet");
        assert_eq!((turned.source, turned.destination), (parsed.destination, parsed.source));
    }

    /// What the first message of each type needs at least, and what it is when it ends there.
    #[test]
    fn what_is_too_short_is_none_and_what_is_longer_is_read_to_its_end() {
        for (kind, least) in [(b'p', 9), (b'o', 9), (b'!', 7), (b'a', 33)] {
            for length in 0..least + 20 {
                let body: Vec<u8> = core::iter::once(kind).chain([0; 60]).take(length).collect();
                let [a, b] = FOUR.map(|text| text.parse().expect("address"));
                let packet = build::ip(a, b, 99, 0, &body).expect("short");
                assert_eq!(read(&packet).is_some(), length >= least, "{} of {length}", kind as char);
            }
        }
        let mut pong = packet(Tsmp::Pong { id: [1; 8], peer_api_port: 0x1234 }, FOUR);
        for length in [29, 30] {
            pong[3] = length;
            assert_eq!(read(&pong), Some(Tsmp::Pong { id: [1; 8], peer_api_port: 0 }), "the port needs both bytes");
        }
    }

    #[test]
    fn another_protocol_or_a_piece_is_none() {
        for message in [Tsmp::Ping([1; 8]), Tsmp::Reject(REFUSED), Tsmp::DiscoKey([1; 32])] {
            let mut four = packet(message, FOUR);
            four[9] = 17;
            assert_eq!(read(&four), None);
            (four[9], four[6]) = (99, 0x20);
            assert_eq!(read(&four), None);
            let mut six = packet(message, SIX);
            six[6] = 6;
            assert_eq!(read(&six), None);
        }
    }

    fn messages() -> impl Strategy<Value = Tsmp> {
        prop_oneof![
            any::<PingId>().prop_map(Tsmp::Ping),
            any::<(PingId, u16)>().prop_map(|(id, peer_api_port)| Tsmp::Pong { id, peer_api_port }),
            any::<[u8; 32]>().prop_map(Tsmp::DiscoKey),
            any::<(u8, u8, u16, u16, bool)>().prop_map(
                |(protocol, why, source_port, destination_port, maybe_broken)| {
                    Tsmp::Reject(Reject {
                        protocol,
                        reason: Reason::of(why),
                        source_port,
                        destination_port,
                        maybe_broken,
                    })
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn every_message_comes_back_as_it_was(message in messages(), six in any::<bool>(), more in prop::collection::vec(any::<u8>(), 0..20)) {
            let addresses = if six { SIX } else { FOUR };
            prop_assert_eq!(read(&packet(message, addresses)), Some(message));
            // Padding behind the packet is no part of it.
            prop_assert_eq!(read(&[packet(message, addresses), more].concat()), Some(message));
        }
    }
}
