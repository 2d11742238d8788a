//! boringtun's `Tunn`, used for one handshake and one session.

use crate::identity::Identity;
use crate::low_order::is_low_order;
use boringtun::noise::errors::WireGuardError;
use boringtun::noise::{Tunn, TunnResult};
use std::time::SystemTime;
use wgengine_core::observe::drop::Drop;
use wgengine_core::plan::{PublicKey, Secret};
use wgengine_core::tunnel::noise::Noise;
use wgengine_core::wire::wireguard::{DATA_HEADER_LEN, DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};
use x25519_dalek::PublicKey as Point;

/// One handshake and its session. Has no `Debug`: boringtun's own prints the pre-shared key (C3 row 15).
pub struct Boring {
    tunn: Box<Tunn>,
}

impl Noise for Boring {
    type Identity = Identity;

    fn new(identity: &Identity, peer: &PublicKey, psk: Option<&Secret>, index: u32) -> Result<Boring, Drop> {
        // boringtun unwraps the time since 1970 (C3 row 15).
        if SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).is_err() {
            return Err(Drop::BadHandshake);
        }
        // With such a key every shared secret is zero: anyone could read the tunnel (C3 row 7).
        if is_low_order(&peer.0) {
            return Err(Drop::LowOrderKey);
        }
        let private = identity.private.clone();
        let psk = psk.filter(|psk| !psk.is_zero()).map(|psk| psk.0);
        let gate = Some(identity.gate.clone());
        let tunn = Tunn::new(private, Point::from(peer.0), psk, None, index & 0x00ff_ffff, gate);
        Ok(Boring { tunn: Box::new(tunn) })
    }

    fn initiate(&mut self, out: &mut [u8; INITIATION_LEN]) -> Result<(), Drop> {
        match self.tunn.format_handshake_initiation(out, true) {
            TunnResult::WriteToNetwork(written) if written.len() == INITIATION_LEN => Ok(()),
            _ => Err(Drop::BadHandshake),
        }
    }

    fn respond(&mut self, initiation: &[u8; INITIATION_LEN], out: &mut [u8; RESPONSE_LEN]) -> Result<(), Drop> {
        if is_low_order(&initiation[8..40]) {
            return Err(Drop::LowOrderKey);
        }
        match self.tunn.decapsulate(None, initiation, out) {
            TunnResult::WriteToNetwork(written) if written.len() == RESPONSE_LEN => Ok(()),
            TunnResult::Err(why) => Err(reason(&why)),
            _ => Err(Drop::BadHandshake),
        }
    }

    fn finish(&mut self, response: &[u8; RESPONSE_LEN]) -> Result<(), Drop> {
        if is_low_order(&response[12..44]) {
            return Err(Drop::LowOrderKey);
        }
        // boringtun confirms with a keepalive of its own; whether one is sent, or data that waits, is the peer's choice.
        let mut keepalive = [0; DATA_OVERHEAD];
        match self.tunn.decapsulate(None, response, &mut keepalive) {
            TunnResult::WriteToNetwork(written) if written.len() == DATA_OVERHEAD => Ok(()),
            TunnResult::Err(why) => Err(reason(&why)),
            _ => Err(Drop::BadHandshake),
        }
    }

    fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, Drop> {
        // boringtun panics where the room is short (C3 row 15).
        if out.len() < plain.len() + DATA_OVERHEAD {
            return Err(Drop::MalformedPacket);
        }
        match self.tunn.encapsulate(plain, out) {
            TunnResult::WriteToNetwork(written) if written.len() == plain.len() + DATA_OVERHEAD => Ok(written.len()),
            // Without a session boringtun would queue up to 256 packets of its own (C3 row 16); the peer never asks then.
            _ => Err(Drop::SessionExpired),
        }
    }

    fn open(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<usize, Drop> {
        if datagram.len() < DATA_OVERHEAD || out.len() < datagram.len() - DATA_HEADER_LEN {
            return Err(Drop::MalformedMessage);
        }
        match self.tunn.decapsulate(None, datagram, out) {
            // Something that declares no length at all is no keepalive.
            TunnResult::WriteToTunnelV4([], _) => Err(Drop::MalformedInner),
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => Ok(packet.len()),
            TunnResult::Done => Ok(0),
            TunnResult::Err(why) => Err(reason(&why)),
            TunnResult::WriteToNetwork(_) => Err(Drop::MalformedMessage),
        }
    }
}

/// boringtun's error in our words.
fn reason(error: &WireGuardError) -> Drop {
    match error {
        WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => Drop::Replayed,
        WireGuardError::InvalidAeadTag => Drop::BadTag,
        WireGuardError::InvalidMac => Drop::BadMac,
        WireGuardError::WrongIndex | WireGuardError::NoCurrentSession | WireGuardError::UnexpectedPacket => {
            Drop::UnknownIndex
        }
        WireGuardError::InvalidPacket => Drop::MalformedInner,
        WireGuardError::WrongTai64nTimestamp => Drop::ReplayedInitiation,
        _ => Drop::BadHandshake,
    }
}
