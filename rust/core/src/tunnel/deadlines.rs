//! Whose timers come due when: one ordered set over the peers that have something due, nothing over the others (C3 row 10).

use crate::time::Tick;
use std::collections::{BTreeSet, HashMap};

/// At most one entry a peer, kept in the order of time.
#[derive(Debug, Default)]
pub struct Deadlines {
    order: BTreeSet<(Tick, u32)>,
    armed: HashMap<u32, Tick>,
}

impl Deadlines {
    /// The peer is next looked at when `at` comes; `None` takes it off.
    pub fn set(&mut self, peer: u32, at: Option<Tick>) {
        if let Some(old) = self.armed.remove(&peer) {
            self.order.remove(&(old, peer));
        }
        if let Some(at) = at {
            self.armed.insert(peer, at);
            self.order.insert((at, peer));
        }
    }

    /// When something comes due next.
    pub fn next(&self) -> Option<Tick> {
        self.order.first().map(|(at, _)| *at)
    }

    /// A peer whose time has come, taken off.
    pub fn pop(&mut self, now: Tick) -> Option<u32> {
        let (at, peer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.set(peer, None);
        Some(peer)
    }

    pub fn len(&self) -> usize {
        self.armed.len()
    }

    pub fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_10_only_peers_that_are_due_come_up_and_in_order() {
        let mut deadlines = Deadlines::default();
        deadlines.set(1, Some(Tick(30)));
        deadlines.set(2, Some(Tick(10)));
        deadlines.set(3, Some(Tick(20)));
        deadlines.set(2, Some(Tick(25)));
        deadlines.set(3, None);
        assert_eq!(deadlines.len(), 2);
        assert_eq!(deadlines.pop(Tick(24)), None);
        assert_eq!(deadlines.next(), Some(Tick(25)));
        assert_eq!(deadlines.pop(Tick(40)), Some(2));
        assert_eq!(deadlines.pop(Tick(40)), Some(1));
        assert!(deadlines.is_empty());
    }
}
