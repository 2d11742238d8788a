//! Packets that wait for a handshake: a bounded queue a peer, the oldest goes first (C3 row 16, kernel MAX_STAGED_PACKETS),
//! and one budget of bytes for the queues of all peers.

use crate::observe::drop::Drop;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;

/// As many packets as the kernel keeps for one peer.
pub const MAX_STAGED: usize = 128;
/// What all peers of a device may have waiting, together.
pub const MAX_BYTES: usize = 16 << 20;
/// What keeping a packet costs besides its bytes: its place in the queue, the allocator's own.
const OVERHEAD: usize = 32;

/// Bytes that wait in all queues of one device.
#[derive(Debug, Default)]
pub struct Budget {
    used: AtomicUsize,
}

impl Budget {
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    fn free(&self) -> usize {
        MAX_BYTES.saturating_sub(self.used())
    }

    /// What one peer may hold beyond a single packet: the more is in use the less, so that the last half of the budget
    /// is there for peers that are sent to for the first time.
    fn share(&self) -> usize {
        match self.used() {
            used if used < MAX_BYTES / 4 => MAX_BYTES / 8,
            used if used < MAX_BYTES / 2 => MAX_BYTES / 512,
            _ => 0,
        }
    }
}

/// Inner packets, unpadded, in the order in which they came.
#[derive(Debug, Default)]
pub struct Staging {
    packets: VecDeque<Box<[u8]>>,
    bytes: usize,
    budget: Arc<Budget>,
}

fn cost(packet: &[u8]) -> usize {
    packet.len() + OVERHEAD
}

impl Staging {
    pub fn new(budget: Arc<Budget>) -> Staging {
        Staging { packets: VecDeque::new(), bytes: 0, budget }
    }

    /// Keep a copy. What had to go for it, or that it could not be kept: the reason, and how many packets.
    pub fn push(&mut self, packet: &[u8]) -> Option<(Drop, usize)> {
        let full = self.packets.len() >= MAX_STAGED && self.drop_oldest();
        let cost = cost(packet);
        let mut over = 0;
        while self.bytes + cost > self.budget.share() && self.drop_oldest() {
            over += 1;
        }
        let gone = usize::from(full) + over;
        if cost > self.budget.free() {
            return Some((Drop::StagingBudget, gone + 1));
        }
        self.bytes += cost;
        self.budget.used.fetch_add(cost, Relaxed);
        self.packets.push_back(packet.into());
        (gone > 0).then_some((if over > 0 { Drop::StagingBudget } else { Drop::StagingFull }, gone))
    }

    pub fn pop(&mut self) -> Option<Box<[u8]>> {
        let packet = self.packets.pop_front();
        if let Some(packet) = &packet {
            self.give_back(cost(packet));
        }
        if self.packets.is_empty() {
            // A peer that nobody talks to must not keep the queue's memory.
            self.packets = VecDeque::new();
        }
        packet
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.packets.pop_front();
        if let Some(packet) = &oldest {
            self.give_back(cost(packet));
        }
        oldest.is_some()
    }

    fn give_back(&mut self, cost: usize) {
        self.bytes -= cost;
        self.budget.used.fetch_sub(cost, Relaxed);
    }

    /// Forget all; how many there were.
    pub fn clear(&mut self) -> usize {
        self.give_back(self.bytes);
        core::mem::take(&mut self.packets).len()
    }

    pub fn len(&self) -> usize {
        self.packets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

impl core::ops::Drop for Staging {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_16_a_peer_stages_128_packets_and_loses_the_oldest() {
        let mut staging = Staging::default();
        for n in 0..300u16 {
            let dropped = (n >= 128).then_some((Drop::StagingFull, 1));
            assert_eq!(staging.push(&n.to_be_bytes()), dropped);
        }
        assert_eq!(staging.len(), MAX_STAGED);
        assert_eq!(staging.pop().as_deref(), Some(&172u16.to_be_bytes()[..]));
        assert_eq!(staging.clear(), 127);
        assert_eq!(staging.budget.used(), 0);
    }

    /// Ten thousand peers, each sent to again and again: bounded, and the last one still has a packet waiting.
    #[test]
    fn c3_16_all_peers_share_one_budget_and_newcomers_find_room() {
        let budget = Arc::new(Budget::default());
        let mut peers: Vec<_> = (0..10_000).map(|_| Staging::new(budget.clone())).collect();
        let packet = [0x45; 1420];
        let (mut pushed, mut dropped) = (0, 0);
        for peer in peers.iter_mut() {
            for _ in 0..200 {
                pushed += 1;
                dropped += peer.push(&packet).map_or(0, |(_, packets)| packets);
            }
            assert!(budget.used() <= MAX_BYTES);
        }
        let kept: usize = peers.iter().map(Staging::len).sum();
        assert_eq!(pushed, kept + dropped, "each is kept or told, once");
        assert_eq!(budget.used(), kept * (packet.len() + OVERHEAD));
        assert!(peers[..5000].iter().all(|peer| !peer.is_empty()), "newcomers find room");
        assert!(peers[0].len() == MAX_STAGED, "one peer alone is not hindered");
        drop(peers);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_peer_that_stages_super_packets_is_not_cut_short_while_there_is_room() {
        let mut staging = Staging::default();
        assert!((0..100).all(|_| staging.push(&[0; 9000]).is_none()));
        assert_eq!(staging.len(), 100);
    }
}
