//! Where a request ends in a stream of bytes. A connection may carry several requests, one after another.

use super::request::Refusal;

/// The first request in a buffer.
#[derive(Debug)]
pub enum Frame {
    /// Its end has not come yet.
    Partial,
    /// It takes this many bytes, the empty line included.
    Complete(usize),
    /// It cannot become a request, whatever follows; where the next one would begin is unknown.
    Malformed(Refusal),
}

const GET: &[u8; 6] = b"get=1\n";
const SET: &[u8; 6] = b"set=1\n";

/// Looks for the end of the request at the start of `bytes`; the first `searched` bytes are known not to hold it.
///
/// A stranger to the protocol is told at the first wrong byte, so a client with wrong line ends need not wait.
pub fn frame(bytes: &[u8], searched: usize) -> Frame {
    let operation = &bytes[..bytes.len().min(SET.len())];
    if !GET.starts_with(operation) && !SET.starts_with(operation) {
        return Frame::Malformed(Refusal::protocol(
            1,
            "a request begins with the line get=1 or set=1, ended by \\n alone",
        ));
    }
    if bytes.starts_with(GET) {
        return match bytes.get(GET.len()) {
            None => Frame::Partial,
            Some(b'\n') => Frame::Complete(GET.len() + 1),
            Some(_) => Frame::Malformed(Refusal::protocol(2, "get=1 is followed by an empty line and nothing else")),
        };
    }
    // The \n of `set=1` counts: the request may be empty.
    let from = searched.saturating_sub(1).max(SET.len() - 1);
    match bytes.get(from..).and_then(find_empty_line) {
        Some(at) => Frame::Complete(from + at),
        None => Frame::Partial,
    }
}

/// The offset just behind the first `\n\n`.
fn find_empty_line(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(step) = bytes[at..].iter().position(|&byte| byte == b'\n') {
        at += step + 1;
        if bytes.get(at) == Some(&b'\n') {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn complete(bytes: &[u8]) -> Option<usize> {
        match frame(bytes, 0) {
            Frame::Complete(length) => Some(length),
            _ => None,
        }
    }

    #[test]
    fn a_request_ends_with_its_first_empty_line() {
        assert_eq!(complete(b"get=1\n\n"), Some(7));
        assert_eq!(complete(b"get=1\n\nget=1\n\n"), Some(7));
        assert_eq!(complete(b"set=1\n\n"), Some(7));
        assert_eq!(complete(b"set=1\nlisten_port=1\n\nset=1\n\n"), Some(21));
    }

    #[test]
    fn every_shorter_piece_is_partial() {
        for whole in [&b"get=1\n\n"[..], b"set=1\n\n", b"set=1\nlisten_port=1\nfwmark=2\n\n"] {
            for length in 0..whole.len() {
                assert!(matches!(frame(&whole[..length], 0), Frame::Partial), "{length} bytes");
            }
        }
    }

    #[test]
    fn strangers_are_told_at_the_first_wrong_byte() {
        for bytes in [&b"G"[..], b"ge\r", b"get=2", b"get=1\r\n", b"set=1\r", b"\0", b"\n", b"GET / HTTP/1.1\r\n"] {
            assert!(matches!(frame(bytes, 0), Frame::Malformed(_)), "{bytes:?}");
        }
        let Frame::Malformed(refusal) = frame(b"get=1\nx", 0) else { panic!("get takes no lines") };
        assert_eq!(refusal.line, 2);
    }

    proptest! {
        /// However the bytes come in, the answer is that of the whole.
        #[test]
        fn pieces_give_the_same_as_the_whole(body in "[a=\\n]{0,40}", cut in 0usize..60) {
            let whole = format!("set=1\n{body}");
            let cut = cut.min(whole.len());
            let expected = whole.find("\n\n").map(|at| at + 2);
            prop_assert_eq!(complete(whole.as_bytes()), expected);
            if let Frame::Partial = frame(&whole.as_bytes()[..cut], 0) {
                let resumed = match frame(whole.as_bytes(), cut) {
                    Frame::Complete(length) => Some(length),
                    _ => None,
                };
                prop_assert_eq!(resumed, expected);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), searched in 0usize..80) {
            if let Frame::Complete(length) = frame(&bytes, searched) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
