//! The Internet checksum against two bytes at a time.

use crate::bytes::{slow_sum, Bytes};
use wgengine_core::packet::checksum::Sum;

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (cut, word) = (usize::from(bytes.word()), bytes.word());
    let rest = bytes.take(data.len());
    let (head, tail) = rest.split_at((cut % (rest.len() + 1)) & !1);
    let expected = slow_sum(&[&word.to_be_bytes(), rest]);
    let sum = Sum::new().word(word).bytes(head).bytes(tail);
    assert_eq!(sum.partial(), expected.to_be_bytes());
    assert_eq!(sum.checksum(), (!expected).to_be_bytes());
    assert_eq!(sum.is_intact(), expected == 0xffff);
    let udp = if expected == 0xffff { 0xffff } else { !expected };
    assert_eq!(sum.udp_checksum(), udp.to_be_bytes(), "zero means that there is none");
}
