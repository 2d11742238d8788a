//! A Noise engine without cryptography: what a real one would seal stands in clear, with a sum instead of a tag. It keeps
//! the promises that the tunnel relies on: an answer fits one initiation only, a message opens once, a changed one never.

use std::cell::Cell;
use std::collections::HashSet;
use wgengine_core::observe::drop::Drop;
use wgengine_core::plan::{PublicKey, Secret};
use wgengine_core::tunnel::noise::{Noise, Timestamp};
use wgengine_core::wire::wireguard::{DATA_HEADER_LEN, DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};

thread_local! {
    static DRAWN: Cell<u32> = const { Cell::new(0) };
}

/// Ephemeral keys begin anew, so that one input always does the same.
pub fn restart() {
    DRAWN.set(0);
}

fn draw() -> u32 {
    DRAWN.set(DRAWN.get() + 1);
    DRAWN.get()
}

fn sum(parts: &[&[u8]]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    parts.iter().copied().flatten().fold(0xcbf2_9ce4_8422_2325, step)
}

fn word(message: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]])
}

fn long(message: &[u8], at: usize) -> u64 {
    u64::from(word(message, at)) | u64::from(word(message, at + 4)) << 32
}

/// Where the sum of a handshake message lies; behind it are only the MACs, which cookies change.
const SUM: usize = 50;

fn is_whole(message: &[u8]) -> bool {
    long(message, SUM) == sum(&[&message[..SUM]])
}

/// Who sent an initiation and when, as the edge reads it before it asks the peer.
pub fn read_initiation(message: &[u8; INITIATION_LEN]) -> Option<Timestamp> {
    let mut timestamp = [0; 12];
    timestamp[8..].copy_from_slice(&word(message, 8).to_be_bytes());
    is_whole(message).then_some(timestamp)
}

/// The session that a response is about, or that a data message was sealed in.
pub fn session_of(message: &[u8]) -> u64 {
    match message[0] {
        2 => long(message, 12),
        _ => long(message, message.len() - 16),
    }
}

pub struct Clear {
    index: u32,
    psk: u8,
    /// Of our last initiation.
    ephemeral: u32,
    session: Option<Session>,
}

struct Session {
    id: u64,
    theirs: u32,
    sent: u64,
    opened: HashSet<u64>,
}

impl Session {
    fn new(id: u64, theirs: u32) -> Session {
        Session { id, theirs, sent: 0, opened: HashSet::new() }
    }
}

impl Noise for Clear {
    type Identity = ();

    fn new(_: &(), _: &PublicKey, psk: Option<&Secret>, index: u32) -> Result<Clear, Drop> {
        Ok(Clear { index: index << 8, psk: psk.map_or(0, |psk| psk.0[0]), ephemeral: 0, session: None })
    }

    fn initiate(&mut self, out: &mut [u8; INITIATION_LEN]) -> Result<(), Drop> {
        self.ephemeral = draw();
        out[0] = 1;
        out[4..8].copy_from_slice(&self.index.to_le_bytes());
        out[8..12].copy_from_slice(&self.ephemeral.to_le_bytes());
        let tag = sum(&[&out[..SUM]]);
        out[SUM..SUM + 8].copy_from_slice(&tag.to_le_bytes());
        Ok(())
    }

    fn respond(&mut self, initiation: &[u8; INITIATION_LEN], out: &mut [u8; RESPONSE_LEN]) -> Result<(), Drop> {
        out[0] = 2;
        out[4..8].copy_from_slice(&self.index.to_le_bytes());
        out[8..12].copy_from_slice(&initiation[4..8]);
        out[12..16].copy_from_slice(&initiation[8..12]);
        out[16..20].copy_from_slice(&draw().to_le_bytes());
        out[20] = self.psk;
        let tag = sum(&[&out[..SUM]]);
        out[SUM..SUM + 8].copy_from_slice(&tag.to_le_bytes());
        self.session = Some(Session::new(session_of(out), word(initiation, 4)));
        Ok(())
    }

    fn finish(&mut self, response: &[u8; RESPONSE_LEN]) -> Result<(), Drop> {
        if !is_whole(response) || word(response, 12) != self.ephemeral || response[20] != self.psk {
            return Err(Drop::BadHandshake);
        }
        self.session = Some(Session::new(session_of(response), word(response, 4)));
        Ok(())
    }

    fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, Drop> {
        let session = self.session.as_mut().ok_or(Drop::SessionExpired)?;
        let length = plain.len() + DATA_OVERHEAD;
        let out = out.get_mut(..length).ok_or(Drop::MalformedPacket)?;
        out[..4].copy_from_slice(&[4, 0, 0, 0]);
        out[4..8].copy_from_slice(&session.theirs.to_le_bytes());
        out[8..16].copy_from_slice(&session.sent.to_le_bytes());
        out[16..length - 16].copy_from_slice(plain);
        out[length - 16..length - 8].copy_from_slice(&session.id.to_le_bytes());
        let tag = sum(&[&out[..length - 8]]);
        out[length - 8..].copy_from_slice(&tag.to_le_bytes());
        session.sent += 1;
        Ok(length)
    }

    fn open(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<usize, Drop> {
        let session = self.session.as_mut().ok_or(Drop::UnknownIndex)?;
        let body = datagram.len() - 8;
        if long(datagram, body) != sum(&[&datagram[..body]]) || session_of(datagram) != session.id {
            return Err(Drop::BadTag);
        }
        if !session.opened.insert(long(datagram, 8)) {
            return Err(Drop::Replayed);
        }
        let length = datagram.len() - DATA_OVERHEAD;
        out[..length].copy_from_slice(&datagram[DATA_HEADER_LEN..DATA_HEADER_LEN + length]);
        Ok(length)
    }
}
