//! What a handshake message must prove before any Diffie-Hellman is spent on it (whitepaper 5.3, 5.4.4, 5.4.7): that its
//! sender knows our public key, always; under load, that it receives where it says it does, and not too often.

use super::buckets::{Bucket, Buckets};
use super::checker::{Checker, NONCE_LEN, SECRET_LEN};
use crate::observe::drop::Drop;
use crate::plan::PublicKey;
use crate::time::Tick;
use crate::wire::wireguard::COOKIE_REPLY_LEN;
use blake2::digest::{consts::U16, consts::U32, Digest, FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use core::time::Duration;
use std::net::SocketAddr;
use subtle::ConstantTimeEq;

const LABEL_MAC1: &[u8] = b"mac1----";
const LABEL_COOKIE: &[u8] = b"cookie--";
pub(super) const MAC_LEN: usize = 16;
pub(super) type Mac = [u8; MAC_LEN];

/// So many initiations wait that it is load (the kernel's share of its queue: an eighth).
pub const LOADED: usize = 128;
/// Load is over when it was not seen for so long.
const LOAD_LASTS: Duration = Duration::from_secs(1);
/// A cookie costs a system call, so strangers get this many a second and no more, however many ask. Who has one is let in
/// all the same, and an address where a peer was has a share of its own.
const COOKIE_COST: Duration = Duration::from_millis(1);
const COOKIES_FULL: Duration = Duration::from_millis(100);

/// What is made of a public key and a label, to check or to seal with.
pub(super) fn labelled(label: &[u8], key: &PublicKey) -> [u8; 32] {
    let hash: blake2::digest::generic_array::GenericArray<u8, U32> =
        Digest::finalize(Digest::chain_update(Digest::chain_update(Blake2s256::new(), label), key.0));
    hash.into()
}

pub(super) fn cookie_key(key: &PublicKey) -> [u8; 32] {
    labelled(LABEL_COOKIE, key)
}

pub(super) fn mac(key: &[u8], message: &[u8]) -> Mac {
    // No key used here is longer than 32 bytes, and shorter ones are never refused.
    let Ok(mut mac) = <Blake2sMac<U16> as KeyInit>::new_from_slice(key) else { return [0; MAC_LEN] };
    mac.update(message);
    mac.finalize_fixed().into()
}

/// Knows who we are, and so who knows us.
#[derive(Clone)]
pub struct Admission {
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
}

impl Admission {
    pub fn new(ours: &PublicKey) -> Admission {
        Admission { mac1_key: labelled(LABEL_MAC1, ours), cookie_key: cookie_key(ours) }
    }

    /// Does mac1, the 16 bytes before the last 16, show that the sender knows our public key?
    pub fn mac1_fits(&self, message: &[u8]) -> bool {
        let Some(body) = message.len().checked_sub(2 * MAC_LEN) else { return false };
        mac(&self.mac1_key, &message[..body]).ct_eq(&message[body..body + MAC_LEN]).into()
    }
}

impl core::fmt::Debug for Admission {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Admission")
    }
}

/// Is there a mac2, be it right or wrong? Who has no cookie leaves it zero (whitepaper 5.4.4).
pub fn has_mac2(message: &[u8]) -> bool {
    message.len() >= MAC_LEN && message[message.len() - MAC_LEN..].iter().any(|byte| *byte != 0)
}

/// What is to be done with a handshake message whose mac1 fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Worth a Diffie-Hellman.
    Pass,
    /// Answer with this, and forget it.
    Reply([u8; COOKIE_REPLY_LEN]),
    Refuse(Drop),
}

/// Where a message came from, as its sender would have it.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub address: SocketAddr,
    /// A peer was there.
    pub known: bool,
}

impl From<SocketAddr> for Origin {
    fn from(address: SocketAddr) -> Origin {
        Origin { address, known: false }
    }
}

/// Guards the Diffie-Hellman of one device while there is load, and is out of the way otherwise.
#[derive(Default)]
pub struct Gate {
    loaded: Option<Tick>,
    checker: Option<Checker>,
    /// For strangers, together.
    cookies: Bucket,
    /// For each address where a peer was.
    known: Buckets,
    buckets: Buckets,
}

