//! Whose turn it is to shake hands. An attempt holds a Noise engine of several kilobytes, so only so many peers without a
//! session make one at a time; the others stand in one queue, cold. While somebody waits, a peer that was tried once and
//! did not answer makes room and stands at the end: peers that are gone cannot keep out one that is there.

use std::collections::{HashSet, VecDeque};

/// Peers without a session that shake hands at a time.
pub const MAX_TRYING: usize = 2048;

/// The turns of one device.
#[derive(Debug, Default)]
pub struct Backlog {
    trying: HashSet<u32>,
    waiting: VecDeque<u32>,
    queued: HashSet<u32>,
}

impl Backlog {
    /// A peer without a session wants to send an initiation, its first or a further one. May it, now? If not, it stands
    /// in the queue and comes up in [`Backlog::take_turn`].
    pub fn turn(&mut self, peer: u32) -> bool {
        let tried = self.trying.remove(&peer);
        let room = self.trying.len() < MAX_TRYING && self.waiting.is_empty();
        if tried && self.waiting.is_empty() || room {
            self.trying.insert(peer);
            return true;
        }
        if self.queued.insert(peer) {
            self.waiting.push_back(peer);
        }
        false
    }

    /// Its attempt is over, whichever way.
    pub fn done(&mut self, peer: u32) {
        self.trying.remove(&peer);
    }

    /// A peer from the queue that may try now, if there is room. It may have got a session, or have gone, meanwhile:
    /// then it is [`Backlog::done`].
    pub fn take_turn(&mut self) -> Option<u32> {
        if self.trying.len() >= MAX_TRYING {
            return None;
        }
        let peer = self.waiting.pop_front()?;
        self.queued.remove(&peer);
        self.trying.insert(peer);
        if self.waiting.is_empty() {
            // After a storm its memory goes, too.
            (self.waiting, self.queued) = Default::default();
        }
        Some(peer)
    }

    /// Does [`Backlog::take_turn`] have somebody?
    pub fn is_ready(&self) -> bool {
        !self.waiting.is_empty() && self.trying.len() < MAX_TRYING
    }

    pub fn trying(&self) -> usize {
        self.trying.len()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_try_at_a_time_and_the_others_wait_in_order() {
        let mut backlog = Backlog::default();
        let most = MAX_TRYING as u32;
        assert!((0..most).all(|peer| backlog.turn(peer)));
        assert!((most..10_000).all(|peer| !backlog.turn(peer)));
        assert_eq!(backlog.take_turn(), None);
        backlog.done(3);
        assert_eq!(backlog.take_turn(), Some(most));
        assert_eq!((backlog.trying(), backlog.waiting()), (MAX_TRYING, 10_000 - MAX_TRYING - 1));
        assert!(!backlog.turn(5_000), "asking again is no second place");
        assert_eq!(backlog.waiting(), 10_000 - MAX_TRYING - 1);
    }

    /// 9,999 peers that never answer: the last one has its turn within five retries of the others.
    #[test]
    fn silent_peers_make_room_after_one_try() {
        let mut backlog = Backlog::default();
        let mut trying: VecDeque<u32> = (0..10_000).filter(|peer| backlog.turn(*peer)).collect();
        let mut rounds = 0;
        while !trying.contains(&9_999) {
            for _ in 0..trying.len() {
                let peer = trying.pop_front().expect("somebody tries");
                assert!(!backlog.turn(peer), "somebody waits");
                trying.extend(backlog.take_turn());
            }
            rounds += 1;
        }
        assert!(rounds <= 5, "{rounds} rounds");
    }

    #[test]
    fn nobody_makes_room_for_nobody() {
        let mut backlog = Backlog::default();
        assert!(backlog.turn(1) && backlog.turn(1));
        backlog.done(1);
        assert_eq!((backlog.trying(), backlog.waiting(), backlog.take_turn()), (0, 0, None));
    }
}
