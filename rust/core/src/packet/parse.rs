//! What an IP packet says about itself: addresses, protocol, ports, and where it ends.
//!
//! The declared length rules: bytes behind it are padding (whitepaper 5.4.6), and a packet that declares more than
//! there is, or less than its own header, is none.

use crate::observe::drop::Drop;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Protocol numbers (IANA) that this engine looks into.
pub mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// Messages of the tunnel inside the tunnel ([`crate::wire::tsmp`]).
    pub const TSMP: u8 = 99;
    pub const SCTP: u8 = 132;
}

/// Length of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Length of the fixed IPv6 header.
pub const IPV6_HEADER: usize = 40;

/// More extension headers than this are not walked through: the next one's number is the packet's protocol then.
const MAX_EXTENSIONS: usize = 8;

/// Which piece of a fragmented packet this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Bytes of the original payload that lie before this piece.
    pub offset: u16,
    /// Whether pieces follow.
    pub more: bool,
}

/// A checked IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// 4 or 6.
    pub version: u8,
    /// The transport protocol; behind IPv6 extension headers, if there are any.
    pub protocol: u8,
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Where the transport header starts.
    pub transport: usize,
    /// Where the packet ends: at most the length of the bytes it was read from.
    pub length: usize,
    /// `None`: a whole packet. An IPv6 fragment header always makes one, even if it is the only piece (RFC 6946).
    pub fragment: Option<Fragment>,
    /// Source and destination port of TCP, UDP and SCTP; never read from a later fragment.
    pub ports: Option<(u16, u16)>,
}

impl Parsed {
    /// Reads the packet at the start of `packet`; `None` when it is no IP or its lengths lie.
    pub fn of(packet: &[u8]) -> Option<Parsed> {
        let (source, length) = source_and_length(packet).ok()?;
        let destination = destination(packet)?;
        let packet = packet.get(..length)?;
        let mut parsed = Parsed {
            version: packet[0] >> 4,
            protocol: 0,
            source,
            destination,
            transport: 0,
            length,
            fragment: None,
            ports: None,
        };
        if parsed.version == 4 {
            parsed.protocol = packet[9];
            parsed.transport = usize::from(packet[0] & 0x0f) * 4;
            parsed.fragment = fragment(be16(packet, 6)?, 0x1fff, 0x2000);
        } else {
            parsed.walk_extensions(packet);
        }
        parsed.ports = parsed.read_ports(packet);
        Some(parsed)
    }

    /// RFC 8200, 4: each header names the next. A header that is cut off ends the walk, and is the protocol itself.
    fn walk_extensions(&mut self, packet: &[u8]) {
        (self.protocol, self.transport) = (packet[6], IPV6_HEADER);
        for _ in 0..MAX_EXTENSIONS {
            let Some(&[next, units]) = packet.get(self.transport..).and_then(|rest| rest.first_chunk()) else {
                return;
            };
            let length = match self.protocol {
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => 8 + usize::from(units) * 8,
                protocol::AUTHENTICATION => 8 + usize::from(units) * 4,
                protocol::FRAGMENT => 8,
                _ => return,
            };
            if self.transport + length > packet.len() {
                return;
            }
            if self.protocol == protocol::FRAGMENT {
                let word = be16(packet, self.transport + 2).unwrap_or(0);
                self.fragment = Some(Fragment { offset: word & 0xfff8, more: word & 1 != 0 });
            }
            (self.protocol, self.transport) = (next, self.transport + length);
            // What follows in a later piece is the middle of something.
            if self.is_later_fragment() {
                return;
            }
        }
    }

    fn read_ports(&self, packet: &[u8]) -> Option<(u16, u16)> {
        let with_ports = matches!(self.protocol, protocol::TCP | protocol::UDP | protocol::SCTP);
        if !with_ports || self.is_later_fragment() {
            return None;
        }
        Some((be16(packet, self.transport)?, be16(packet, self.transport + 2)?))
    }

    /// Whether this is a piece without a transport header.
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.offset > 0)
    }
}

/// IPv4's fragment word: `None` when neither an offset nor "more fragments" is set.
fn fragment(word: u16, offset: u16, more: u16) -> Option<Fragment> {
    (word & (offset | more) != 0).then_some(Fragment { offset: (word & offset) << 3, more: word & more != 0 })
}

fn be16(packet: &[u8], at: usize) -> Option<u16> {
    packet.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn v4(packet: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: &[u8; 4] = packet.get(at..)?.first_chunk()?;
    Some(IpAddr::V4(Ipv4Addr::from(*bytes)))
}

fn v6(packet: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: &[u8; 16] = packet.get(at..)?.first_chunk()?;
    Some(IpAddr::V6(Ipv6Addr::from(*bytes)))
}

/// Where the packet wants to go; looks at nothing but the version and the address.
fn destination(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => v4(packet, 16),
        6 => v6(packet, 24),
        _ => None,
    }
}

