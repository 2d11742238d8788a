//! Cookies that a peer under load has given us (whitepaper 5.4.7): they belong to the peer, not to one handshake, and go
//! into what we send next, initiation or response.

use super::admission::{cookie_key, mac, Mac, MAC_LEN};
use crate::observe::drop::Drop;
use crate::plan::PublicKey;
use crate::time::Tick;
use crate::wire::wireguard::{sender, COOKIE_REPLY_LEN};
use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305};
use core::time::Duration;

/// A cookie is good for this long; whoever gave it changes its secret as often.
pub const COOKIE_EXPIRATION_TIME: Duration = Duration::from_secs(120);

/// What is known for one peer.
#[derive(Default)]
pub struct Cookies {
    /// The last handshake message that went out: its sender index, and its mac1, which seals a reply to it.
    sent: Option<(u32, Mac)>,
    held: Option<(Mac, Tick)>,
}

impl Cookies {
    /// Finish a handshake message that is about to go out: with a cookie, mac2 shows that we have it.
    pub fn sign(&mut self, message: &mut [u8], now: Tick) {
        let Some(mac2) = message.len().checked_sub(MAC_LEN) else { return };
        let mut mac1 = [0; MAC_LEN];
        mac1.copy_from_slice(&message[mac2 - MAC_LEN..mac2]);
        self.sent = Some((sender(message), mac1));
        let fresh = self.held.filter(|(_, since)| now.since(*since) < COOKIE_EXPIRATION_TIME);
        let signature = fresh.map_or([0; MAC_LEN], |(cookie, _)| mac(&cookie, &message[..mac2]));
        message[mac2..].copy_from_slice(&signature);
    }

    /// Take a reply of `peer` to the last message; a second one to the same message is as good as the first.
    pub fn take(&mut self, peer: &PublicKey, reply: &[u8; COOKIE_REPLY_LEN], now: Tick) -> Result<(), Drop> {
        let (index, mac1) = self.sent.ok_or(Drop::UnknownIndex)?;
        if sender(reply) != index {
            return Err(Drop::UnknownIndex);
        }
        let mut cookie = [0; MAC_LEN];
        cookie.copy_from_slice(&reply[32..48]);
        let opened = XChaCha20Poly1305::new(&cookie_key(peer).into()).decrypt_in_place_detached(
            reply[8..32].into(),
            &mac1,
            &mut cookie,
            reply[48..64].into(),
        );
        opened.map_err(|_| Drop::BadHandshake)?;
        self.held = Some((cookie, now));
        Ok(())
    }
}
