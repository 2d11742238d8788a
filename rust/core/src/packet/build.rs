//! Make an IP packet that the engine sends in its own name.

use super::checksum::Sum;
use super::parse::{IPV4_HEADER, IPV6_HEADER};
use std::net::IpAddr;

/// Hops that such a packet may take.
const HOPS: u8 = 64;

/// An IP packet without options or extension headers. `id` is IPv4's identification, and IPv6's flow label. `None` when
/// the addresses are of different families, or `payload` is longer than a packet's length field can say.
pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, id: u16, payload: &[u8]) -> Option<Vec<u8>> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = u16::try_from(IPV4_HEADER + payload.len()).ok()?;
            let mut packet = Vec::with_capacity(length.into());
            packet.extend([0x45, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend(id.to_be_bytes());
            packet.extend([0, 0, HOPS, protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            let sum = Sum::new().bytes(&packet).checksum();
            packet[10..12].copy_from_slice(&sum);
            packet.extend(payload);
            Some(packet)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = u16::try_from(payload.len()).ok()?;
            let mut packet = Vec::with_capacity(IPV6_HEADER + payload.len());
            packet.extend([0x60, 0]);
            packet.extend(id.to_be_bytes());
            packet.extend(length.to_be_bytes());
            packet.extend([protocol, HOPS]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            packet.extend(payload);
            Some(packet)
        }
        _ => None,
    }
}

/// What [`ip`] takes as `id`, read from a packet.
pub fn id(packet: &[u8]) -> Option<u16> {
    let at = match packet.first()? >> 4 {
        4 => 4,
        6 => 2,
        _ => return None,
    };
    packet.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::super::parse::Parsed;
    use super::*;
    use proptest::prelude::*;

    const FOUR: [&str; 2] = ["192.0.2.1", "198.51.100.7"];
    const SIX: [&str; 2] = ["2001:db8::1", "2001:db8::2"];

    fn addresses(texts: [&str; 2]) -> (IpAddr, IpAddr) {
        (texts[0].parse().expect("address"), texts[1].parse().expect("address"))
    }

    #[test]
    fn families_are_not_mixed_and_lengths_do_not_lie() {
        let ((a, b), (c, d)) = (addresses(FOUR), addresses(SIX));
        assert_eq!((ip(a, d, 99, 0, &[]), ip(c, b, 99, 0, &[])), (None, None));
        let longest = vec![0; 65_535 - IPV4_HEADER];
        assert!(ip(a, b, 99, 0, &longest).is_some());
        assert_eq!(ip(a, b, 99, 0, &[&longest[..], &[0]].concat()), None);
        assert!(ip(c, d, 99, 0, &[0; 65_535]).is_some());
        assert_eq!(ip(c, d, 99, 0, &[0; 65_536]), None);
    }

    proptest! {
        #[test]
        fn what_is_built_is_what_is_parsed(id in any::<u16>(), protocol in 100u8..132, payload in prop::collection::vec(any::<u8>(), 0..200), six in any::<bool>()) {
            let (source, destination) = addresses(if six { SIX } else { FOUR });
            let packet = ip(source, destination, protocol, id, &payload).expect("fits");
            let parsed = Parsed::of(&packet).expect("a packet");
            prop_assert_eq!((parsed.source, parsed.destination, parsed.protocol), (source, destination, protocol));
            prop_assert_eq!((parsed.length, &packet[parsed.transport..], parsed.fragment), (packet.len(), &payload[..], None));
            prop_assert_eq!(super::id(&packet), Some(id));
            prop_assert!(six || Sum::new().bytes(&packet[..IPV4_HEADER]).is_intact());
        }
    }
}
