//! A handshake of one peer, in three steps, so that the peer's lock is free while Diffie-Hellman is done and its packets,
//! and those of others behind them, go on: what it takes is taken out of the peer ([`Work`]), the message is made or
//! read, and the result is put back. Keys that were changed meanwhile make the result worthless.

use super::buckets::Bucket;
use super::endpoint::Endpoint;
use super::keypairs::Keypair;
use super::noise::{Noise, Timestamp};
use super::peer::Peer;
use crate::observe::drop::Drop;
use crate::plan::{PublicKey, Secret};
use crate::time::{Now, Tick};
use crate::wire::wireguard::{COOKIE_REPLY_LEN, INITIATION_LEN, RESPONSE_LEN};
use core::time::Duration;

/// Of one peer's initiations fifty a second are answered (C3 row 6, kernel INITIATIONS_PER_SECOND), and five at once: a
/// link that goes down and up again must not wait for a retry.
const INITIATION_COST: Duration = Duration::from_millis(20);
const INITIATIONS_FULL: Duration = Duration::from_millis(100);

/// An initiation of ours that waits for its answer.
pub(super) struct Attempt<N> {
    engine: N,
    pub(super) index: u32,
}

/// What of a peer a result was made from, to be compared when it is put back.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Versions {
    /// Counts changes of keys, and removal.
    pub(super) keys: u32,
    /// Counts attempts that ended, whichever way.
    pub(super) attempts: u32,
}

/// A handshake taken out of its peer.
pub struct Work<N> {
    key: PublicKey,
    psk: Option<Secret>,
    engine: Option<N>,
    index: Option<u32>,
    versions: Versions,
}

impl<N: Noise> Work<N> {
    fn engine(&mut self, identity: &N::Identity, index: impl FnOnce() -> u32) -> Result<&mut N, Drop> {
        if self.engine.is_none() {
            let index = *self.index.insert(index());
            self.engine = Some(N::new(identity, &self.key, self.psk.as_ref(), index)?);
        }
        self.engine.as_mut().ok_or(Drop::BadHandshake)
    }

    /// Write an initiation, for a new attempt or the next try of one. `index` is asked for a new one only.
    pub fn initiate(
        &mut self,
        identity: &N::Identity,
        index: impl FnOnce() -> u32,
    ) -> Result<[u8; INITIATION_LEN], Drop> {
        let mut message = [0; INITIATION_LEN];
        self.engine(identity, index)?.initiate(&mut message)?;
        Ok(message)
    }

    /// Write the answer to an initiation.
    pub fn answer(
        &mut self,
        identity: &N::Identity,
        initiation: &[u8; INITIATION_LEN],
        index: impl FnOnce() -> u32,
    ) -> Result<[u8; RESPONSE_LEN], Drop> {
        let mut response = [0; RESPONSE_LEN];
        self.engine(identity, index)?.respond(initiation, &mut response)?;
        Ok(response)
    }

    /// Take the answer to the attempt under way.
    pub fn finish(&mut self, response: &[u8; RESPONSE_LEN]) -> Result<(), Drop> {
        self.engine.as_mut().ok_or(Drop::UnknownIndex)?.finish(response)
    }
}

impl<N: Noise> Peer<N> {
    fn work(&self, attempt: Option<Attempt<N>>) -> Work<N> {
        let (engine, index) = attempt.map(|attempt| (attempt.engine, attempt.index)).unzip();
        Work { key: *self.key(), psk: self.psk().cloned(), engine, index, versions: self.versions }
    }

    /// What came of it, if it is as good as when it was begun; else its index is free again.
    fn put_back(&mut self, work: Work<N>, is_current: bool) -> Option<Attempt<N>> {
        let index = work.index?;
        match work.engine.filter(|_| is_current) {
            Some(engine) => Some(Attempt { engine, index }),
            None => {
                self.keypairs.release(index);
                None
            }
        }
    }

    /// For an initiation, or for the answer to one: the attempt under way, or the makings of a new one.
    pub fn take_attempt(&mut self) -> Work<N> {
        let attempt = self.attempt.take();
        self.work(attempt)
    }

