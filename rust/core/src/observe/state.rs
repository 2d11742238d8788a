//! What a device looks like from outside: the answer to `get=1` and to `status`.

use crate::plan::{Prefix, PublicKey, Secret};
use crate::time::Wall;
use std::net::SocketAddr;

/// One peer as seen from outside.
#[derive(Clone, Debug)]
pub struct PeerState {
    pub public_key: PublicKey,
    /// `None`: no pre-shared key.
    pub preshared_key: Option<Secret>,
    pub endpoint: Option<SocketAddr>,
    /// When the newest session was made; `None`: never.
    pub last_handshake: Option<Wall>,
    /// Bytes of UDP payload sent to and received from this peer, handshakes included.
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// Seconds; 0 is off.
    pub persistent_keepalive: u16,
    /// It sends nothing by itself until there is traffic.
    pub trimmed: bool,
    /// In the order in which they were given to the peer.
    pub allowed_ips: Vec<Prefix>,
}

/// The device as seen from outside.
#[derive(Clone, Debug)]
pub struct DeviceState {
    pub private_key: Option<Secret>,
    /// The port in use; 0 before the first bind.
    pub listen_port: u16,
    pub fwmark: u32,
    pub peers: Vec<PeerState>,
}
