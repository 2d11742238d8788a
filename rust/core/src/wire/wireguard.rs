//! The four WireGuard messages as they lie on the wire (whitepaper 5.4), size-checked before anything is read.

use crate::observe::drop::Drop;

pub const INITIATION: u32 = 1;
pub const RESPONSE: u32 = 2;
pub const COOKIE_REPLY: u32 = 3;
pub const DATA: u32 = 4;

pub const INITIATION_LEN: usize = 148;
pub const RESPONSE_LEN: usize = 92;
pub const COOKIE_REPLY_LEN: usize = 64;
/// type, receiver, counter: what stands before the ciphertext of a data message
pub const DATA_HEADER_LEN: usize = 16;
pub const TAG_LEN: usize = 16;
/// What sealing adds to a plaintext.
pub const DATA_OVERHEAD: usize = DATA_HEADER_LEN + TAG_LEN;
/// A data message without a plaintext.
pub const KEEPALIVE_LEN: usize = DATA_OVERHEAD;
/// Plaintexts are zero-padded to a multiple of this (whitepaper 5.4.6).
pub const PADDING: usize = 16;

/// A datagram of a known type and a length that fits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Initiation(&'a [u8; INITIATION_LEN]),
    Response(&'a [u8; RESPONSE_LEN]),
    CookieReply(&'a [u8; COOKIE_REPLY_LEN]),
    Data(Data<'a>),
}

/// A data message: header in clear, then the sealed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    pub receiver: u32,
    pub counter: u64,
    pub datagram: &'a [u8],
}

/// Four little-endian bytes at `at`; the callers below have checked the length.
fn le32(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

impl<'a> Message<'a> {
    /// Type and length are all that is judged; the reserved bytes must be zero.
    pub fn parse(datagram: &'a [u8]) -> Result<Message<'a>, Drop> {
        if datagram.len() < 4 {
            return Err(Drop::MalformedMessage);
        }
        let sized = match le32(datagram, 0) {
            INITIATION => datagram.try_into().ok().map(Message::Initiation),
            RESPONSE => datagram.try_into().ok().map(Message::Response),
            COOKIE_REPLY => datagram.try_into().ok().map(Message::CookieReply),
            DATA if datagram.len() >= DATA_OVERHEAD => {
                let mut counter = [0; 8];
                counter.copy_from_slice(&datagram[8..16]);
                let (receiver, counter) = (le32(datagram, 4), u64::from_le_bytes(counter));
                Some(Message::Data(Data { receiver, counter, datagram }))
            }
            _ => None,
        };
        sized.ok_or(Drop::MalformedMessage)
    }
}

/// The index that the sender of an initiation or response wants to be addressed by.
pub fn sender(message: &[u8]) -> u32 {
    le32(message, 4)
}

/// The index that a response (at 8) or a cookie reply (at 4) is addressed to.
pub fn receiver(message: Message<'_>) -> Option<u32> {
    match message {
        Message::Initiation(_) => None,
        Message::Response(m) => Some(le32(m, 8)),
        Message::CookieReply(m) => Some(le32(m, 4)),
        Message::Data(d) => Some(d.receiver),
    }
}

/// Length of a plaintext after padding: to a multiple of 16, but not beyond the MTU (as the kernel does, netns.sh N5).
pub fn padded(len: usize, mtu: usize) -> usize {
    if len > mtu {
        // A super-packet's leftover or a lowered MTU: the last part alone is what may be padded.
        let over = len % mtu.max(1);
        return len - over + padded(over, mtu.max(1));
    }
    len.next_multiple_of(PADDING).min(mtu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_every_type_is_judged_without_a_panic() {
        for kind in 0..=255u8 {
            for len in 0..=2048usize {
                let mut datagram = vec![0u8; len];
                if let Some(first) = datagram.first_mut() {
                    *first = kind;
                }
                let right = matches!((kind, len), (1, 148) | (2, 92) | (3, 64)) || (kind == 4 && len >= 32);
                assert_eq!(Message::parse(&datagram).is_ok(), right, "type {kind}, {len} bytes");
            }
        }
    }

    #[test]
    fn reserved_bytes_must_be_zero() {
        let mut datagram = [0u8; INITIATION_LEN];
        datagram[0] = 1;
        assert!(Message::parse(&datagram).is_ok());
        datagram[2] = 1;
        assert_eq!(Message::parse(&datagram), Err(Drop::MalformedMessage));
    }

    #[test]
    fn padding_stops_at_the_mtu() {
        for (len, want) in [(0, 0), (84, 96), (96, 96), (97, 112), (1392, 1392), (1420, 1420), (1419, 1420)] {
            assert_eq!(padded(len, 1420), want);
        }
    }
}