/// Where a decrypted packet says it comes from, and where it ends before the padding.
pub fn source_and_length(packet: &[u8]) -> Result<(IpAddr, usize), Drop> {
    checked_source_and_length(packet).ok_or(Drop::MalformedInner)
}

/// TCP or UDP, by one byte of a checked packet: nothing that the engine itself would be spoken to with. What begins with
/// an extension header may be anything.
pub fn is_traffic(packet: &[u8]) -> bool {
    let at = if packet.first().is_some_and(|first| first >> 4 == 4) { 9 } else { 6 };
    matches!(packet.get(at), Some(&(protocol::TCP | protocol::UDP)))
}

fn checked_source_and_length(packet: &[u8]) -> Option<(IpAddr, usize)> {
    let first = *packet.first()?;
    let (source, header, length) = match first >> 4 {
        4 => (v4(packet, 12)?, usize::from(first & 0x0f) * 4, usize::from(be16(packet, 2)?)),
        6 => (v6(packet, 8)?, IPV6_HEADER, IPV6_HEADER + usize::from(be16(packet, 4)?)),
        _ => return None,
    };
    let least = if first >> 4 == 4 { IPV4_HEADER } else { IPV6_HEADER };
    (least <= header && header <= length && length <= packet.len()).then_some((source, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let length = 20 + payload.len() as u16;
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7]);
        packet.extend(payload);
        packet
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([next, 64]);
        packet.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets());
        packet.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2).octets());
        packet.extend(payload);
        packet
    }

    const PORTS: [u8; 8] = [0x04, 0xd2, 0x00, 0x35, 0, 8, 0, 0];

    #[test]
    fn ipv4_udp() {
        let parsed = Parsed::of(&ipv4(17, 0x4000, &PORTS));
        let expected = Parsed {
            version: 4,
            protocol: 17,
            source: "192.0.2.1".parse().expect("address"),
            destination: "198.51.100.7".parse().expect("address"),
            transport: 20,
            length: 28,
            fragment: None,
            ports: Some((1234, 53)),
        };
        assert_eq!(parsed, Some(expected));
    }

    #[test]
    fn ipv4_options_move_the_transport_header() {
        let mut packet = ipv4(6, 0, &[[1; 4], [0, 80, 1, 187]].concat());
        packet[0] = 0x46;
        let parsed = Parsed::of(&packet).expect("a packet");
        assert_eq!((parsed.transport, parsed.ports), (24, Some((80, 443))));
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let first = Parsed::of(&ipv4(17, 0x2000, &PORTS)).expect("a packet");
        assert_eq!((first.fragment, first.ports), (Some(Fragment { offset: 0, more: true }), Some((1234, 53))));
        let later = Parsed::of(&ipv4(17, 0x00b9, &PORTS)).expect("a packet");
        assert_eq!((later.fragment, later.ports), (Some(Fragment { offset: 1480, more: false }), None));

        let header = |word: u16| [&[17, 0][..], &word.to_be_bytes(), &[0, 0, 0, 9], &PORTS].concat();
        let first = Parsed::of(&ipv6(44, &header(1))).expect("a packet");
        assert_eq!(first.fragment, Some(Fragment { offset: 0, more: true }));
        assert_eq!((first.protocol, first.transport, first.ports), (17, 48, Some((1234, 53))));
        let later = Parsed::of(&ipv6(44, &header(1448))).expect("a packet");
        assert_eq!(later.fragment, Some(Fragment { offset: 1448, more: false }));
        assert_eq!((later.protocol, later.transport, later.ports), (17, 48, None));
        // What looks like a header there is the middle of one, or of a payload.
        let options = [&[60, 0, 5, 0xa8, 0, 0, 0, 9][..], &[17, 0, 0, 0, 0, 0, 0, 0], &PORTS].concat();
        let later = Parsed::of(&ipv6(44, &options)).expect("a packet");
        assert_eq!((later.protocol, later.transport), (60, 48));
    }

    #[test]
    fn extension_headers_are_walked_through() {
        let mut payload = vec![60, 0, 1, 4, 0, 0, 0, 0]; // hop-by-hop, 8 bytes
        payload.extend([43, 1]); // destination options, 16 bytes
        payload.extend([0; 14]);
        payload.extend([51, 0, 0, 0, 0, 0, 0, 0]); // routing, 8 bytes
        payload.extend([6, 4]); // authentication, 24 bytes
        payload.extend([0; 22]);
        payload.extend(PORTS);
        let parsed = Parsed::of(&ipv6(0, &payload)).expect("a packet");
        assert_eq!((parsed.protocol, parsed.transport, parsed.ports), (6, 96, Some((1234, 53))));
    }

    #[test]
    fn traffic_is_told_by_one_byte() {
        for (packet, is) in [
            (ipv4(6, 0, &PORTS), true),
            (ipv4(17, 0x00b9, &PORTS), true),
            (ipv4(99, 0, &PORTS), false),
            (ipv4(1, 0, &PORTS), false),
            (ipv6(17, &PORTS), true),
            (ipv6(58, &PORTS), false),
            (ipv6(44, &[17, 0, 0, 1, 0, 0, 0, 9]), false),
            (vec![], false),
        ] {
            assert_eq!(is_traffic(&packet), is, "{packet:02x?}");
        }
    }

    #[test]
    fn a_cut_off_or_endless_chain_ends_the_walk() {
        let cut = Parsed::of(&ipv6(60, &[6, 1, 0, 0, 0, 0, 0, 0])).expect("a packet");
        assert_eq!((cut.protocol, cut.transport, cut.ports), (60, 40, None));
        let none = Parsed::of(&ipv6(0, &[])).expect("a packet");
        assert_eq!((none.protocol, none.transport), (0, 40));
        let endless: Vec<u8> = [60u8, 0, 0, 0, 0, 0, 0, 0].repeat(100);
        let endless = Parsed::of(&ipv6(60, &endless)).expect("a packet");
        assert_eq!((endless.protocol, endless.transport), (60, 40 + 8 * MAX_EXTENSIONS));
    }

    #[test]
    fn i7_lengths_that_lie_are_malformed() {
        let v4 = ipv4(17, 0, &PORTS);
        let v6 = ipv6(17, &PORTS);
        let with = |packet: &[u8], at: usize, value: u8| {
            let mut packet = packet.to_vec();
            packet[at] = value;
            packet
        };
        let set_length =
            |packet: &[u8], at: usize, value: u16| with(&with(packet, at, (value >> 8) as u8), at + 1, value as u8);
        let bad: Vec<Vec<u8>> = vec![
            vec![],
            vec![0x45],
            vec![0x60],
            v4[..19].to_vec(),
            v6[..39].to_vec(),
            with(&v4, 0, 0x05),
            with(&v4, 0, 0x55),
            with(&v4, 0, 0xf5),
            with(&v4, 0, 0x44),
            with(&v4, 0, 0x48),
            set_length(&v4, 2, 29),
            set_length(&v4, 2, 19),
            set_length(&v4, 2, 0),
            set_length(&v4, 2, 0xffff),
            set_length(&v6, 4, 9),
            set_length(&v6, 4, 0xffff),
        ];
        for packet in bad {
            assert_eq!(source_and_length(&packet), Err(Drop::MalformedInner), "{packet:02x?}");
            assert_eq!(Parsed::of(&packet), None, "{packet:02x?}");
        }
        assert_eq!(source_and_length(&v4).map(|x| x.1), Ok(28));
        assert_eq!(source_and_length(&set_length(&v6, 4, 0)).map(|x| x.1), Ok(40));
    }

    #[test]
    fn bytes_behind_the_declared_length_are_padding() {
        for packet in [ipv4(17, 0, &PORTS), ipv6(17, &PORTS)] {
            let padded = [&packet[..], &[0; 15]].concat();
            assert_eq!(Parsed::of(&padded), Parsed::of(&packet));
            assert_eq!(source_and_length(&padded).map(|x| x.1), Ok(packet.len()));
        }
        // Ports are not read out of the padding.
        let short = [ipv4(17, 0, &[0, 53]), PORTS.to_vec()].concat();
        assert_eq!(Parsed::of(&short).and_then(|p| p.ports), None);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_within_bounds(mut packet in prop::collection::vec(any::<u8>(), 0..200), version in 0u8..16, lying in any::<bool>()) {
            let length = packet.len();
            if let [first, _, a, b, c, d, ..] = &mut packet[..] {
                *first = *first & 0x0f | version << 4;
                if !lying {
                    [*a, *b] = (length as u16).to_be_bytes();
                    if version == 6 {
                        [*c, *d] = (length.saturating_sub(40) as u16).to_be_bytes();
                    }
                }
            }
            let checked = source_and_length(&packet);
            match Parsed::of(&packet) {
                Some(parsed) => {
                    prop_assert!(parsed.version == version && (version == 4 || version == 6));
                    prop_assert!(parsed.length <= packet.len() && parsed.transport <= parsed.length);
                    prop_assert_eq!(checked, Ok((parsed.source, parsed.length)));
                    prop_assert_eq!(destination(&packet), Some(parsed.destination));
                }
                None => prop_assert_eq!(checked, Err(Drop::MalformedInner)),
            }
        }
    }
}
