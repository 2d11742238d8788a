//! wgengine's Noise engine: boringtun, and what it lacks (the rows of C3 that tests here bear the names of).
//!
//! One [`Boring`] is one handshake and the session that comes of it. boringtun's `Tunn` holds more: eight sessions and a
//! set of polled timers. None of that is used: a fresh `Tunn` for each handshake keeps its clock at zero, so that no
//! session is born old, expires early, or is chosen by a coarse time stamp (C3 row 9, boringtun issue 495). When to
//! shake hands, which session to use and when to forget it is `wgengine_core::tunnel`'s to say.

mod engine;
mod identity;
mod initiation;
mod low_order;

pub use engine::Boring;
pub use identity::Identity;
pub use initiation::{read_initiation, Sender};
pub use low_order::is_low_order;

/// A new private key, clamped as Curve25519 wants it.
pub fn generate_private() -> wgengine_core::plan::Secret {
    let secret = x25519_dalek::StaticSecret::random_from_rng(rand_core::OsRng);
    clamp(wgengine_core::plan::Secret(secret.to_bytes()))
}

/// A new pre-shared key: 32 random bytes.
pub fn generate_psk() -> wgengine_core::plan::Secret {
    let mut bytes = [0; 32];
    rand_core::RngCore::fill_bytes(&mut rand_core::OsRng, &mut bytes);
    wgengine_core::plan::Secret(bytes)
}

/// The bits that Curve25519 fixes in a private key.
pub fn clamp(mut secret: wgengine_core::plan::Secret) -> wgengine_core::plan::Secret {
    secret.0[0] &= 248;
    secret.0[31] = (secret.0[31] & 127) | 64;
    secret
}

/// The public key of a private one.
pub fn public_of(secret: &wgengine_core::plan::Secret) -> wgengine_core::plan::PublicKey {
    let secret = x25519_dalek::StaticSecret::from(secret.0);
    wgengine_core::plan::PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
}
