//! The Internet checksum (RFC 1071): the one's-complement sum of 16-bit words.
//!
//! The sum does not care about byte order (RFC 1071, 2 (B)): words are added as the machine reads them, and the result
//! is stored as the machine writes it. Neither does it care about word size (2 (C)): eight bytes are added at a time,
//! into 128 bits, so that carries need no attention until the end.

/// A sum of 16-bit words, not yet folded to 16 bits. Parts may be added in any order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    pub const fn new() -> Sum {
        Sum(0)
    }

    /// The pseudo-header of RFC 793 and RFC 8200, 8.1: `addresses` are both addresses as they lie in the IP header,
    /// `length` is that of the transport header and its payload.
    pub fn pseudo_header(addresses: &[u8], protocol: u8, length: usize) -> Sum {
        Sum::new().bytes(addresses).word(u16::from(protocol)).word((length >> 16) as u16).word(length as u16)
    }

    /// Adds `bytes`; an odd last byte counts as if a zero followed, so only the last part may be of odd length.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        let (wide, rest) = bytes.as_chunks::<32>();
        let (mut even, mut odd) = (0u128, 0u128);
        for chunk in wide {
            let (words, _) = chunk.as_chunks::<8>();
            even += u128::from(u64::from_ne_bytes(words[0]));
            odd += u128::from(u64::from_ne_bytes(words[1]));
            even += u128::from(u64::from_ne_bytes(words[2]));
            odd += u128::from(u64::from_ne_bytes(words[3]));
        }
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            even += u128::from(u64::from_ne_bytes(*word));
        }
        let (pairs, rest) = rest.as_chunks::<2>();
        for pair in pairs {
            odd += u128::from(u16::from_ne_bytes(*pair));
        }
        if let [last] = rest {
            odd += u128::from(u16::from_ne_bytes([*last, 0]));
        }
        let sum = even + odd;
        // Less than 2^34 for up to 16 GiB, so a billion such parts fit into 64 bits.
        let part = (sum & 0xffff_ffff) + (sum >> 32 & 0xffff_ffff) + (sum >> 64);
        Sum(self.0 + part as u64)
    }

    /// Adds one word, given as a number.
    #[must_use]
    pub fn word(self, value: u16) -> Sum {
        Sum(self.0 + u64::from(value.to_be()))
    }

    fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The checksum, as it lies in a header.
    pub fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// The checksum for UDP, where zero means "none" and is sent as all ones (RFC 768).
    pub fn udp_checksum(self) -> [u8; 2] {
        match self.checksum() {
            [0, 0] => [0xff, 0xff],
            sum => sum,
        }
    }

    /// The sum itself, not inverted: what the field holds while the checksum is still to be completed.
    pub fn partial(self) -> [u8; 2] {
        self.fold().to_ne_bytes()
    }

    /// Whether the bytes summed, their checksum among them, are intact.
    pub fn is_intact(self) -> bool {
        self.fold() == 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 in words: big-endian pairs, end-around carry after each.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            if sum > 0xffff {
                sum = (sum & 0xffff) + 1;
            }
        }
        sum as u16
    }

    #[test]
    fn rfc_1071_example() {
        let sum = Sum::new().bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.partial(), [0xdd, 0xf2]);
        assert_eq!(sum.checksum(), [0x22, 0x0d]);
    }

    #[test]
    fn all_ones_of_every_length_fold_right() {
        let bytes = [0xffu8; 70_000];
        for length in (0..200).chain([65_534, 65_535, 70_000]) {
            assert_eq!(Sum::new().bytes(&bytes[..length]).partial(), slow(&bytes[..length]).to_be_bytes(), "{length}");
        }
    }

    #[test]
    fn a_zero_udp_checksum_is_sent_as_ones() {
        let sum = Sum::new().bytes(&[0xff, 0xff]);
        assert_eq!((sum.checksum(), sum.udp_checksum()), ([0, 0], [0xff, 0xff]));
        assert_eq!(Sum::new().bytes(&[0xff, 0xfe]).udp_checksum(), [0, 1]);
    }

    #[test]
    fn pseudo_headers_are_those_of_the_standards() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 7];
        let written = [192, 0, 2, 1, 198, 51, 100, 7, 0, 6, 0x05, 0xdc];
        assert_eq!(Sum::pseudo_header(&v4, 6, 1500).partial(), slow(&written).to_be_bytes());
        let v6: Vec<u8> = (1..=32).collect();
        let written = [v6.clone(), vec![0, 1, 0x11, 0x70, 0, 0, 0, 17]].concat();
        assert_eq!(Sum::pseudo_header(&v6, 17, 70_000).partial(), slow(&written).to_be_bytes());
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_sum(bytes in prop::collection::vec(any::<u8>(), 0..3000), start in 0usize..9, cut in 0usize..1500) {
            let bytes = &bytes[start.min(bytes.len())..];
            let expected = slow(bytes).to_be_bytes();
            prop_assert_eq!(Sum::new().bytes(bytes).partial(), expected);
            let (head, tail) = bytes.split_at((cut * 2).min(bytes.len() & !1));
            prop_assert_eq!(Sum::new().bytes(head).bytes(tail).partial(), expected);
        }

        #[test]
        fn a_checksum_makes_its_bytes_intact(mut bytes in prop::collection::vec(any::<u8>(), 2..1500), flip in any::<prop::sample::Index>()) {
            bytes[..2].fill(0);
            let sum = Sum::new().bytes(&bytes).checksum();
            bytes[..2].copy_from_slice(&sum);
            prop_assert!(Sum::new().bytes(&bytes).is_intact());
            let at = flip.index(bytes.len());
            bytes[at] ^= 0x10;
            prop_assert!(!Sum::new().bytes(&bytes).is_intact());
        }
    }
}
