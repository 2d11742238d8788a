//! Where a request ends in a stream of bytes: the same however the stream is cut.

use crate::bytes::Bytes;
use wgengine_core::wire::uapi::{frame, Frame};

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let step = usize::from(bytes.byte()) + 1;
    let stream = bytes.take(data.len());
    let whole = judge(stream, 0);
    assert_eq!(whole, model(stream));
    let (mut searched, mut come) = (0, 0);
    while come < stream.len() {
        come = (come + step).min(stream.len());
        let seen = judge(&stream[..come], searched);
        if seen != Seen::Partial {
            assert_eq!(seen, whole, "{come} bytes of {}", stream.len());
            return;
        }
        searched = come;
    }
    assert_eq!(whole, Seen::Partial);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Partial,
    Complete(usize),
    Malformed,
}

fn judge(bytes: &[u8], searched: usize) -> Seen {
    match frame(bytes, searched) {
        Frame::Partial => Seen::Partial,
        Frame::Complete(length) => Seen::Complete(length),
        Frame::Malformed(refusal) => {
            assert!(refusal.errno < 0 && (1..=2).contains(&refusal.line));
            Seen::Malformed
        }
    }
}

fn model(bytes: &[u8]) -> Seen {
    let begins = |word: &[u8]| word.iter().zip(bytes).all(|(a, b)| a == b);
    if begins(b"get=1\n\n") {
        return if bytes.len() >= 7 { Seen::Complete(7) } else { Seen::Partial };
    }
    if !begins(b"set=1\n") {
        return Seen::Malformed;
    }
    let empty = (5..bytes.len().saturating_sub(1)).find(|&at| &bytes[at..at + 2] == b"\n\n");
    empty.map_or(Seen::Partial, |at| Seen::Complete(at + 2))
}
