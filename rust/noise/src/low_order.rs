//! Public keys that make every shared secret zero (C3 row 7): boringtun takes them, the kernel does not.

/// The points of order 1, 2, 4 and 8 in all their encodings, bit 255 (which Curve25519 ignores) cleared.
const POINTS: [[u8; 32]; 7] = [
    [0; 32],
    first_byte([0; 32], 1),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09,
        0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04, 0x44,
        0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    first_byte(TOP, 0xec),
    first_byte(TOP, 0xed),
    first_byte(TOP, 0xee),
];

/// 2^255 - 1, little-endian: the prime and its neighbours differ in the first byte only.
const TOP: [u8; 32] = {
    let mut top = [0xff; 32];
    top[31] = 0x7f;
    top
};

const fn first_byte(mut point: [u8; 32], byte: u8) -> [u8; 32] {
    point[0] = byte;
    point
}

/// Does every shared secret with this key of 32 bytes come out as zero?
pub fn is_low_order(key: &[u8]) -> bool {
    let Ok(mut point) = <[u8; 32]>::try_from(key) else { return false };
    point[31] &= 0x7f;
    POINTS.contains(&point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use x25519_dalek::{PublicKey as Point, StaticSecret};

    /// What the list is to foretell, by a Diffie-Hellman: a clamped scalar is a multiple of the cofactor 8.
    fn gives_zero(key: [u8; 32]) -> bool {
        !StaticSecret::from([0x55; 32]).diffie_hellman(&Point::from(key)).was_contributory()
    }

    #[test]
    fn c3_7_low_order_keys_are_known() {
        for mut point in POINTS {
            assert!(gives_zero(point) && is_low_order(&point), "{point:02x?}");
            point[31] |= 0x80;
            assert!(gives_zero(point) && is_low_order(&point), "{point:02x?}, bit 255 set");
        }
    }

    #[test]
    fn neighbours_and_ordinary_keys_are_not() {
        for point in POINTS {
            for bit in 0..255 {
                let mut key = point;
                key[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(gives_zero(key), is_low_order(&key), "{key:02x?}");
            }
        }
        assert!(!is_low_order(&crate::public_of(&crate::generate_private()).0));
    }
}
