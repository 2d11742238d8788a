//! What a handshake message must prove before any Diffie-Hellman is spent on it (whitepaper 5.3, 5.4.4).

use crate::plan::PublicKey;
use blake2::digest::{consts::U16, consts::U32, Digest, FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use subtle::ConstantTimeEq;

const LABEL_MAC1: &[u8] = b"mac1----";
const MAC_LEN: usize = 16;

/// Knows who we are, and so who knows us.
#[derive(Clone)]
pub struct Admission {
    mac1_key: [u8; 32],
}

impl Admission {
    pub fn new(ours: &PublicKey) -> Admission {
        let hash: blake2::digest::generic_array::GenericArray<u8, U32> =
            Digest::finalize(Digest::chain_update(Digest::chain_update(Blake2s256::new(), LABEL_MAC1), ours.0));
        Admission { mac1_key: hash.into() }
    }

    /// Does mac1, the 16 bytes before the last 16, show that the sender knows our public key?
    pub fn mac1_fits(&self, message: &[u8]) -> bool {
        let Some(body) = message.len().checked_sub(2 * MAC_LEN) else { return false };
        let Ok(mut mac) = <Blake2sMac<U16> as KeyInit>::new_from_slice(&self.mac1_key) else { return false };
        mac.update(&message[..body]);
        mac.finalize_fixed().ct_eq(&message[body..body + MAC_LEN]).into()
    }
}

impl core::fmt::Debug for Admission {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Admission")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_too_short_for_its_macs_proves_nothing() {
        let admission = Admission::new(&PublicKey([7; 32]));
        for len in 0..200 {
            assert!(!admission.mac1_fits(&vec![0; len]));
        }
    }
}