    /// An initiation was written, to be sent as it is returned. `None`: there was a change meanwhile, begin anew.
    pub fn initiated(
        &mut self,
        work: Work<N>,
        message: Result<[u8; INITIATION_LEN], Drop>,
        now: Tick,
        jitter: Duration,
    ) -> Result<Option<[u8; INITIATION_LEN]>, Drop> {
        self.handshake_asked = false;
        let is_current = work.versions == self.versions;
        self.attempt = self.put_back(work, is_current);
        let mut message = message?;
        if self.attempt.is_none() {
            return Ok(None);
        }
        self.cookies.sign(&mut message, now);
        self.timers.initiation_sent(now, jitter);
        self.tx_bytes += INITIATION_LEN as u64;
        Ok(Some(message))
    }

    /// The index that the attempt under way answers to.
    pub fn attempt_index(&self) -> Option<u32> {
        self.attempt.as_ref().map(|attempt| attempt.index)
    }

    /// May an initiation of this peer be looked at closer? Asked before more than one Diffie-Hellman is spent on it.
    pub fn may_answer(&self, now: Tick) -> Result<(), Drop> {
        match self.answers.is_none_or(|bucket| bucket.holds(INITIATION_COST, INITIATIONS_FULL, now)) {
            true => Ok(()),
            false => Err(Drop::PeerLimited),
        }
    }

    /// For the answer to an initiation that carries `timestamp`.
    pub fn take_initiation(&mut self, timestamp: Timestamp, now: Tick) -> Result<Work<N>, Drop> {
        // It may have been looked up before it was removed.
        if self.is_removed() {
            return Err(Drop::UnknownPeer);
        }
        self.may_answer(now)?;
        if timestamp <= self.newest {
            return Err(Drop::ReplayedInitiation);
        }
        Ok(self.work(None))
    }

    /// An answer was written, to be sent as it is returned; the flag: the peer moved.
    pub fn answered(
        &mut self,
        work: Work<N>,
        response: Result<[u8; RESPONSE_LEN], Drop>,
        timestamp: Timestamp,
        from: Endpoint,
        now: Tick,
    ) -> Result<([u8; RESPONSE_LEN], bool), Drop> {
        let is_current = response.is_ok() && work.versions.keys == self.versions.keys;
        let session = self.put_back(work, is_current);
        let mut response = response?;
        let Attempt { engine, index } = session.ok_or(Drop::UnknownPeer)?;
        self.cookies.sign(&mut response, now);
        self.newest = timestamp;
        self.answers.get_or_insert(Bucket::full(INITIATIONS_FULL, now)).draw(INITIATION_COST, INITIATIONS_FULL, now);
        self.timers.keys_derived(now);
        self.keypairs.install_answered(Keypair::new(engine, index, now, false));
        self.rx_bytes += INITIATION_LEN as u64;
        self.tx_bytes += RESPONSE_LEN as u64;
        self.heard(now);
        self.timers.sent(now);
        Ok((response, self.roam(from)))
    }

    /// The answer to the attempt under way was read; true: the peer moved.
    pub fn finished(
        &mut self,
        work: Work<N>,
        outcome: Result<(), Drop>,
        from: Endpoint,
        now: Now,
    ) -> Result<bool, Drop> {
        let is_current = work.versions == self.versions;
        let attempt = self.put_back(work, is_current);
        if let Err(why) = outcome {
            // Forged or garbled: the true answer may still come.
            self.attempt = attempt;
            return Err(why);
        }
        let Attempt { engine, index } = attempt.ok_or(Drop::UnknownIndex)?;
        self.keypairs.install_initiated(Keypair::new(engine, index, now.tick, true));
        self.try_batches_again();
        self.rx_bytes += RESPONSE_LEN as u64;
        self.last_handshake = Some(now.wall);
        self.heard(now.tick);
        self.timers.session_made(now.tick);
        Ok(self.roam(from))
    }

    /// A cookie is no proof of who sent it: nothing changes but the next handshake message (C3 row 14).
    pub fn take_cookie(&mut self, message: &[u8; COOKIE_REPLY_LEN], now: Tick) -> Result<(), Drop> {
        let key = *self.key();
        self.cookies.take(&key, message, now)
    }
}
