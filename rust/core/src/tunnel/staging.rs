//! Packets that wait for a handshake: a bounded queue a peer, the oldest goes first (C3 row 16, kernel MAX_STAGED_PACKETS).

use std::collections::VecDeque;

/// As many packets as the kernel keeps for one peer.
pub const MAX_STAGED: usize = 128;

/// Inner packets, unpadded, in the order in which they came.
#[derive(Debug, Default)]
pub struct Staging {
    packets: VecDeque<Box<[u8]>>,
}

impl Staging {
    /// Keep a copy; true when the oldest packet had to go for it.
    pub fn push(&mut self, packet: &[u8]) -> bool {
        let full = self.packets.len() >= MAX_STAGED;
        if full {
            self.packets.pop_front();
        }
        self.packets.push_back(packet.into());
        full
    }

    pub fn pop(&mut self) -> Option<Box<[u8]>> {
        let packet = self.packets.pop_front();
        if self.packets.is_empty() {
            // A peer that nobody talks to must not keep the queue's memory.
            self.packets = VecDeque::new();
        }
        packet
    }

    /// Forget all; how many there were.
    pub fn clear(&mut self) -> usize {
        core::mem::take(&mut self.packets).len()
    }

    pub fn len(&self) -> usize {
        self.packets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_16_a_peer_stages_128_packets_and_loses_the_oldest() {
        let mut staging = Staging::default();
        for n in 0..300u16 {
            assert_eq!(staging.push(&n.to_be_bytes()), n >= 128);
        }
        assert_eq!(staging.len(), MAX_STAGED);
        assert_eq!(staging.pop().as_deref(), Some(&172u16.to_be_bytes()[..]));
        assert_eq!(staging.clear(), 127);
    }
}
