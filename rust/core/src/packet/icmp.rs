//! ICMP echo, IPv4 and IPv6 (RFC 792; RFC 4443, 4): a request with an identity of our own, and what answers it.

use super::build;
use super::checksum::Sum;
use super::parse::{protocol, Parsed};
use std::net::IpAddr;

/// Type, code, checksum, identifier, sequence number.
const ECHO_HEADER: usize = 8;

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// The identifier and the sequence number: what a reply repeats.
pub type EchoId = [u8; 4];

/// Which half of an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Request,
    Reply,
}

/// An echo whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo<'a> {
    pub half: Half,
    pub id: EchoId,
    pub payload: &'a [u8],
}

impl Echo<'_> {
    /// The echo in `packet`, whose header says `parsed`: whole, and ICMP of its own family.
    pub fn of<'a>(parsed: &Parsed, packet: &'a [u8]) -> Option<Echo<'a>> {
        let six = match (parsed.version, parsed.protocol) {
            (4, protocol::ICMP) => false,
            (6, protocol::ICMPV6) => true,
            _ => return None,
        };
        if parsed.fragment.is_some() {
            return None;
        }
        let message = packet.get(parsed.transport..parsed.length)?;
        let [kind, code, _, _, a, b, c, d] = *message.first_chunk::<ECHO_HEADER>()?;
        let half = match (kind, six) {
            (ECHO_REQUEST_V4, false) | (ECHO_REQUEST_V6, true) => Half::Request,
            (ECHO_REPLY_V4, false) | (ECHO_REPLY_V6, true) => Half::Reply,
            _ => return None,
        };
        let intact = pseudo_header(parsed.source, parsed.destination, message.len())?.bytes(message).is_intact();
        let echo = Echo { half, id: [a, b, c, d], payload: &message[ECHO_HEADER..] };
        (code == 0 && intact).then_some(echo)
    }
}

/// ICMPv6 sums the addresses, too; ICMP does not.
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> Option<Sum> {
    match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) => Some(Sum::new()),
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Some(Sum::pseudo_header(&source.octets(), protocol::ICMPV6, length).bytes(&destination.octets()))
        }
        _ => None,
    }
}

/// An echo as a packet; `None` when the addresses are of different families, or it would be too long.
pub fn echo(source: IpAddr, destination: IpAddr, ip_id: u16, echo: &Echo<'_>) -> Option<Vec<u8>> {
    let (kind, protocol) = match (echo.half, source.is_ipv6()) {
        (Half::Request, false) => (ECHO_REQUEST_V4, protocol::ICMP),
        (Half::Reply, false) => (ECHO_REPLY_V4, protocol::ICMP),
        (Half::Request, true) => (ECHO_REQUEST_V6, protocol::ICMPV6),
        (Half::Reply, true) => (ECHO_REPLY_V6, protocol::ICMPV6),
    };
    let mut message = Vec::with_capacity(ECHO_HEADER + echo.payload.len());
    message.extend([kind, 0, 0, 0]);
    message.extend(echo.id);
    message.extend(echo.payload);
    let sum = pseudo_header(source, destination, message.len())?.bytes(&message).checksum();
    message[2..4].copy_from_slice(&sum);
    build::ip(source, destination, protocol, ip_id, &message)
}

