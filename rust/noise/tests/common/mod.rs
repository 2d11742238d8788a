//! Two peers and the wire between them, with a clock that the test moves; and `snow` as an independent peer.
#![allow(dead_code)] // each test file takes its part
#![allow(clippy::unwrap_used)]

use blake2::digest::{FixedOutput, KeyInit, Update};
use std::net::SocketAddr;
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::plan::{PublicKey, Secret};
use wgengine_core::time::{Now, Tick, Wall};
use wgengine_core::tunnel::endpoint::Endpoint;
use wgengine_core::tunnel::keypairs::Opened;
use wgengine_core::tunnel::peer::Peer;
use wgengine_core::wire::wireguard::{sender, Message, DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};
use wgengine_noise::{generate_private, read_initiation, Boring, Identity};

pub const ADDRESS_A: &str = "192.0.2.1:51820";
pub const ADDRESS_B: &str = "192.0.2.2:51820";

pub fn address(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

pub fn now(seconds: u64) -> Now {
    Now { tick: Tick(seconds * 1_000_000_000), wall: Wall { secs: 1_700_000_000 + seconds, nanos: 0 } }
}

/// One side: who it is, and its only peer.
pub struct Side {
    pub identity: Identity,
    pub peer: Peer<Boring>,
    next_index: u32,
}

pub fn identity() -> (Secret, Identity) {
    let secret = generate_private();
    let identity = Identity::new(&secret);
    (secret, identity)
}

impl Side {
    pub fn new(identity: Identity, theirs: PublicKey, endpoint: Option<&str>) -> Side {
        let mut peer = Peer::new(theirs, [0; 12], Default::default());
        if let Some(endpoint) = endpoint {
            peer.set_endpoint(address(endpoint).address);
        }
        Side { identity, peer, next_index: 7 }
    }

    pub fn initiate(&mut self, at: u64) -> Result<[u8; INITIATION_LEN], Drop> {
        self.next_index += 1;
        let index = self.next_index;
        let mut work = self.peer.take_attempt();
        let message = work.initiate(&self.identity, || index);
        let message = self.peer.initiated(work, message, now(at).tick, Duration::ZERO)?;
        Ok(message.expect("nothing came between"))
    }

    pub fn respond(&mut self, at: u64, from: &str, message: &[u8; INITIATION_LEN]) -> Result<[u8; RESPONSE_LEN], Drop> {
        let sender = read_initiation(&self.identity, message)?;
        if sender.key != *self.peer.key() {
            return Err(Drop::UnknownPeer);
        }
        let timestamp = sender.timestamp(&self.identity)?;
        self.next_index += 1;
        let index = self.next_index;
        let mut work = self.peer.take_initiation(timestamp, now(at).tick)?;
        let response = work.answer(&self.identity, message, || index);
        let answer = self.peer.answered(work, response, timestamp, address(from), now(at).tick);
        answer.map(|(response, _)| response)
    }

    pub fn finish(&mut self, at: u64, from: &str, response: &[u8; RESPONSE_LEN]) -> Result<(), Drop> {
        let mut work = self.peer.take_attempt();
        let outcome = work.finish(response);
        self.peer.finished(work, outcome, address(from), now(at)).map(|_| ())
    }

    pub fn seal(&mut self, plain: &[u8]) -> Result<Vec<u8>, Drop> {
        let mut out = vec![0; plain.len() + DATA_OVERHEAD];
        let len = self.peer.seal(plain, &mut out)?;
        out.truncate(len);
        Ok(out)
    }

    pub fn open(&mut self, at: u64, datagram: &[u8]) -> Result<Vec<u8>, Drop> {
        let Ok(Message::Data(data)) = Message::parse(datagram) else { panic!("no data message") };
        let mut out = vec![0; datagram.len()];
        let Opened { len, .. } = self.peer.open(now(at), data, &mut out)?;
        out.truncate(len);
        Ok(out)
    }
}

/// Two sides that know each other.
pub fn pair() -> (Side, Side) {
    let ((_, a), (_, b)) = (identity(), identity());
    let (key_a, key_b) = (a.public(), b.public());
    (Side::new(a, key_b, Some(ADDRESS_B)), Side::new(b, key_a, None))
}

/// A whole handshake that `a` begins.
pub fn shake(a: &mut Side, b: &mut Side, at: u64) {
    let initiation = a.initiate(at).unwrap();
    let response = b.respond(at, ADDRESS_A, &initiation).unwrap();
    a.finish(at, ADDRESS_B, &response).unwrap();
    let keepalive = a.peer.keepalive(now(at).tick).unwrap();
    assert_eq!(b.open(at, &keepalive), Ok(vec![]));
}

/// A small IPv4 packet with `tag` in it.
pub fn packet(tag: u8) -> Vec<u8> {
    let mut packet = vec![0; 32];
    packet[0] = 0x45;
    packet[3] = 32;
    packet[12..16].copy_from_slice(&[10, 9, 0, 1]);
    packet[16..20].copy_from_slice(&[10, 9, 0, 2]);
    packet[31] = tag;
    packet
}

// ---- snow: the same protocol by another hand --------------------------------------------------------------------

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
pub const SNOW_INDEX: u32 = 0x5105_0001;

pub fn snow(private: &Secret, theirs: &PublicKey, psk: &[u8; 32], initiator: bool) -> snow::HandshakeState {
    let builder = snow::Builder::new(PATTERN.parse().unwrap()).prologue(PROLOGUE).unwrap();
    let builder = builder.local_private_key(&private.0).unwrap().psk(2, psk).unwrap();
    if initiator {
        builder.remote_public_key(&theirs.0).unwrap().build_initiator().unwrap()
    } else {
        builder.build_responder().unwrap()
    }
}

/// mac1 over all but the last 32 bytes, for whoever has the key.
pub fn put_mac1(message: &mut [u8], receiver: &PublicKey) {
    use blake2::Digest;
    let key = blake2::Blake2s256::new().chain_update(b"mac1----").chain_update(receiver.0).finalize();
    let body = message.len() - 32;
    let mut mac = <blake2::Blake2sMac<blake2::digest::consts::U16> as KeyInit>::new_from_slice(&key).unwrap();
    Update::update(&mut mac, &message[..body]);
    message[body..body + 16].copy_from_slice(&mac.finalize_fixed());
}

pub fn snow_initiation(
    state: &mut snow::HandshakeState,
    receiver: &PublicKey,
    stamp: [u8; 12],
) -> [u8; INITIATION_LEN] {
    let mut message = [0; INITIATION_LEN];
    message[0] = 1;
    message[4..8].copy_from_slice(&SNOW_INDEX.to_le_bytes());
    assert_eq!(state.write_message(&stamp, &mut message[8..116]).unwrap(), 108);
    put_mac1(&mut message, receiver);
    message
}

/// A data message by snow's session, with any counter.
pub fn snow_seal(session: &snow::StatelessTransportState, receiver: u32, counter: u64, plain: &[u8]) -> Vec<u8> {
    let mut message = vec![0; plain.len() + DATA_OVERHEAD];
    message[0] = 4;
    message[4..8].copy_from_slice(&receiver.to_le_bytes());
    message[8..16].copy_from_slice(&counter.to_le_bytes());
    session.write_message(counter, plain, &mut message[16..]).unwrap();
    message
}

/// What a data message of ours says, opened by snow.
pub fn snow_open(session: &snow::StatelessTransportState, message: &[u8]) -> Vec<u8> {
    let mut counter = [0; 8];
    counter.copy_from_slice(&message[8..16]);
    let mut plain = vec![0; message.len()];
    let len = session.read_message(u64::from_le_bytes(counter), &message[16..], &mut plain).unwrap();
    plain.truncate(len);
    plain
}

/// A session with snow on the other side, so that any counter can be sent.
pub fn with_snow() -> (Side, snow::StatelessTransportState, u32) {
    let ((secret, theirs), (_, ours)) = (identity(), identity());
    let mut state = snow(&secret, &ours.public(), &[0; 32], true);
    let mut side = Side::new(ours, theirs.public(), None);
    let initiation = snow_initiation(&mut state, &side.identity.public(), [1; 12]);
    let response = side.respond(0, ADDRESS_A, &initiation).unwrap();
    state.read_message(&response[12..60], &mut [0; 16]).unwrap();
    (side, state.into_stateless_transport_mode().unwrap(), sender(&response))
}
