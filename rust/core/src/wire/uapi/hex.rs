//! Keys in hex. The run time depends on the length only, so that timing tells nothing about a key.

/// Reads 64 hex digits of either case into `key`. False, with `key` in any state, when `text` is something else.
pub fn decode(text: &str, key: &mut [u8; 32]) -> bool {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return false;
    }
    let mut bad = 0;
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, high_bad) = nibble(pair[0]);
        let (low, low_bad) = nibble(pair[1]);
        *byte = high << 4 | low;
        bad |= high_bad | low_bad;
    }
    bad == 0
}

/// Appends `key` as 64 lower-case hex digits.
pub fn encode(key: &[u8; 32], out: &mut String) {
    for byte in key {
        out.push(digit(byte >> 4));
        out.push(digit(byte & 15));
    }
}

/// The value of one hex digit, and a byte that is not 0 when it is none.
fn nibble(digit: u8) -> (u8, u8) {
    let digit = i16::from(digit);
    let lower = digit | 0x20;
    // Both differences are negative inside the range only; the shift spreads the sign over all bits.
    let is_number = ((0x2f - digit) & (digit - 0x3a)) >> 8;
    let is_letter = ((0x60 - lower) & (lower - 0x67)) >> 8;
    let value = (is_number & (digit - 0x30)) | (is_letter & (lower - 0x57));
    let bad = !(is_number | is_letter);
    ((value & 0xf) as u8, (bad & 0xff) as u8)
}

/// The lower-case hex digit of a value below 16.
fn digit(value: u8) -> char {
    let value = i16::from(value);
    let to_letter = ((9 - value) >> 8) & 0x27;
    char::from((0x30 + value + to_letter) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_goes_round_in_either_case() {
        for byte in 0..=255u8 {
            let key: [u8; 32] = core::array::from_fn(|i| byte.wrapping_add(i as u8));
            let mut text = String::new();
            encode(&key, &mut text);
            let plain: String = key.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(text, plain);
            for text in [text.to_uppercase(), text] {
                let mut back = [0; 32];
                assert!(decode(&text, &mut back));
                assert_eq!(back, key);
            }
        }
    }

    #[test]
    fn every_other_character_is_refused_in_every_place() {
        for byte in 0..128u8 {
            let expected = byte.is_ascii_hexdigit();
            for place in [0, 1, 31, 62, 63] {
                let mut text = [b'a'; 64];
                text[place] = byte;
                let text = core::str::from_utf8(&text).expect("ascii");
                assert_eq!(decode(text, &mut [0; 32]), expected, "character {byte:#x}");
            }
        }
        // Two bytes for one character: the length in bytes is right, the digits are not.
        assert!(!decode(&"é".repeat(32), &mut [0; 32]));
    }

    #[test]
    fn only_64_digits_are_a_key() {
        for length in [0, 1, 2, 43, 44, 62, 63, 65, 66, 128] {
            assert!(!decode(&"0".repeat(length), &mut [0; 32]), "{length} digits");
        }
    }
}