/// The answer to an echo request; `None` to anything else.
pub fn answer(parsed: &Parsed, packet: &[u8]) -> Option<Vec<u8>> {
    let asked = Echo::of(parsed, packet).filter(|echo| echo.half == Half::Request)?;
    let reply = Echo { half: Half::Reply, ..asked };
    echo(parsed.destination, parsed.source, !build::id(packet)?, &reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FOUR: [&str; 2] = ["192.0.2.1", "198.51.100.7"];
    const SIX: [&str; 2] = ["2001:db8::1", "2001:db8::2"];

    fn request(addresses: [&str; 2], id: EchoId, payload: &[u8]) -> Vec<u8> {
        let [a, b] = addresses.map(|text| text.parse().expect("address"));
        echo(a, b, 7, &Echo { half: Half::Request, id, payload }).expect("fits")
    }

    fn read(packet: &[u8]) -> Option<Echo<'_>> {
        Echo::of(&Parsed::of(packet)?, packet)
    }

    /// The bytes that `ping -c 1 -s 4 -p 61` sends, up to its identifier.
    #[test]
    fn requests_are_those_of_ping() {
        let packet = request(FOUR, [0x12, 0x34, 0, 1], b"aaaa");
        assert_eq!(packet[20..], [8, 0, 0x23, 0x08, 0x12, 0x34, 0, 1, 0x61, 0x61, 0x61, 0x61]);
        let packet = request(SIX, [0x12, 0x34, 0, 1], b"");
        assert_eq!((packet[6], packet[40], packet[41]), (58, 128, 0));
        assert_eq!(packet[42..44], [0x12, 0x13], "the addresses are summed, too");
    }

    #[test]
    fn row_10_the_id_is_read_behind_ip_options() {
        let mut packet = request(FOUR, [9, 8, 7, 6], b"");
        packet[0] = 0x47;
        packet.splice(20..20, [1; 8]);
        let length = (packet.len() as u16).to_be_bytes();
        packet[2..4].copy_from_slice(&length);
        assert_eq!(read(&packet).map(|echo| echo.id), Some([9, 8, 7, 6]));
        // Behind a hop-by-hop header.
        let mut packet = request(SIX, [9, 8, 7, 6], b"");
        packet.splice(40..40, [58, 0, 1, 4, 0, 0, 0, 0]);
        (packet[6], packet[5]) = (0, packet[5] + 8);
        assert_eq!(read(&packet).map(|echo| echo.id), Some([9, 8, 7, 6]));
    }

    #[test]
    fn an_answer_repeats_what_was_asked_and_nothing_answers_an_answer() {
        for addresses in [FOUR, SIX] {
            let packet = request(addresses, [1, 2, 3, 4], b"payload");
            let parsed = Parsed::of(&packet).expect("a packet");
            let answer = answer(&parsed, &packet).expect("an answer");
            assert_eq!(read(&answer), Some(Echo { half: Half::Reply, id: [1, 2, 3, 4], payload: b"payload" }));
            let turned = Parsed::of(&answer).expect("a packet");
            assert_eq!((turned.source, turned.destination), (parsed.destination, parsed.source));
            assert_eq!(build::id(&answer), Some(!7));
            assert_eq!(super::answer(&turned, &answer), None);
        }
    }

    #[test]
    fn what_is_damaged_cut_or_another_familys_is_no_echo() {
        let four = request(FOUR, [1, 2, 3, 4], b"payload");
        let six = request(SIX, [1, 2, 3, 4], b"payload");
        let with = |packet: &[u8], at: usize, value: u8| {
            let mut packet = packet.to_vec();
            packet[at] = value;
            packet
        };
        assert!(read(&four).is_some() && read(&six).is_some());
        for damaged in [
            with(&four, 30, 0),   // a payload byte, so the checksum
            with(&six, 50, 0),    // the same
            with(&four, 9, 58),   // ICMPv6 over IPv4
            with(&six, 6, 1),     // ICMP over IPv6
            with(&four, 6, 0x20), // a first fragment
            with(&four, 20, 3),   // unreachable
            with(&four, 3, 24),   // declared too short
        ] {
            assert_eq!(read(&damaged), None, "{damaged:02x?}");
        }
    }

    proptest! {
        #[test]
        fn a_turned_bit_of_the_message_makes_it_no_echo(id in any::<EchoId>(), payload in prop::collection::vec(any::<u8>(), 0..64), flip in any::<prop::sample::Index>(), bit in 0u8..8, six in any::<bool>()) {
            let mut packet = request(if six { SIX } else { FOUR }, id, &payload);
            prop_assert_eq!(read(&packet).map(|echo| (echo.id, echo.payload.to_vec())), Some((id, payload)));
            let start = if six { 40 } else { 20 };
            let at = start + flip.index(packet.len() - start);
            packet[at] ^= 1 << bit;
            prop_assert_eq!(read(&packet), None);
        }
    }
}
