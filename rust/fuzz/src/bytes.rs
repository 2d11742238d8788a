//! Bytes as a source of decisions, and the sum that several models need.

/// Reads decisions from the front; past the end all is zero, so that every input means something.
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub fn new(bytes: &'a [u8]) -> Bytes<'a> {
        Bytes(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// Up to `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The Internet checksum's sum, two bytes at a time (RFC 1071).
pub fn slow_sum(parts: &[&[u8]]) -> u16 {
    let add = |sum: u16, word: u16| {
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    };
    parts.iter().fold(0, |sum, part| {
        let word = |pair: &[u8]| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        part.chunks(2).fold(sum, |sum, pair| add(sum, word(pair)))
    })
}

/// The pseudo-header of a transport segment (RFC 793; RFC 8200, 8.1).
pub fn pseudo_header(packet: &[u8], protocol: u8, segment: usize) -> Vec<u8> {
    let addresses = if packet[0] >> 4 == 4 { &packet[12..20] } else { &packet[8..40] };
    [addresses, &(segment as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat()
}
