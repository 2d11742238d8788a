//! Real handshakes and sessions with what they say changed on the way: nothing that was changed is taken, and what was not
//! is, afterwards.

use crate::bytes::Bytes;
use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use std::cell::RefCell;
use std::collections::HashSet;
use wgengine_core::observe::drop::Drop;
use wgengine_core::plan::{PublicKey, Secret};
use wgengine_core::tunnel::admission::Admission;
use wgengine_core::tunnel::noise::Noise;
use wgengine_core::wire::wireguard::{Message, DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};
use wgengine_noise::{clamp, read_initiation, Boring, Identity};

const MAC: usize = 16;
/// Bytes of a datagram, and messages of a session: enough to leave the window behind.
const MOST: usize = 1300;
/// boringtun takes what lies up to so many behind the newest message (C3 row 2).
const WINDOW: u64 = 1023;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Keys and handshakes are dear, so they serve many inputs; each input leaves them as it found them, or makes new ones.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    WORLD.with_borrow_mut(|kept| {
        let mut world = kept.take().unwrap_or_else(World::new);
        // What is dear comes seldom.
        let fresh = match bytes.byte() % 32 {
            0 => world.initiation(&mut bytes),
            1 => world.response(&mut bytes),
            2 => world.order(&mut bytes),
            3..12 => world.stray(bytes.take(MOST)),
            12..22 => world.inner(bytes.take(MOST)),
            _ => world.data(&mut bytes),
        };
        *kept = fresh.then_some(world);
    });
}

struct World {
    ours: Identity,
    theirs: Identity,
    initiation: [u8; INITIATION_LEN],
    /// Has sent the initiation and waits for the response.
    waiting: Boring,
    response: [u8; RESPONSE_LEN],
    sender: Boring,
    receiver: Boring,
}

fn engine(identity: &Identity, peer: &Identity, index: u32) -> Boring {
    Boring::new(identity, &peer.public(), None, index).expect("an ordinary key")
}

/// One initiation and its answer.
fn handshake(ours: &Identity, theirs: &Identity) -> (Boring, [u8; INITIATION_LEN], Boring, [u8; RESPONSE_LEN]) {
    let (mut initiator, mut responder) = (engine(ours, theirs, 1), engine(theirs, ours, 2));
    let (mut initiation, mut response) = ([0; INITIATION_LEN], [0; RESPONSE_LEN]);
    initiator.initiate(&mut initiation).expect("it can");
    responder.respond(&initiation, &mut response).expect("it can");
    (initiator, initiation, responder, response)
}

impl World {
    fn new() -> World {
        let [ours, theirs] = [7, 9].map(|byte| Identity::new(&clamp(Secret([byte; 32]))));
        let (mut sender, _, receiver, response) = handshake(&ours, &theirs);
        sender.finish(&response).expect("the true answer");
        let (waiting, initiation, _, response) = handshake(&ours, &theirs);
        World { ours, theirs, initiation, waiting, response, sender, receiver }
    }

    /// True: this world may serve again.
    fn initiation(&mut self, bytes: &mut Bytes<'_>) -> bool {
        let message = changed(self.initiation, bytes, &self.theirs.public());
        let taken = self.respond(&message).is_ok();
        assert_eq!(taken, is_as_good(&message, &self.initiation, &self.theirs.public()));
        true
    }

    fn respond(&self, message: &[u8; INITIATION_LEN]) -> Result<(), Drop> {
        Message::parse(message)?;
        // As the edge has it: no Diffie-Hellman before mac1 fits.
        if !Admission::new(&self.theirs.public()).mac1_fits(message) {
            return Err(Drop::BadMac);
        }
        let sender = read_initiation(&self.theirs, message)?;
        assert_eq!(sender.key, self.ours.public(), "another's name in a message of ours");
        sender.timestamp(&self.theirs)?;
        engine(&self.theirs, &self.ours, 3).respond(message, &mut [0; RESPONSE_LEN])
    }

    fn response(&mut self, bytes: &mut Bytes<'_>) -> bool {
        let message = changed(self.response, bytes, &self.ours.public());
        let taken = Message::parse(&message).is_ok() && self.waiting.finish(&message).is_ok();
        // The index that it is addressed to is what a device finds the attempt by.
        let addressed = message[8..12] == self.response[8..12];
        assert_eq!(taken && addressed, is_as_good(&message, &self.response, &self.ours.public()));
        !taken
    }

    fn data(&mut self, bytes: &mut Bytes<'_>) -> bool {
        let length = usize::from(bytes.byte()) * 4;
        let plain = v4(length.max(20));
        let sealed = self.seal(&plain);
        let mut message = sealed.clone();
        turn(&mut message, bytes);
        if message != sealed {
            assert!(self.open(&message).is_err(), "a changed message is taken");
        }
        assert_eq!(self.open(&sealed), Ok(plain.len()));
        assert_eq!(self.open(&sealed), Err(Drop::Replayed));
        true
    }

