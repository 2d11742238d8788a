//! Layouts of messages: WireGuard on the wire, TSMP inside the tunnel, and the UAPI text.

pub mod tsmp;
pub mod uapi;
pub mod wireguard;
