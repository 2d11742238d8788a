//! What happened, for whoever watches: bounded, never per packet.

use crate::plan::PublicKey;
use std::net::SocketAddr;

/// Something worth telling a person or a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A handshake ended in a session; `initiator` says who began it.
    SessionUp { peer: PublicKey, initiator: bool },
    /// An attempt ended without a session after REKEY_ATTEMPT_TIME.
    HandshakeFailed { peer: PublicKey },
    /// An authenticated packet came from another address: the peer moved.
    EndpointChanged { peer: PublicKey, endpoint: SocketAddr },
    /// A peer's path takes no segmentation batches; it gets single datagrams from now on.
    PathTooSmall { peer: PublicKey, endpoint: SocketAddr },
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
