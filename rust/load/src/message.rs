//! Datagrams as a hostile sender makes them: right in as much as their kind says, and wrong in the rest.

use crate::random::Random;
use blake2::digest::{consts::U16, Digest, FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use wgengine_core::plan::PublicKey;
use wgengine_core::wire::wireguard::{
    Message, COOKIE_REPLY, COOKIE_REPLY_LEN, DATA, DATA_OVERHEAD, INITIATION, INITIATION_LEN,
};

const MAC_LEN: usize = 16;
/// Of bad lengths: what fits a path of 1,500 bytes.
const LONGEST: u64 = 1472;

fn random(random: &mut Random, kind: u32, len: usize) -> Vec<u8> {
    let mut message = vec![0; len];
    random.fill(&mut message);
    for (byte, right) in message.iter_mut().zip(kind.to_le_bytes()) {
        *byte = right;
    }
    message
}

/// A type that exists, with a length that it does not have.
pub fn bad_length(source: &mut Random) -> Vec<u8> {
    loop {
        let (kind, len) = (1 + source.below(4) as u32, source.below(LONGEST + 1) as usize);
        let message = random(source, kind, len);
        if Message::parse(&message).is_err() {
            return message;
        }
    }
}

/// An initiation of noise.
pub fn bad_mac1(source: &mut Random) -> Vec<u8> {
    random(source, INITIATION, INITIATION_LEN)
}

/// The same with a mac1 that fits: whoever gets it must do a Diffie-Hellman to see that it is noise.
pub fn good_mac1(source: &mut Random, receiver: &PublicKey) -> Vec<u8> {
    let mut message = random(source, INITIATION, INITIATION_LEN);
    let key = Digest::finalize(Digest::chain_update(Digest::chain_update(Blake2s256::new(), b"mac1----"), receiver.0));
    let body = INITIATION_LEN - 2 * MAC_LEN;
    // BLAKE2s takes a key of 32 bytes.
    if let Ok(mut mac) = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key) {
        mac.update(&message[..body]);
        message[body..body + MAC_LEN].copy_from_slice(&mac.finalize_fixed());
    }
    message[body + MAC_LEN..].fill(0);
    message
}

/// Data for a session that nobody has.
pub fn unknown_index(source: &mut Random, plain: usize) -> Vec<u8> {
    random(source, DATA, plain + DATA_OVERHEAD)
}

/// Data for a session that somebody has: the header of a true message, and noise.
pub fn forged(source: &mut Random, like: &[u8], counter: u64) -> Vec<u8> {
    let mut message = random(source, DATA, like.len());
    message[..8].copy_from_slice(&like[..8]);
    message[8..16].copy_from_slice(&counter.to_le_bytes());
    message
}

/// A cookie that nobody has asked for.
pub fn cookie_reply(source: &mut Random) -> Vec<u8> {
    random(source, COOKIE_REPLY, COOKIE_REPLY_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgengine_core::tunnel::admission::Admission;

    #[test]
    fn each_kind_is_wrong_in_just_what_it_says() {
        let mut source = Random::new(3);
        let us = PublicKey([9; 32]);
        let admission = Admission::new(&us);
        for _ in 0..500 {
            assert!(Message::parse(&bad_length(&mut source)).is_err());
            assert!(!admission.mac1_fits(&bad_mac1(&mut source)));
            let good = good_mac1(&mut source, &us);
            assert!(matches!(Message::parse(&good), Ok(Message::Initiation(_))) && admission.mac1_fits(&good));
            let unknown = unknown_index(&mut source, 64);
            assert!(matches!(Message::parse(&unknown), Ok(Message::Data(_))));
            assert!(matches!(Message::parse(&cookie_reply(&mut source)), Ok(Message::CookieReply(_))));
            let Ok(Message::Data(data)) = Message::parse(&unknown) else { continue };
            let forged = forged(&mut source, &unknown, 5);
            assert!(
                matches!(Message::parse(&forged), Ok(Message::Data(d)) if d.receiver == data.receiver && d.counter == 5)
            );
        }
    }
}
