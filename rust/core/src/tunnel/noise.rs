//! What a Noise engine must be able to do. It keeps no time: one value is one handshake and the session that ends it.

use crate::observe::drop::Drop;
use crate::plan::{PublicKey, Secret};
use crate::wire::wireguard::{INITIATION_LEN, RESPONSE_LEN};

/// TAI64N as it lies in an initiation: compared byte by byte, greater is newer (whitepaper 5.1).
pub type Timestamp = [u8; 12];

/// One handshake, made for one peer, and the session that it ends in.
pub trait Noise: Sized + Send {
    /// Our side of all handshakes: the private key and what is derived from it once.
    type Identity: Send + Sync;

    /// `index` has 24 bits; messages carry it in the upper three bytes of our 32-bit indices.
    /// Fails when no timestamp can be made (a wall clock before 1970) or the peer's key is a low-order point.
    fn new(identity: &Self::Identity, peer: &PublicKey, psk: Option<&Secret>, index: u32) -> Result<Self, Drop>;

    /// Write an initiation: the first one, or the next try of the same attempt.
    fn initiate(&mut self, out: &mut [u8; INITIATION_LEN]) -> Result<(), Drop>;

    /// Answer an initiation whose sender and timestamp were accepted; the session exists afterwards.
    fn respond(&mut self, initiation: &[u8; INITIATION_LEN], out: &mut [u8; RESPONSE_LEN]) -> Result<(), Drop>;

    /// Take the answer to our initiation; the session exists afterwards.
    fn finish(&mut self, response: &[u8; RESPONSE_LEN]) -> Result<(), Drop>;

    /// Seal `plain` into `out`, which holds at least [`crate::wire::wireguard::DATA_OVERHEAD`] more; the length written.
    fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, Drop>;

    /// Open a data message into `out`, which holds at least the datagram less 16 bytes.
    /// The length of the plaintext up to where its IP header says that it ends; 0 is a keepalive.
    fn open(&mut self, datagram: &[u8], out: &mut [u8]) -> Result<usize, Drop>;
}
