//! Datagrams as they come from strangers: type, length, index, counter; and a MAC that fits only who made it.

use wgengine_core::observe::drop::Drop;
use wgengine_core::plan::PublicKey;
use wgengine_core::time::Tick;
use wgengine_core::tunnel::admission::Admission;
use wgengine_core::tunnel::cookie::Cookies;
use wgengine_core::wire::wireguard::{padded, receiver, sender, Message};

pub fn run(data: &[u8]) {
    let known = |kind: u8, length: usize| data.len() == length && data[..4] == [kind, 0, 0, 0];
    let data_message = data.len() >= 32 && data[..4] == [4, 0, 0, 0];
    let right = known(1, 148) || known(2, 92) || known(3, 64) || data_message;
    match Message::parse(data) {
        Ok(message) => {
            assert!(right);
            let word = |at: usize| u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
            match message {
                Message::Initiation(_) => assert_eq!((receiver(message), sender(data)), (None, word(4))),
                Message::Response(_) => assert_eq!((receiver(message), sender(data)), (Some(word(8)), word(4))),
                Message::CookieReply(reply) => {
                    assert_eq!(receiver(message), Some(word(4)));
                    unasked_cookie(reply);
                }
                Message::Data(told) => {
                    assert_eq!((told.receiver, told.datagram), (word(4), data));
                    assert_eq!(told.counter, u64::from(word(8)) | u64::from(word(12)) << 32);
                    assert_eq!(receiver(message), Some(told.receiver));
                }
            }
        }
        Err(why) => assert!(!right && why == Drop::MalformedMessage),
    }
    // Sixteen bytes that nobody without the key could have chosen.
    assert!(!Admission::new(&PublicKey([7; 32])).mac1_fits(data));
    if let [a, b, c, d, ..] = *data {
        padding(usize::from(u16::from_le_bytes([a, b])), usize::from(u16::from_le_bytes([c, d])));
    }
}

/// A reply to nothing is not taken.
fn unasked_cookie(reply: &[u8; 64]) {
    let mut cookies = Cookies::default();
    assert_eq!(cookies.take(&PublicKey([7; 32]), reply, Tick(0)), Err(Drop::UnknownIndex));
    let mut message = [0; 148];
    message[4..8].copy_from_slice(&reply[4..8]);
    cookies.sign(&mut message, Tick(0));
    assert_eq!(cookies.take(&PublicKey([7; 32]), reply, Tick(0)), Err(Drop::BadHandshake));
}

/// To a multiple of sixteen, never beyond the MTU, never shorter.
fn padding(length: usize, mtu: usize) {
    let after = padded(length, mtu);
    assert!(after >= length && after - length < 16);
    if length <= mtu {
        assert!(after <= mtu && (after.is_multiple_of(16) || after == mtu));
    }
}
