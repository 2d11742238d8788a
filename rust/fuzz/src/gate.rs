//! Who is let in while there is load: everybody when there is none; else who shows a cookie that was given to just this
//! address, lately, and not more often than its share.

use crate::bytes::Bytes;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::plan::PublicKey;
use wgengine_core::time::Tick;
use wgengine_core::tunnel::admission::{Admission, Gate, Verdict, LOADED};
use wgengine_core::tunnel::buckets::{BURST, PER_SECOND};
use wgengine_core::tunnel::checker::SECRET_MAX_AGE;
use wgengine_core::tunnel::cookie::{Cookies, COOKIE_EXPIRATION_TIME};
use wgengine_core::wire::wireguard::INITIATION_LEN;

const OURS: PublicKey = PublicKey([7; 32]);
const START: Tick = Tick(3_600_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
/// Milliseconds: about each of the times that count here.
const STRIDES: [u64; 8] = [0, 1, 50, 250, 999, 1000, 60_000, 120_000];
const MOST_STEPS: usize = 400;

/// A cookie: when it was given, under the secret of which number, to which address.
type Given = (Tick, u32, usize);

/// Someone who wants in.
struct Source {
    cookies: Cookies,
    message: [u8; INITIATION_LEN],
    /// What the last signature was made with.
    signed: Option<Given>,
    held: Option<Given>,
}

/// Two ports of one host, two hosts of one network of 64 bits, and another network.
fn addresses() -> [SocketAddr; 5] {
    let v4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let v6 = |network: u16, host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host));
    [(v4, 1), (v4, 2), (v6(1, 1), 1), (v6(1, 2), 1), (v6(2, 1), 1)].map(SocketAddr::from)
}

/// Whose bucket an address draws from.
const BUCKETS: [usize; 5] = [0, 0, 1, 1, 2];

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let admission = Admission::new(&OURS);
    let mut gate = Gate::default();
    let addresses = addresses();
    let mut sources = addresses.map(|_| Source::new());
    let mut passed: [Vec<Tick>; 3] = Default::default();
    let (mut now, mut loaded, mut secret) = (START, None::<Tick>, (0u32, None::<Tick>));
    for _ in 0..MOST_STEPS {
        if bytes.is_empty() {
            break;
        }
        let what = bytes.byte();
        now = now + Duration::from_millis(STRIDES[usize::from(what >> 5)]);
        let at = usize::from(what & 7) % sources.len();
        let source = &mut sources[at];
        if what & 8 != 0 {
            source.sign(now);
        }
        let mut message = source.message;
        let mut whole = true;
        if what & 16 != 0 {
            let (byte, bit) = (usize::from(bytes.byte()) % INITIATION_LEN, bytes.byte() % 8);
            message[byte] ^= 1 << bit;
            whole = false;
        }
        let choice = bytes.byte();
        // What is one's own may come from another's address: copied on the way, or the sender has moved.
        let from = if choice & 2 != 0 { usize::from(choice >> 2) % addresses.len() } else { at };
        let waiting = if choice & 1 != 0 { LOADED } else { 0 };
        if waiting == LOADED {
            loaded = Some(now);
        }
        let load = loaded.is_some_and(|since| now.since(since) < SECOND);
        if load && secret.1.is_none_or(|born| now.since(born) >= SECRET_MAX_AGE) {
            secret = (secret.0 + 1, Some(now));
        }
        let mut drawn = secret.0 as u8;
        let verdict = gate.admit(&admission, &message, addresses[from], waiting, now, |bytes| {
            drawn = drawn.wrapping_mul(31).wrapping_add(bytes.len() as u8);
            bytes.fill(drawn);
            true
        });
        assert_eq!(gate.under_load(now), load);
        let shown = whole && source.signed.is_some_and(|(_, number, to)| (number, to) == (secret.0, from));
        match verdict {
            Verdict::Pass if !load => {}
            Verdict::Pass => {
                assert!(shown, "let in without a cookie of this address and this secret");
                passed[BUCKETS[from]].push(now);
            }
            Verdict::Reply(reply) => {
                assert!(load && !shown);
                let taken = source.cookies.take(&OURS, &reply, now).is_ok();
                // mac1 is what the cookie is sealed with, and the index what it is addressed by.
                let legible = message[4..8] == source.message[4..8] && message[116..132] == source.message[116..132];
                assert_eq!(taken, legible);
                if taken {
                    source.held = Some((now, secret.0, from));
                }
            }
            Verdict::Refuse(Drop::CookieRequired) => assert!(load && !shown),
            Verdict::Refuse(why) => assert!(load && shown && why == Drop::SourceLimited, "{why:?}"),
        }
    }
    passed.iter().for_each(|passed| within_share(passed));
}

impl Source {
    fn new() -> Source {
        let message = [0x5a; INITIATION_LEN];
        let mut source = Source { cookies: Cookies::default(), message, signed: None, held: None };
        source.sign(START);
        source
    }

    /// The next message, with the cookie if there is one that is not too old.
    fn sign(&mut self, now: Tick) {
        self.cookies.sign(&mut self.message, now);
        self.signed = self.held.filter(|(given, ..)| now.since(*given) < COOKIE_EXPIRATION_TIME);
    }
}

/// Between any two that were let in there are no more than a burst and what was earned meanwhile.
fn within_share(passed: &[Tick]) {
    for (first, start) in passed.iter().enumerate() {
        for (count, end) in (1u64..).zip(&passed[first..]) {
            let earned = end.since(*start).as_millis() as u64 * u64::from(PER_SECOND) / 1000;
            assert!(count <= u64::from(BURST) + earned + 1, "{count} in {:?}", end.since(*start));
        }
    }
}
