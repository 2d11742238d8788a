//! What goes back: the state of a device, or the number of an error.

use super::{hex, Zeroizing};
use crate::observe::state::{DeviceState, PeerState};
use core::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// The whole answer to `get=1`. It holds keys, so it is wiped when dropped.
pub fn get_reply(state: &DeviceState) -> Zeroizing<String> {
    // Room for everything at once: a string that grows leaves copies of its keys behind.
    let mut text = Zeroizing::new(String::with_capacity(size_bound(state)));
    if let Some(key) = state.private_key.as_ref().filter(|key| !key.is_zero()) {
        key_line(&mut text, "private_key", &key.0);
    }
    if state.listen_port != 0 {
        line(&mut text, "listen_port", state.listen_port);
    }
    if state.fwmark != 0 {
        line(&mut text, "fwmark", state.fwmark);
    }
    for peer in &state.peers {
        peer_lines(&mut text, peer);
    }
    text.push_str("errno=0\n\n");
    text
}

/// The whole answer to `set=1`, and to `get=1` when it fails. Negative numbers are errors.
pub fn errno_reply(errno: i32) -> String {
    format!("errno={errno}\n\n")
}

fn peer_lines(text: &mut String, peer: &PeerState) {
    key_line(text, "public_key", &peer.public_key.0);
    // Zeros say "none", as wireguard-go has it.
    key_line(text, "preshared_key", peer.preshared_key.as_ref().map_or(&[0; 32], |key| &key.0));
    line(text, "protocol_version", 1);
    if let Some(endpoint) = peer.endpoint {
        line(text, "endpoint", canonical(endpoint));
    }
    // Since 1970 by the wall clock; both 0 for never.
    let at = peer.last_handshake.unwrap_or_default();
    line(text, "last_handshake_time_sec", at.secs.saturating_add(u64::from(at.nanos / NANOS_PER_SEC)));
    line(text, "last_handshake_time_nsec", at.nanos % NANOS_PER_SEC);
    line(text, "tx_bytes", peer.tx_bytes);
    line(text, "rx_bytes", peer.rx_bytes);
    line(text, "persistent_keepalive_interval", peer.persistent_keepalive);
    for prefix in &peer.allowed_ips {
        line(text, "allowed_ip", prefix);
    }
}

const NANOS_PER_SEC: u32 = 1_000_000_000;

/// IPv4 as IPv4, also where a dual-stack socket has seen it as `::ffff:a.b.c.d`.
fn canonical(endpoint: SocketAddr) -> SocketAddr {
    match endpoint.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, endpoint.port()),
        IpAddr::V6(_) => endpoint,
    }
}

fn line(text: &mut String, key: &str, value: impl core::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{key}={value}");
}

fn key_line(text: &mut String, key: &str, value: &[u8; 32]) {
    text.push_str(key);
    text.push('=');
    hex::encode(value, text);
    text.push('\n');
}

/// No reply about `state` is longer than this.
fn size_bound(state: &DeviceState) -> usize {
    const DEVICE: usize = 160;
    const PEER: usize = 512;
    const ALLOWED_V4: usize = "allowed_ip=255.255.255.255/32\n".len();
    const ALLOWED_V6: usize = "allowed_ip=ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128\n".len();
    let peer = |peer: &PeerState| {
        let v4 = peer.allowed_ips.iter().filter(|prefix| prefix.addr().is_ipv4()).count();
        PEER + v4 * ALLOWED_V4 + (peer.allowed_ips.len() - v4) * ALLOWED_V6
    };
    DEVICE + state.peers.iter().map(peer).sum::<usize>()
}

#[cfg(test)]
#[path = "reply_tests.rs"]
mod tests;