impl Gate {
    /// `waiting` messages are there besides this one. `fill` draws unguessable bytes, for a new secret and for the nonce
    /// of a reply; where it cannot, nobody gets a cookie.
    pub fn admit(
        &mut self,
        admission: &Admission,
        message: &[u8],
        from: impl Into<Origin>,
        waiting: usize,
        now: Tick,
        mut fill: impl FnMut(&mut [u8]) -> bool,
    ) -> Verdict {
        let Origin { address: from, known } = from.into();
        if waiting >= LOADED {
            self.loaded = Some(now);
        }
        if !self.under_load(now) {
            return Verdict::Pass;
        }
        let checker = match self.checker.take().filter(|checker| !checker.is_stale(now)) {
            Some(checker) => checker,
            None => {
                let mut secret = [0; SECRET_LEN];
                if !fill(&mut secret) {
                    return Verdict::Refuse(Drop::CookieRequired);
                }
                Checker::new(secret, now)
            }
        };
        let checker = self.checker.insert(checker);
        if !has_mac2(message) || !checker.mac2_fits(message, from) {
            let left = match known {
                true => self.known.allow(from.ip(), now),
                false => self.cookies.draw(COOKIE_COST, COOKIES_FULL, now),
            };
            let mut nonce = [0; NONCE_LEN];
            if !left || !fill(&mut nonce) {
                return Verdict::Refuse(Drop::CookieRequired);
            }
            return Verdict::Reply(checker.reply(&admission.cookie_key, message, from, nonce));
        }
        if !self.buckets.allow(from.ip(), now) {
            return Verdict::Refuse(Drop::SourceLimited);
        }
        Verdict::Pass
    }

    pub fn under_load(&self, now: Tick) -> bool {
        self.loaded.is_some_and(|since| now.since(since) < LOAD_LASTS)
    }

