//! What happened, for whoever watches: bounded, never per packet.

use crate::plan::PublicKey;
use core::time::Duration;
use std::net::{IpAddr, SocketAddr};

/// What kind of packet a ping is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PingKind {
    /// A message of the tunnel itself; the peer's engine answers.
    Tsmp,
    /// An echo request; the peer's operating system answers.
    Icmp,
}

/// Which way the packet went that woke a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    Sent,
    Received,
}

/// Something worth telling a person or a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A handshake ended in a session; `initiator` says who began it.
    SessionUp { peer: PublicKey, initiator: bool },
    /// Three initiations of an attempt went unanswered; it goes on.
    HandshakeUnanswered { peer: PublicKey },
    /// An attempt ended without a session after REKEY_ATTEMPT_TIME.
    HandshakeFailed { peer: PublicKey },
    /// An authenticated packet came from another address: the peer moved.
    EndpointChanged { peer: PublicKey, endpoint: SocketAddr },
    /// A peer's path takes no segmentation batches; it gets single datagrams from now on.
    PathTooSmall { peer: PublicKey, endpoint: SocketAddr },
    /// There is traffic for a peer that was trimmed: it is not, any more.
    PeerWoke { peer: PublicKey, by: Traffic },
    /// The ping `token` was answered. `peer_api_port`: 0 when the peer did not tell.
    Pong { token: u64, peer: PublicKey, kind: PingKind, latency: Duration, peer_api_port: u16 },
    /// Nobody answered the ping `token` in its time.
    PingExpired { token: u64 },
    /// A peer tells, from its address `source`, which disco key it has now.
    DiscoKeyAdvertised { peer: PublicKey, source: IpAddr, key: [u8; 32] },
    /// An offload was switched off at run time, and why.
    OffloadOff { offload: &'static str, errno: i32 },
    /// The configuration was changed over the UAPI socket.
    ConfigChanged,
    /// A configuration request was not taken; the protocol itself has room for a number only. Holds no key material.
    UapiRefused { line: usize, text: String },
    /// The link's state or MTU changed.
    LinkChanged { up: bool, mtu: u32 },
    /// The TUN is gone: deleted, or closed by whoever lent it.
    TunLost,
    /// The UAPI socket file was removed: the caller wants the device to end.
    UapiRemoved,
    /// A data thread panicked; the TUN is closed and the device is dead. The text names the thread.
    Failed { reason: String },
}

impl Event {
    /// Does somebody wait for just this one? There are no more of them than there are pings under way.
    pub fn is_awaited(&self) -> bool {
        matches!(self, Event::Pong { .. } | Event::PingExpired { .. })
    }
}
