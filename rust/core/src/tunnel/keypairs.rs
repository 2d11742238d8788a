//! Three key pairs a peer: the one in use, the one before it, and one that the other side has yet to confirm
//! (whitepaper 6.1 and the kernel's `noise.c`: nobody sends on a session before it is known that both sides have it).

use super::noise::Noise;
use super::timers::{KEEPALIVE_TIMEOUT, REJECT_AFTER_TIME, REKEY_AFTER_TIME, REKEY_TIMEOUT};
use crate::observe::drop::Drop;
use crate::time::Tick;
use crate::wire::wireguard::Data;

/// Whitepaper 6.1: a new session is asked for after this many messages ...
pub const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// ... and this session is never used beyond this counter, to send or to receive (C3 row 1).
pub const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// A session and what is known of it.
#[derive(Debug)]
pub struct Keypair<N> {
    engine: N,
    /// The upper 24 bits of the indices by which the other side addresses it.
    index: u32,
    born: Tick,
    initiator: bool,
    sent: u64,
}

impl<N: Noise> Keypair<N> {
    pub fn new(engine: N, index: u32, born: Tick, initiator: bool) -> Keypair<N> {
        Keypair { engine, index, born, initiator, sent: 0 }
    }

    fn alive(&self, now: Tick) -> bool {
        now.since(self.born) < REJECT_AFTER_TIME
    }

    fn can_send(&self, now: Tick) -> bool {
        self.alive(now) && self.sent < REJECT_AFTER_MESSAGES
    }
}

/// The key pairs of one peer, and the indices that are free again.
#[derive(Debug)]
pub struct Keypairs<N> {
    previous: Option<Box<Keypair<N>>>,
    current: Option<Box<Keypair<N>>>,
    next: Option<Box<Keypair<N>>>,
    retired: Vec<u32>,
}

/// What opening a message told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Length of the inner packet; 0 is a keepalive.
    pub len: usize,
    /// The other side has confirmed a session that we answered for.
    pub confirmed: bool,
}

impl<N> Default for Keypairs<N> {
    fn default() -> Self {
        Keypairs { previous: None, current: None, next: None, retired: Vec::new() }
    }
}

impl<N: Noise> Keypairs<N> {
    fn retire(&mut self, pair: Option<Box<Keypair<N>>>) {
        self.retired.extend(pair.map(|p| p.index));
    }

    /// An index that was never a session's is free again.
    pub fn release(&mut self, index: u32) {
        self.retired.push(index);
    }

    /// We initiated: both sides have the session, so it is used at once.
    pub fn install_initiated(&mut self, pair: Keypair<N>) {
        let old = self.previous.take();
        self.retire(old);
        if let Some(unconfirmed) = self.next.take() {
            // Newer than the current one, and perhaps in use by the other side already.
            let current = self.current.take();
            self.retire(current);
            self.previous = Some(unconfirmed);
        } else {
            self.previous = self.current.take();
        }
        self.current = Some(Box::new(pair));
    }

    /// We answered: the session waits until the other side uses it.
    pub fn install_answered(&mut self, pair: Keypair<N>) {
        let (next, previous) = (self.next.take(), self.previous.take());
        self.retire(next);
        self.retire(previous);
        self.next = Some(Box::new(pair));
    }

    /// Can something be sent now?
    pub fn can_send(&self, now: Tick) -> bool {
        self.current.as_ref().is_some_and(|pair| pair.can_send(now))
    }

    /// Seal with the current session; the caller has asked [`Keypairs::can_send`] in this turn.
    pub fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, Drop> {
        let pair = self.current.as_mut().ok_or(Drop::SessionExpired)?;
        if pair.sent >= REJECT_AFTER_MESSAGES {
            return Err(Drop::SessionExpired);
        }
        pair.sent += 1;
        pair.engine.seal(plain, out)
    }

    /// After a send: is it time for new keys? (whitepaper 6.2)
    pub fn stale_after_send(&self, now: Tick) -> bool {
        self.current.as_ref().is_some_and(|pair| {
            pair.sent >= REKEY_AFTER_MESSAGES || (pair.initiator && now.since(pair.born) >= REKEY_AFTER_TIME)
        })
    }

