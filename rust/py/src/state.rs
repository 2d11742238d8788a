//! What a device looks like from outside.

use crate::keys::{PresharedKey, PublicKey};
use pyo3::prelude::*;
use wgengine_core::observe::state;
use wgengine_noise::public_of;

/// One peer as seen from outside.
#[pyclass(frozen, get_all, from_py_object, module = "wgengine._native")]
#[derive(Clone)]
pub struct PeerState {
    pub public_key: PublicKey,
    pub preshared_key: Option<PresharedKey>,
    /// ADDRESS:PORT
    pub endpoint: Option<String>,
    /// Unix time in seconds; None: never.
    pub last_handshake: Option<f64>,
    pub tx_bytes: u64,
    pub rx_bytes: u64,
    /// Seconds; 0 is off.
    pub persistent_keepalive: u16,
    /// It sends nothing by itself until there is traffic.
    pub trimmed: bool,
    pub allowed_ips: Vec<String>,
}

impl From<state::PeerState> for PeerState {
    fn from(peer: state::PeerState) -> PeerState {
        PeerState {
            public_key: PublicKey(peer.public_key),
            preshared_key: peer.preshared_key.map(PresharedKey),
            endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
            last_handshake: peer.last_handshake.map(|at| at.secs as f64 + f64::from(at.nanos) / 1e9),
            tx_bytes: peer.tx_bytes,
            rx_bytes: peer.rx_bytes,
            persistent_keepalive: peer.persistent_keepalive,
            trimmed: peer.trimmed,
            allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The device as seen from outside.
#[pyclass(frozen, get_all, module = "wgengine._native")]
pub struct DeviceState {
    /// None: no private key is set.
    pub public_key: Option<PublicKey>,
    /// 0 before the first bind.
    pub listen_port: u16,
    /// 0 is off.
    pub fwmark: u32,
    pub peers: Vec<PeerState>,
}

impl From<state::DeviceState> for DeviceState {
    fn from(device: state::DeviceState) -> DeviceState {
        DeviceState {
            public_key: device.private_key.as_ref().map(|key| PublicKey(public_of(key))),
            listen_port: device.listen_port,
            fwmark: device.fwmark,
            peers: device.peers.into_iter().map(PeerState::from).collect(),
        }
    }
}