    /// Whatever an authenticated peer seals: up to where it says that it ends, or no packet.
    fn inner(&mut self, plain: &[u8]) -> bool {
        let sealed = self.seal(plain);
        let be = |at: usize| usize::from(plain[at]) << 8 | usize::from(plain[at + 1]);
        let declared = match plain.first().map(|first| first >> 4) {
            None => Some(0),
            Some(4) if plain.len() >= 20 => Some(be(2)).filter(|length| *length > 0),
            Some(6) if plain.len() >= 40 => Some(be(4) + 40),
            _ => None,
        };
        let expected = declared.filter(|length| *length <= plain.len()).ok_or(Drop::MalformedInner);
        assert_eq!(self.open(&sealed), expected);
        true
    }

    /// Bytes of nobody, under every type and of every length.
    fn stray(&mut self, bytes: &[u8]) -> bool {
        assert!(self.receiver.open(bytes, &mut [0; MOST]).is_err());
        if let Ok(message) = bytes.try_into() {
            assert!(self.respond(message).is_err());
        }
        if let Ok(message) = bytes.try_into() {
            assert!(self.waiting.finish(message).is_err());
        }
        true
    }

    /// Messages lost, late and doubled, as a set and a window would judge them.
    fn order(&mut self, bytes: &mut Bytes<'_>) -> bool {
        let mut kept = Vec::new();
        let mut opened = HashSet::new();
        let mut newest = 0;
        // Leaving the window behind is dear, and comes seldom.
        let most = if bytes.byte().is_multiple_of(16) { MOST } else { 128 };
        while !bytes.is_empty() && kept.len() < most {
            let step = bytes.byte();
            for _ in 0..=step & 63 {
                kept.push(self.seal(&[]));
            }
            let behind = if step & 64 != 0 { bytes.word() } else { u16::from(bytes.byte()) };
            let message = &kept[kept.len().saturating_sub(usize::from(behind) + 1)].clone();
            let counter = counter(message);
            let expected = counter + WINDOW >= newest && opened.insert(counter);
            assert_eq!(self.open(message).is_ok(), expected, "{counter} while {newest} is the newest");
            newest = newest.max(counter);
        }
        true
    }

    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut out = vec![0; plain.len() + DATA_OVERHEAD];
        assert_eq!(self.sender.seal(plain, &mut out), Ok(out.len()));
        out
    }

    fn open(&mut self, message: &[u8]) -> Result<usize, Drop> {
        let Message::Data(_) = Message::parse(message)? else { return Err(Drop::MalformedMessage) };
        self.receiver.open(message, &mut vec![0; message.len()])
    }
}

fn counter(message: &[u8]) -> u64 {
    let mut counter = [0; 8];
    counter.copy_from_slice(&message[8..16]);
    u64::from_le_bytes(counter)
}

/// An IPv4 packet of this length.
fn v4(length: usize) -> Vec<u8> {
    let mut packet = vec![0; length];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    packet
}

fn turn(message: &mut [u8], bytes: &mut Bytes<'_>) {
    while !bytes.is_empty() {
        let at = usize::from(bytes.word()) % message.len();
        message[at] ^= bytes.byte();
    }
}

/// mac1, as whoever knows the receiver's key can make it.
fn mac1(message: &[u8], receiver: &PublicKey) -> [u8; MAC] {
    let key = Blake2s256::new().chain_update(b"mac1----").chain_update(receiver.0).finalize();
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key).expect("32 bytes");
    Update::update(&mut mac, &message[..message.len() - 2 * MAC]);
    mac.finalize_fixed().into()
}

/// Some bytes changed; if the first choice says so, mac1 is made to fit again.
fn changed<const LEN: usize>(mut message: [u8; LEN], bytes: &mut Bytes<'_>, receiver: &PublicKey) -> [u8; LEN] {
    let fit = bytes.flag();
    turn(&mut message, bytes);
    if fit {
        let mac1 = mac1(&message, receiver);
        message[LEN - 2 * MAC..LEN - MAC].copy_from_slice(&mac1);
    }
    message
}

/// Is all the same that Noise covers, and does mac1 fit? The sender's own index is covered by mac1 alone.
fn is_as_good<const LEN: usize>(message: &[u8; LEN], original: &[u8; LEN], receiver: &PublicKey) -> bool {
    let macs = LEN - 2 * MAC;
    let same = message[..4] == original[..4] && message[8..macs] == original[8..macs];
    same && message[macs..LEN - MAC] == mac1(message, receiver)
}
