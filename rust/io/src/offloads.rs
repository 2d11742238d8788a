//! Which offloads are in use: found at start, switched off at run time when the kernel refuses one, or by a caller.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Read once per turn by the data threads.
#[derive(Debug, Default)]
pub struct Offloads {
    /// TCP super-packets at the TUN, in and out.
    pub tun_tso: AtomicBool,
    /// UDP super-packets at the TUN, in and out (Linux 6.2).
    pub tun_uso: AtomicBool,
    /// One send for a batch of datagrams of one size (UDP_SEGMENT).
    pub udp_gso: AtomicBool,
    /// One receive for a run of datagrams of one size (UDP_GRO).
    pub udp_gro: AtomicBool,
}

impl Offloads {
    pub fn names(&self) -> [(&'static str, &AtomicBool); 4] {
        [("tun_tso", &self.tun_tso), ("tun_uso", &self.tun_uso), ("udp_gso", &self.udp_gso), ("udp_gro", &self.udp_gro)]
    }

    pub fn on(flag: &AtomicBool) -> bool {
        flag.load(Relaxed)
    }

    /// Switch off; true when it was on.
    pub fn off(flag: &AtomicBool) -> bool {
        flag.swap(false, Relaxed)
    }
}
