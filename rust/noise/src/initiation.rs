//! Who sent an initiation, and when: read before boringtun sees it.
//!
//! boringtun keeps the newest timestamp inside the engine that it is about to replace, and shows it to nobody (C3 row
//! 12). So we read both encrypted fields ourselves (whitepaper 5.4.2) and keep the timestamp with the peer's row.

use crate::identity::Identity;
use crate::low_order::is_low_order;
use blake2::digest::{consts::U32, Digest, FixedOutput, Update};
use blake2::Blake2s256;
use hmac::{Mac, SimpleHmac};
use ring::aead::{Aad, LessSafeKey, Nonce, UnboundKey, CHACHA20_POLY1305};
use wgengine_core::observe::drop::Drop;
use wgengine_core::plan::PublicKey;
use wgengine_core::tunnel::noise::Timestamp;
use wgengine_core::wire::wireguard::INITIATION_LEN;
use x25519_dalek::PublicKey as Point;
use zeroize::Zeroizing;

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";

type Key = Zeroizing<[u8; 32]>;

/// An initiation whose sender is known, and the state to open its timestamp with.
pub struct Sender {
    pub key: PublicKey,
    chaining: Key,
    hash: [u8; 32],
    sealed_timestamp: [u8; 28],
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2s256::new();
    for part in parts {
        Digest::update(&mut state, part);
    }
    let out: blake2::digest::generic_array::GenericArray<u8, U32> = Digest::finalize(state);
    out.into()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Result<Key, Drop> {
    let mut mac = SimpleHmac::<Blake2s256>::new_from_slice(key).map_err(|_| Drop::BadHandshake)?;
    for part in parts {
        Update::update(&mut mac, part);
    }
    Ok(Zeroizing::new(FixedOutput::finalize_fixed(mac).into()))
}

/// KDF of two outputs: the next chaining key, and a key to open with.
fn kdf2(chaining: &[u8], input: &[u8]) -> Result<(Key, Key), Drop> {
    let secret = hmac(chaining, &[input])?;
    let first = hmac(&secret[..], &[&[1]])?;
    let second = hmac(&secret[..], &[&first[..], &[2]])?;
    Ok((first, second))
}

/// Open in place; what was sealed under nonce 0 with `aad`.
fn open<'a>(key: &Key, aad: &[u8; 32], sealed: &'a mut [u8]) -> Result<&'a [u8], Drop> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &key[..]).map_err(|_| Drop::BadHandshake)?;
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let plain = LessSafeKey::new(key).open_in_place(nonce, Aad::from(aad), sealed);
    plain.map(|plain| &*plain).map_err(|_| Drop::BadHandshake)
}

/// One Diffie-Hellman: whose key is inside? Call only when mac1 fits.
pub fn read_initiation(identity: &Identity, message: &[u8; INITIATION_LEN]) -> Result<Sender, Drop> {
    let mut ephemeral = [0; 32];
    ephemeral.copy_from_slice(&message[8..40]);
    let mut sealed_static = [0; 48];
    sealed_static.copy_from_slice(&message[40..88]);
    let mut sealed_timestamp = [0; 28];
    sealed_timestamp.copy_from_slice(&message[88..116]);

    let construction = hash(&[CONSTRUCTION]);
    let transcript = hash(&[&construction, IDENTIFIER]);
    let transcript = hash(&[&transcript, identity.point().as_bytes()]);
    let transcript = hash(&[&transcript, &ephemeral]);
    let chaining = hmac(&hmac(&construction, &[&ephemeral])?[..], &[&[1]])?;
    if is_low_order(&ephemeral) {
        return Err(Drop::LowOrderKey);
    }
    let shared = identity.private.diffie_hellman(&Point::from(ephemeral));
    let (chaining, key) = kdf2(&chaining[..], shared.as_bytes())?;
    let mut opened = sealed_static;
    let mut theirs = [0; 32];
    theirs.copy_from_slice(open(&key, &transcript, &mut opened)?);
    let transcript = hash(&[&transcript, &sealed_static]);
    Ok(Sender { key: PublicKey(theirs), chaining, hash: transcript, sealed_timestamp })
}

impl Sender {
    /// A second Diffie-Hellman, worth it only when the key is a peer's: does the sender own the key, and when did it send?
    pub fn timestamp(&self, identity: &Identity) -> Result<Timestamp, Drop> {
        if is_low_order(&self.key.0) {
            return Err(Drop::LowOrderKey);
        }
        let shared = identity.private.diffie_hellman(&Point::from(self.key.0));
        let (_, key) = kdf2(&self.chaining[..], shared.as_bytes())?;
        let mut opened = self.sealed_timestamp;
        let mut timestamp = [0; 12];
        timestamp.copy_from_slice(open(&key, &self.hash, &mut opened)?);
        Ok(timestamp)
    }
}