    /// After a receive: will the session end before a handshake could? (whitepaper 6.2)
    pub fn stale_after_receive(&self, now: Tick) -> bool {
        self.current.as_ref().is_some_and(|pair| {
            pair.initiator && now.since(pair.born) >= REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
        })
    }

    /// Open a data message with the session that it names.
    pub fn open(&mut self, now: Tick, data: Data<'_>, out: &mut [u8]) -> Result<Opened, Drop> {
        let named = |slot: &Option<Box<Keypair<N>>>| slot.as_ref().is_some_and(|pair| pair.index == data.receiver >> 8);
        let unconfirmed = named(&self.next);
        let slot = if named(&self.current) {
            &mut self.current
        } else if unconfirmed {
            &mut self.next
        } else if named(&self.previous) {
            &mut self.previous
        } else {
            return Err(Drop::UnknownIndex);
        };
        let pair = slot.as_mut().ok_or(Drop::UnknownIndex)?;
        if !pair.alive(now) || data.counter >= REJECT_AFTER_MESSAGES {
            return Err(Drop::SessionExpired);
        }
        let len = pair.engine.open(data.datagram, out)?;
        if unconfirmed {
            let old = self.previous.take();
            self.retire(old);
            self.previous = self.current.take();
            self.current = self.next.take();
        }
        Ok(Opened { len, confirmed: unconfirmed })
    }

    /// Forget the sessions that nobody can use any more; when the last of the others ends.
    pub fn clear_dead(&mut self, now: Tick) -> Option<Tick> {
        let mut last = None;
        for slot in [&mut self.previous, &mut self.current, &mut self.next] {
            match slot {
                Some(pair) if pair.alive(now) => last = last.max(Some(pair.born + REJECT_AFTER_TIME)),
                _ => self.retired.extend(slot.take().map(|pair| pair.index)),
            }
        }
        last
    }

    /// Forget all sessions.
    pub fn clear(&mut self) {
        for pair in [self.previous.take(), self.current.take(), self.next.take()] {
            self.retire(pair);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.previous.is_none() && self.current.is_none() && self.next.is_none()
    }

    /// Indices that no session of this peer answers to any more; each is told once.
    pub fn take_retired(&mut self) -> Vec<u32> {
        core::mem::take(&mut self.retired)
    }

    pub fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PublicKey, Secret};
    use crate::wire::wireguard::{DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};
    use std::time::Duration;

    /// No cryptography: only the rules around it are tested here.
    struct Clear;

    impl Noise for Clear {
        type Identity = ();
        fn new(_: &(), _: &PublicKey, _: Option<&Secret>, _: u32) -> Result<Clear, Drop> {
            Ok(Clear)
        }
        fn initiate(&mut self, _: &mut [u8; INITIATION_LEN]) -> Result<(), Drop> {
            Ok(())
        }
        fn respond(&mut self, _: &[u8; INITIATION_LEN], _: &mut [u8; RESPONSE_LEN]) -> Result<(), Drop> {
            Ok(())
        }
        fn finish(&mut self, _: &[u8; RESPONSE_LEN]) -> Result<(), Drop> {
            Ok(())
        }
        fn seal(&mut self, plain: &[u8], _: &mut [u8]) -> Result<usize, Drop> {
            Ok(plain.len() + DATA_OVERHEAD)
        }
        fn open(&mut self, datagram: &[u8], _: &mut [u8]) -> Result<usize, Drop> {
            Ok(datagram.len() - DATA_OVERHEAD)
        }
    }

