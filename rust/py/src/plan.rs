//! Plans: what a caller wants changed, checked and kept in Rust.

use crate::error::ConfigError;
use crate::keys::{PresharedKey, PrivateKey, PublicKey};
use pyo3::prelude::*;
use std::net::{IpAddr, SocketAddr};
use wgengine_core::plan::{self, AllowedChange, Prefix, Secret};

fn endpoint(text: &str) -> PyResult<SocketAddr> {
    text.parse().map_err(|_| {
        ConfigError::new_err(format!(
            "endpoint {text:?}: write ADDRESS:PORT, an IPv6 address in brackets; names are resolved before"
        ))
    })
}

fn allowed(text: &str) -> PyResult<AllowedChange> {
    let refuse = || ConfigError::new_err(format!("allowed IP {text:?}: write ADDRESS/LENGTH"));
    let (bare, remove) = text.strip_prefix('-').map_or((text, false), |bare| (bare, true));
    let (address, len) = match bare.split_once('/') {
        Some((address, len)) => (address, Some(len.parse::<u8>().map_err(|_| refuse())?)),
        None => (bare, None),
    };
    let address: IpAddr = address.parse().map_err(|_| refuse())?;
    let len = len.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
    let prefix = Prefix::new(address, len).ok_or_else(refuse)?;
    Ok(if remove { AllowedChange::Remove(prefix) } else { AllowedChange::Add(prefix) })
}

/// What changes on one peer; what is not named stays as it is.
#[pyclass(frozen, from_py_object, module = "wgengine._native")]
#[derive(Clone)]
pub struct PeerPlan(plan::PeerPlan);

#[pymethods]
impl PeerPlan {
    /// Raises ConfigError for an endpoint or allowed IP that is none.
    #[new]
    #[pyo3(signature = (public_key, *, remove=false, update_only=false, preshared_key=None, clear_preshared_key=false,
                        endpoint=None, persistent_keepalive=None, reset_session=false, trimmed=None,
                        replace_allowed_ips=false, allowed_ips=Vec::new()))]
    #[allow(clippy::too_many_arguments)] // keywords of one Python call
    fn new(
        public_key: PublicKey,
        remove: bool,
        update_only: bool,
        preshared_key: Option<PresharedKey>,
        clear_preshared_key: bool,
        endpoint: Option<&str>,
        persistent_keepalive: Option<u16>,
        reset_session: bool,
        trimmed: Option<bool>,
        replace_allowed_ips: bool,
        allowed_ips: Vec<String>,
    ) -> PyResult<PeerPlan> {
        let cleared = clear_preshared_key.then(|| Secret([0; 32]));
        Ok(PeerPlan(plan::PeerPlan {
            public_key: public_key.0,
            remove,
            update_only,
            preshared_key: preshared_key.map(|key| key.0).or(cleared),
            endpoint: endpoint.map(self::endpoint).transpose()?,
            persistent_keepalive,
            reset_session,
            trimmed,
            replace_allowed_ips,
            allowed_ips: allowed_ips.iter().map(|text| allowed(text)).collect::<PyResult<_>>()?,
        }))
    }

    fn __repr__(&self) -> String {
        format!("PeerPlan({:?})", self.0.public_key)
    }
}

/// What changes on the device, as one step; what is not named stays as it is.
#[pyclass(frozen, module = "wgengine._native")]
pub struct Plan(pub plan::Plan);

#[pymethods]
impl Plan {
    #[new]
    #[pyo3(signature = (*, private_key=None, listen_port=None, fwmark=None, replace_peers=false, peers=Vec::new()))]
    fn new(
        private_key: Option<PrivateKey>,
        listen_port: Option<u16>,
        fwmark: Option<u32>,
        replace_peers: bool,
        peers: Vec<PeerPlan>,
    ) -> Plan {
        Plan(plan::Plan {
            private_key: private_key.map(|key| key.secret),
            listen_port,
            fwmark,
            replace_peers,
            peers: peers.into_iter().map(|peer| peer.0).collect(),
        })
    }

    fn __repr__(&self) -> String {
        format!("Plan({} peers)", self.0.peers.len())
    }
}
