//! Cookies that we give while under load, and know again (whitepaper 5.4.7): who shows one receives at the address and
//! port that the message says it came from.

use super::admission::{mac, Mac, MAC_LEN};
use crate::time::Tick;
use crate::wire::wireguard::{sender, COOKIE_REPLY, COOKIE_REPLY_LEN};
use chacha20poly1305::{AeadInPlace, KeyInit, XChaCha20Poly1305};
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The secret behind all cookies is changed as often (whitepaper 5.4.7).
pub const SECRET_MAX_AGE: Duration = Duration::from_secs(120);
pub const SECRET_LEN: usize = 32;
pub const NONCE_LEN: usize = 24;

/// Gives cookies and checks them.
pub struct Checker {
    secret: Zeroizing<[u8; SECRET_LEN]>,
    born: Tick,
}

impl Checker {
    pub fn new(secret: [u8; SECRET_LEN], now: Tick) -> Checker {
        Checker { secret: Zeroizing::new(secret), born: now }
    }

    /// Is its secret too old to go on with?
    pub fn is_stale(&self, now: Tick) -> bool {
        now.since(self.born) >= SECRET_MAX_AGE
    }

    /// Address and port (C3 row 4): hosts behind one NAT must not share a cookie.
    fn cookie(&self, from: SocketAddr) -> Mac {
        let mut name = [0; 18];
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        name[..16].copy_from_slice(&ip.octets());
        name[16..].copy_from_slice(&from.port().to_be_bytes());
        mac(&self.secret[..], &name)
    }

    /// Was mac2, the last 16 bytes, made with the cookie of this sender?
    pub fn mac2_fits(&self, message: &[u8], from: SocketAddr) -> bool {
        let Some(body) = message.len().checked_sub(MAC_LEN) else { return false };
        mac(&self.cookie(from), &message[..body]).ct_eq(&message[body..]).into()
    }

    /// The answer to a message that lacks a cookie: shorter than what it answers, sealed for whoever sent that.
    /// `key` comes of our public key; `nonce` must never be used twice.
    pub fn reply(
        &self,
        key: &[u8; 32],
        message: &[u8],
        from: SocketAddr,
        nonce: [u8; NONCE_LEN],
    ) -> [u8; COOKIE_REPLY_LEN] {
        let mut reply = [0; COOKIE_REPLY_LEN];
        reply[..4].copy_from_slice(&COOKIE_REPLY.to_le_bytes());
        reply[4..8].copy_from_slice(&sender(message).to_le_bytes());
        reply[8..32].copy_from_slice(&nonce);
        let mut cookie = self.cookie(from);
        let mac1 = &message[message.len() - 2 * MAC_LEN..message.len() - MAC_LEN];
        let sealed = XChaCha20Poly1305::new(key.into()).encrypt_in_place_detached(&nonce.into(), mac1, &mut cookie);
        // Sixteen bytes are never too long to seal.
        let tag = sealed.unwrap_or_default();
        reply[32..48].copy_from_slice(&cookie);
        reply[48..].copy_from_slice(&tag);
        reply
    }
}