    fn message(index: u32, counter: u64) -> Data<'static> {
        Data { receiver: index << 8 | 1, counter, datagram: &[0; DATA_OVERHEAD] }
    }

    #[test]
    fn c3_1_message_limits() {
        let mut pairs = Keypairs::default();
        pairs.install_initiated(Keypair::new(Clear, 1, Tick(0), true));
        let mut out = [0; 64];
        assert!(!pairs.stale_after_send(Tick(0)));
        if let Some(pair) = pairs.current.as_mut() {
            pair.sent = REKEY_AFTER_MESSAGES - 1;
        }
        assert!(!pairs.stale_after_send(Tick(0)));
        assert!(pairs.seal(&[], &mut out).is_ok());
        assert!(pairs.stale_after_send(Tick(0)), "REKEY_AFTER_MESSAGES asks for new keys");
        if let Some(pair) = pairs.current.as_mut() {
            pair.sent = REJECT_AFTER_MESSAGES - 1;
        }
        assert!(pairs.seal(&[], &mut out).is_ok());
        assert!(!pairs.can_send(Tick(0)));
        assert_eq!(pairs.seal(&[], &mut out), Err(Drop::SessionExpired));
        let now = Tick(1);
        assert!(pairs.open(now, message(1, REJECT_AFTER_MESSAGES - 1), &mut out).is_ok());
        for counter in [REJECT_AFTER_MESSAGES, u64::MAX - 1, u64::MAX] {
            assert_eq!(pairs.open(now, message(1, counter), &mut out), Err(Drop::SessionExpired));
        }
    }

    #[test]
    fn an_answered_session_is_used_only_when_the_other_side_has_used_it() {
        let mut pairs = Keypairs::default();
        pairs.install_initiated(Keypair::new(Clear, 1, Tick(0), true));
        pairs.install_answered(Keypair::new(Clear, 2, Tick(5), false));
        let mut out = [0; 64];
        assert!(!pairs.open(Tick(6), message(1, 0), &mut out).is_ok_and(|o| o.confirmed));
        assert!(pairs.open(Tick(6), message(2, 0), &mut out).is_ok_and(|o| o.confirmed));
        assert!(pairs.open(Tick(6), message(1, 1), &mut out).is_ok(), "late packets of the old session still count");
        pairs.install_answered(Keypair::new(Clear, 3, Tick(7), false));
        assert_eq!(pairs.take_retired(), vec![1]);
        assert_eq!(pairs.open(Tick(8), message(1, 2), &mut out), Err(Drop::UnknownIndex));
    }

    #[test]
    fn case_32_a_late_packet_of_the_old_session_does_not_bring_it_back() {
        let mut pairs = Keypairs::default();
        pairs.install_initiated(Keypair::new(Clear, 1, Tick(0), true));
        pairs.install_initiated(Keypair::new(Clear, 2, Tick(1), true));
        let mut out = [0; 64];
        assert!(pairs.open(Tick(2), message(1, 0), &mut out).is_ok());
        assert_eq!(pairs.current.as_ref().map(|pair| pair.index), Some(2));
    }

    #[test]
    fn both_sessions_of_crossing_handshakes_live() {
        let mut pairs = Keypairs::default();
        pairs.install_answered(Keypair::new(Clear, 8, Tick(0), false));
        pairs.install_initiated(Keypair::new(Clear, 9, Tick(0), true));
        let mut out = [0; 64];
        assert!(pairs.open(Tick(2), message(8, 0), &mut out).is_ok());
        assert!(pairs.open(Tick(2), message(9, 0), &mut out).is_ok());
    }

    #[test]
    fn a_session_is_dead_after_reject_after_time_in_both_directions() {
        let mut pairs = Keypairs::default();
        pairs.install_initiated(Keypair::new(Clear, 1, Tick(0), true));
        let mut out = [0; 64];
        let last = Tick(0) + REJECT_AFTER_TIME - Duration::from_nanos(1);
        assert!(pairs.can_send(last) && pairs.open(last, message(1, 0), &mut out).is_ok());
        let dead = Tick(0) + REJECT_AFTER_TIME;
        assert!(!pairs.can_send(dead));
        assert_eq!(pairs.open(dead, message(1, 1), &mut out), Err(Drop::SessionExpired));
    }

    #[test]
    fn only_the_initiator_asks_for_new_keys_by_age() {
        for (initiator, wants) in [(true, true), (false, false)] {
            let mut pairs = Keypairs::default();
            pairs.install_initiated(Keypair::new(Clear, 1, Tick(0), initiator));
            assert_eq!(pairs.stale_after_send(Tick(0) + REKEY_AFTER_TIME), wants);
            assert_eq!(pairs.stale_after_receive(Tick(0) + Duration::from_secs(165)), wants);
            assert!(!pairs.stale_after_receive(Tick(0) + Duration::from_secs(164)));
        }
    }
}
