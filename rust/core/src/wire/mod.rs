//! Layouts of messages: WireGuard on the wire, and the UAPI text.

pub mod uapi;
pub mod wireguard;
