//! What must be true of one peer, kept beside it in the plainest form.

use super::clear::{session_of, Clear};
use std::collections::{HashMap, HashSet, VecDeque};
use wgengine_core::observe::drop::Drop;
use wgengine_core::time::{Now, Tick};
use wgengine_core::tunnel::peer::Peer;
use wgengine_core::tunnel::staging::MAX_STAGED;
use wgengine_core::tunnel::timers::{REJECT_AFTER_TIME, REKEY_TIMEOUT};
use wgengine_core::wire::wireguard::{Data, DATA_OVERHEAD};

/// Previous, current, next, the attempt under way, and an answer that is being written.
const MOST_INDICES: usize = 5;

/// A session as one side knows it.
struct Session {
    index: u32,
    born: Tick,
    opened: HashSet<u64>,
}

/// One peer's past, as far as rules depend on it.
#[derive(Default)]
pub struct Watch {
    /// Indices that the edge would find this peer by.
    pub table: HashSet<u32>,
    sessions: HashMap<u64, Session>,
    /// The newest that both sides are known to have: the only one to send on.
    current: Option<u64>,
    /// Answered since, and not used by the other side yet.
    next: Option<u64>,
    initiated: Option<Tick>,
    /// Lengths of the packets that wait.
    staged: VecDeque<usize>,
    tx: u64,
    rx: u64,
}

impl Watch {
    // ---- what the peer does --------------------------------------------------------------------------------------

    pub fn initiated(&mut self, now: Tick, message: &[u8]) {
        let spaced = self.initiated.is_none_or(|last| now.since(last) >= REKEY_TIMEOUT);
        assert!(spaced, "two initiations within REKEY_TIMEOUT");
        self.initiated = Some(now);
        self.tx += message.len() as u64;
    }

    pub fn answered(&mut self, now: Tick, initiation: &[u8], response: &[u8], index: u32) {
        let session = Session { index, born: now, opened: HashSet::new() };
        self.sessions.insert(session_of(response), session);
        self.next = Some(session_of(response));
        self.rx += initiation.len() as u64;
        self.tx += response.len() as u64;
    }

    pub fn finished(&mut self, now: Tick, response: &[u8], index: u32) {
        let session = Session { index, born: now, opened: HashSet::new() };
        self.sessions.insert(session_of(response), session);
        (self.current, self.next) = (Some(session_of(response)), None);
        self.rx += response.len() as u64;
    }

    /// A data message goes out: on the session agreed on last, alive, and known to both.
    pub fn sealed(&mut self, now: Tick, message: &[u8]) {
        let id = session_of(message);
        assert_eq!(Some(id), self.current, "an older session is used, or one that the other side may not have");
        let session = &self.sessions[&id];
        assert!(now.since(session.born) < REJECT_AFTER_TIME, "an expired session is used");
        self.tx += message.len() as u64;
    }

    /// Should this message open?
    pub fn should_open(&self, now: Tick, data: &Data<'_>, genuine: bool) -> bool {
        let session = self.sessions.get(&session_of(data.datagram));
        genuine
            && session.is_some_and(|session| {
                session.index == data.receiver >> 8
                    && self.table.contains(&session.index)
                    && now.since(session.born) < REJECT_AFTER_TIME
                    && !session.opened.contains(&data.counter)
            })
    }

    pub fn opened(&mut self, data: &Data<'_>, confirmed: bool) {
        let id = session_of(data.datagram);
        let session = self.sessions.get_mut(&id).expect("only sessions that are known open messages");
        assert!(session.opened.insert(data.counter), "a message was taken twice");
        assert_eq!(confirmed, self.next == Some(id));
        if confirmed {
            (self.current, self.next) = (Some(id), None);
        }
        self.rx += data.datagram.len() as u64;
    }

    pub fn forgot(&mut self) {
        (self.current, self.next) = (None, None);
    }

    /// Keys changed: what was tried before does not count.
    pub fn reset(&mut self) {
        self.forgot();
        self.initiated = None;
    }

    /// An attempt under way is over, and the next one follows traffic, not a timer.
    pub fn trimmed(&mut self) {
        self.initiated = None;
    }

    // ---- what waits ----------------------------------------------------------------------------------------------

    pub fn staged(&mut self, length: usize, dropped: Option<(Drop, usize)>) {
        self.staged.push_back(length);
        self.staged.drain(..dropped.map_or(0, |(_, packets)| packets));
    }

    pub fn popped(&mut self, length: usize) {
        assert_eq!(self.staged.pop_front(), Some(length), "packets leave in the order in which they came");
    }

    pub fn cleared(&mut self, packets: usize) {
        assert_eq!(packets, self.staged.len(), "each packet is sent or told as dropped, once");
        self.staged.clear();
    }

    /// What they take of the budget, 32 bytes each besides their own.
    pub fn staged_bytes(&self) -> usize {
        self.staged.iter().map(|length| length + 32).sum()
    }

    /// Indices that are free again, as the edge takes them out of its table whenever it held the peer.
    pub fn release(&mut self, peer: &mut Peer<Clear>) {
        for index in peer.take_retired().unwrap_or_default() {
            assert!(self.table.remove(&index), "an index is retired that is not in use");
        }
    }

    // ---- after everything ----------------------------------------------------------------------------------------

    /// `out`: the index of a handshake that is being computed.
    pub fn audit(&mut self, peer: &mut Peer<Clear>, now: Now, out: Option<u32>) {
        self.release(peer);
        assert!(self.table.len() <= MOST_INDICES);
        let attempt = peer.attempt_index();
        assert!(attempt.is_none_or(|index| self.table.contains(&index)));
        for index in self.table.iter().filter(|index| Some(**index) != attempt && Some(**index) != out) {
            assert_ne!(forged(peer, now, *index), Drop::UnknownIndex, "an index in the table that nobody answers to");
        }
        for session in self.sessions.values().filter(|session| !self.table.contains(&session.index)) {
            assert_eq!(forged(peer, now, session.index), Drop::UnknownIndex, "a session without an index");
        }
        let current = self.current.and_then(|id| self.sessions.get(&id));
        let can_send = current.is_some_and(|session| now.tick.since(session.born) < REJECT_AFTER_TIME);
        assert_eq!(peer.can_send(now.tick), can_send);
        assert_eq!(peer.staging.len(), self.staged.len());
        assert!(self.staged.len() <= MAX_STAGED);
        assert_eq!(peer.bytes(), (self.tx, self.rx));
        if peer.is_trimmed() {
            assert!(attempt.is_none() && self.staged.is_empty(), "a trimmed peer wants nothing");
        }
        if peer.is_removed() {
            assert!(self.table.iter().all(|index| Some(*index) == out));
            assert!(self.staged.is_empty() && peer.timers.next().is_none());
        }
    }
}

/// What becomes of a message that nobody sealed.
fn forged(peer: &mut Peer<Clear>, now: Now, index: u32) -> Drop {
    let datagram = [0; DATA_OVERHEAD];
    let data = Data { receiver: index << 8, counter: 0, datagram: &datagram };
    peer.open(now, data, &mut [0; DATA_OVERHEAD]).expect_err("a forged message was opened")
}