    pub fn sources(&self) -> usize {
        self.buckets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::cookie::Cookies;
    use crate::wire::wireguard::INITIATION_LEN;

    const OURS: PublicKey = PublicKey([7; 32]);
    const START: Tick = Tick(3_600_000_000_000);

    fn address(port: u16) -> SocketAddr {
        (std::net::Ipv4Addr::new(192, 0, 2, 1), port).into()
    }

    /// A message with a mac1 that fits, signed with what `cookies` holds.
    fn initiation(admission: &Admission, cookies: &mut Cookies, now: Tick) -> [u8; INITIATION_LEN] {
        let mut message = [0x5a; INITIATION_LEN];
        let body = INITIATION_LEN - 2 * MAC_LEN;
        let mac1 = mac(&admission.mac1_key, &message[..body]);
        message[body..body + MAC_LEN].copy_from_slice(&mac1);
        cookies.sign(&mut message, now);
        message
    }

    fn fill(bytes: &mut [u8]) -> bool {
        bytes.fill(0x42);
        true
    }

    #[test]
    fn without_chance_there_are_no_cookies() {
        let (admission, mut gate, mut cookies) = (Admission::new(&OURS), Gate::default(), Cookies::default());
        let message = initiation(&admission, &mut cookies, START);
        let verdict = gate.admit(&admission, &message, address(1), LOADED, START, |_| false);
        assert_eq!(verdict, Verdict::Refuse(Drop::CookieRequired));
    }

    #[test]
    fn a_message_too_short_for_its_macs_proves_nothing() {
        let admission = Admission::new(&OURS);
        for len in 0..200 {
            assert!(!admission.mac1_fits(&vec![0; len]));
        }
    }

    #[test]
    fn without_load_mac1_is_enough_and_no_bucket_is_touched() {
        let (admission, mut gate, mut cookies) = (Admission::new(&OURS), Gate::default(), Cookies::default());
        let message = initiation(&admission, &mut cookies, START);
        assert!(admission.mac1_fits(&message));
        for _ in 0..1000 {
            assert_eq!(gate.admit(&admission, &message, address(1), LOADED - 1, START, fill), Verdict::Pass);
        }
        assert_eq!(gate.sources(), 0);
    }

    #[test]
    fn c3_4_under_load_only_a_cookie_of_this_address_and_port_lets_in() {
        let (admission, mut gate, mut cookies) = (Admission::new(&OURS), Gate::default(), Cookies::default());
        let second = |s: u64| START + Duration::from_secs(s);
        let bare = initiation(&admission, &mut cookies, second(0));
        let Verdict::Reply(reply) = gate.admit(&admission, &bare, address(1), LOADED, second(0), fill) else {
            panic!("no cookie");
        };
        cookies.take(&OURS, &reply, second(0)).expect("a cookie for what was sent");
        let signed = initiation(&admission, &mut cookies, second(0));
        let verdict = |gate: &mut Gate, port, now| gate.admit(&admission, &signed, address(port), LOADED, now, fill);
        assert_eq!(verdict(&mut gate, 1, second(1)), Verdict::Pass);
        assert!(matches!(verdict(&mut gate, 2, second(1)), Verdict::Reply(_)), "another port of the same host");
        let mut changed = signed;
        changed[20] ^= 1;
        let altered = gate.admit(&admission, &changed, address(1), LOADED, second(1), fill);
        assert!(matches!(altered, Verdict::Reply(_)), "mac2 covers the message");
    }

    #[test]
    fn c3_4_a_cookie_dies_with_its_secret_after_two_minutes() {
        let (admission, mut gate, mut cookies) = (Admission::new(&OURS), Gate::default(), Cookies::default());
        let second = |s: u64| START + Duration::from_secs(s);
        let mut drawn = 0u8;
        let mut fill = |bytes: &mut [u8]| {
            drawn += 1;
            bytes.fill(drawn);
            true
        };
        let bare = initiation(&admission, &mut cookies, second(0));
        let Verdict::Reply(reply) = gate.admit(&admission, &bare, address(1), LOADED, second(0), &mut fill) else {
            panic!("no cookie");
        };
        cookies.take(&OURS, &reply, second(0)).expect("a cookie for what was sent");
        let signed = initiation(&admission, &mut cookies, second(1));
        let mut at = |s| gate.admit(&admission, &signed, address(1), LOADED, second(s), &mut fill);
        assert_eq!(at(119), Verdict::Pass);
        assert!(matches!(at(120), Verdict::Reply(_)));
    }

    #[test]
    fn c3_5_under_load_a_source_with_a_cookie_has_its_bucket_and_no_more() {
        let (admission, mut gate, mut cookies) = (Admission::new(&OURS), Gate::default(), Cookies::default());
        let bare = initiation(&admission, &mut cookies, START);
        let Verdict::Reply(reply) = gate.admit(&admission, &bare, address(1), LOADED, START, fill) else {
            panic!("no cookie");
        };
        cookies.take(&OURS, &reply, START).expect("a cookie for what was sent");
        let signed = initiation(&admission, &mut cookies, START);
        let verdicts: Vec<_> =
            (0..100).map(|_| gate.admit(&admission, &signed, address(1), LOADED, START, fill)).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Pass).count(), 5);
        assert_eq!(verdicts[99], Verdict::Refuse(Drop::SourceLimited));
    }

    #[test]
    fn cookies_are_given_at_a_bounded_rate_and_whoever_has_one_does_not_feel_it() {
        let (admission, mut gate, mut cookies) = (Admission::new(&OURS), Gate::default(), Cookies::default());
        let second = |s: u64| START + Duration::from_secs(s);
        let bare = initiation(&admission, &mut cookies, second(0));
        let mut given = 0;
        for n in 0..100_000u64 {
            let now = START + Duration::from_micros(10 * n);
            if let Verdict::Reply(reply) = gate.admit(&admission, &bare, address(1), LOADED, now, fill) {
                given += 1;
                cookies.take(&OURS, &reply, now).expect("a cookie for what was sent");
            }
        }
        assert!((1_000..=1_110).contains(&given), "{given} a second");
        let known = Origin { address: address(1), known: true };
        let mut reply = || gate.admit(&admission, &bare, known, LOADED, second(1), fill);
        assert!((0..5).all(|_| matches!(reply(), Verdict::Reply(_))), "where a peer was there are cookies left");
        assert_eq!(reply(), Verdict::Refuse(Drop::CookieRequired), "but no end of them");
        let signed = initiation(&admission, &mut cookies, second(1));
        assert_eq!(gate.admit(&admission, &signed, address(1), LOADED, second(1), fill), Verdict::Pass);
    }

    #[test]
    fn load_ends_a_second_after_it_was_seen_last() {
        let (admission, mut gate, mut cookies) = (Admission::new(&OURS), Gate::default(), Cookies::default());
        let message = initiation(&admission, &mut cookies, START);
        let mut at = |ms: u64, waiting| {
            gate.admit(&admission, &message, address(1), waiting, START + Duration::from_millis(ms), fill)
                == Verdict::Pass
        };
        assert!(!at(0, LOADED));
        assert!(!at(999, 0));
        assert!(at(1000, 0));
    }
}
