//! What went by: each data thread writes its own, readers add them up.

use crate::udp::Family;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wgengine_core::observe::drop::Drop;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One thread's counts; only that thread adds, so a relaxed load and store is exact.
        #[repr(align(128))]
        pub struct Counters {
            $($(#[$doc])* pub $name: Count,)*
            drops: [Count; Drop::COUNT],
        }

        impl Default for Counters {
            fn default() -> Self {
                Counters { $($name: Count::default(),)* drops: core::array::from_fn(|_| Count::default()) }
            }
        }

        /// The sums over all threads, by name.
        pub fn totals<'a>(all: impl Iterator<Item = &'a Counters> + Clone) -> Vec<(&'static str, u64)> {
            vec![$((stringify!($name), all.clone().map(|c| c.$name.get()).sum()),)*]
        }
    };
}

counters! {
    /// Inner packets and their bytes, read out of the TUN.
    tun_rx_packets, tun_rx_bytes,
    /// Inner packets and their bytes, written to the TUN.
    tun_tx_packets, tun_tx_bytes,
    /// Reads and writes that carried them: super-packets.
    tun_reads, tun_writes,
    /// Datagrams and their bytes.
    udp_rx_datagrams, udp_rx_bytes, udp_tx_datagrams, udp_tx_bytes,
    /// Those of them that went over IPv6.
    udp_rx_datagrams_ipv6, udp_rx_bytes_ipv6, udp_tx_datagrams_ipv6, udp_tx_bytes_ipv6,
    /// Blocks that carried them.
    udp_reads, udp_writes,
    handshakes_initiated, handshakes_answered, handshakes_completed,
    /// Answers to initiations under load.
    cookies_sent,
    keepalives_sent, keepalives_received,
    /// Packets that the engine itself sent into the tunnel, and TSMP that peers sent to it.
    injected_packets, tsmp_received,
}

/// A count that one thread writes.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// For a count that several threads write.
    pub fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    /// Datagrams of one family came in.
    pub fn received(&self, family: Family, datagrams: u64, bytes: u64) {
        self.udp_rx_datagrams.add(datagrams);
        self.udp_rx_bytes.add(bytes);
        if family == Family::V6 {
            self.udp_rx_datagrams_ipv6.add(datagrams);
            self.udp_rx_bytes_ipv6.add(bytes);
        }
    }

    /// Datagrams of one family went out.
    pub fn sent(&self, family: Family, datagrams: u64, bytes: u64) {
        self.udp_tx_datagrams.add(datagrams);
        self.udp_tx_bytes.add(bytes);
        if family == Family::V6 {
            self.udp_tx_datagrams_ipv6.add(datagrams);
            self.udp_tx_bytes_ipv6.add(bytes);
        }
    }

    pub fn drop(&self, why: Drop, packets: u64) {
        self.drops[why as usize].add_shared(packets);
    }
}

/// How many packets died of each reason.
pub fn drops<'a>(all: impl Iterator<Item = &'a Counters> + Clone) -> Vec<(&'static str, u64)> {
    Drop::ALL.iter().map(|why| (why.word(), all.clone().map(|c| c.drops[*why as usize].get()).sum())).collect()
}
