//! One peer: its keys, its sessions, its timers, what waits for it, and what is known of it.
//!
//! The edge holds each peer under one lock. Data runs take it once: `can_send`, `seal`..., `sent` out of the TUN and
//! `open`..., `received` out of the socket. Handshakes, timers and configuration take it for themselves.

use super::activity::Activity;
use super::buckets::Bucket;
use super::cookie::Cookies;
use super::endpoint::{Checked, Endpoint};
use super::handshake::{Attempt, Versions};
use super::keypairs::{Keypairs, Opened};
use super::noise::{Noise, Timestamp};
use super::staging::{Budget, Staging};
use super::timers::{Due, Timers};
use crate::observe::drop::Drop;
use crate::plan::{PublicKey, Secret};
use crate::time::{Now, Seen, Tick, Wall};
use crate::wire::wireguard::{Data, KEEPALIVE_LEN};
use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

/// One peer of the device.
pub struct Peer<N> {
    key: PublicKey,
    psk: Option<Secret>,
    pub endpoint: Option<Endpoint>,
    source_serves: Checked,
    /// Batches are refused on the way to this endpoint: send single datagrams (case 24).
    pub single_datagrams: bool,
    pub(super) keypairs: Keypairs<N>,
    pub(super) attempt: Option<Attempt<N>>,
    pub(super) versions: Versions,
    pub(super) cookies: Cookies,
    pub timers: Timers,
    pub staging: Staging,
    /// The newest timestamp that this key has shown us; it outlives sessions and engines (C3 row 12).
    pub(super) newest: Timestamp,
    /// Answers to initiations that are left; `None` before the first.
    pub(super) answers: Option<Bucket>,
    pub(super) last_handshake: Option<Wall>,
    pub(super) tx_bytes: u64,
    pub(super) rx_bytes: u64,
    pub activity: Activity,
    /// The control thread has been asked for a handshake and has not come to it yet.
    pub(super) handshake_asked: bool,
    removed: bool,
}

impl<N: Noise> Peer<N> {
    /// `budget`: what the packets of all peers that wait for handshakes share.
    pub fn new(key: PublicKey, newest: Timestamp, budget: Arc<Budget>) -> Peer<N> {
        Peer {
            key,
            psk: None,
            endpoint: None,
            source_serves: Checked::default(),
            single_datagrams: false,
            keypairs: Keypairs::default(),
            attempt: None,
            versions: Versions::default(),
            cookies: Cookies::default(),
            timers: Timers::default(),
            staging: Staging::new(budget),
            newest,
            answers: None,
            last_handshake: None,
            tx_bytes: 0,
            rx_bytes: 0,
            activity: Activity::default(),
            handshake_asked: false,
            removed: false,
        }
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    pub fn psk(&self) -> Option<&Secret> {
        self.psk.as_ref()
    }

    /// (sent, received): bytes of UDP payload, handshakes included.
    pub fn bytes(&self) -> (u64, u64) {
        (self.tx_bytes, self.rx_bytes)
    }

    pub fn last_handshake(&self) -> Option<Wall> {
        self.last_handshake
    }

    pub fn newest_timestamp(&self) -> Timestamp {
        self.newest
    }

    pub fn is_removed(&self) -> bool {
        self.removed
    }

    // ---- configuration -------------------------------------------------------------------------------------------

    /// The next handshake uses it; sessions that exist live on, as in the kernel. False when nothing changed.
    pub fn set_psk(&mut self, psk: Option<Secret>) -> bool {
        let same = match (&self.psk, &psk) {
            (None, None) => true,
            (Some(old), Some(new)) => old.same(new),
            _ => false,
        };
        if !same {
            self.psk = psk;
            self.keys_changed();
        }
        !same
    }

    /// A configured endpoint is a new path: whatever was learnt of the old one is forgotten.
    pub fn set_endpoint(&mut self, address: SocketAddr) {
        if self.address() != Some(address) {
            self.roam(address.into());
        }
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.endpoint.map(|endpoint| endpoint.address)
    }

    /// Where to send, and from where. `serves` is asked of a learnt source once for each state of the host's `routes`;
    /// one that does not serve is left out.
    pub fn destination(&mut self, routes: u32, serves: impl FnOnce(&Endpoint) -> bool) -> Option<Endpoint> {
        let mut to = self.endpoint?;
        if to.source.is_some() && !self.source_serves.answer(routes, || serves(&to)) {
            to.source = None;
        }
        Some(to)
    }

    /// A path may have become wide again; one refused batch every two minutes costs nothing.
    pub(super) fn try_batches_again(&mut self) {
        self.single_datagrams = false;
    }

    /// Our own key changed, or the link went down: no session and no attempt counts any more.
    pub fn forget_sessions(&mut self) {
        self.keypairs.clear();
        self.keys_changed();
        self.timers.reset();
        self.handshake_asked = false;
    }

    /// The other side has begun anew, or shall: no session and no attempt counts any more. Our keys are what they were, so
    /// an initiation that is being answered goes on. True: the control thread should shake hands, for what waits.
    pub fn reset_sessions(&mut self, now: Tick) -> bool {
        self.keypairs.clear();
        self.abandon_attempt();
        self.timers.reset();
        self.handshake_asked = false;
        !self.staging.is_empty() && self.ask_handshake(now)
    }

    /// Nothing is sent by itself any more until there is traffic. Sessions that the other side may still use are kept as
    /// long as it may, or what it sends first would be lost. False: packets wait, so there is traffic.
    pub fn trim(&mut self, now: Tick) -> bool {
        if !self.staging.is_empty() {
            return false;
        }
        self.abandon_attempt();
        self.handshake_asked = false;
        let last = self.keypairs.clear_dead(now);
        self.timers.sleep(last);
        self.activity.listed = false;
        true
    }

    /// The end of being trimmed. False: it was not.
    pub fn wake(&mut self, now: Tick) -> bool {
        !self.removed && self.timers.wake(now)
    }

    pub fn is_trimmed(&self) -> bool {
        self.timers.is_asleep()
    }

    /// There was traffic: shall the edge put the peer on its list of those? Said once, until it is trimmed.
    pub fn take_listing(&mut self) -> bool {
        !self.removed && !core::mem::replace(&mut self.activity.listed, true)
    }

    /// The peer is gone; whoever still holds it finds no session. How many packets were waiting.
    pub fn remove(&mut self) -> usize {
        self.removed = true;
        self.psk = None;
        self.forget_sessions();
        self.timers.set_persistent(0, Tick(0));
        self.endpoint = None;
        self.staging.clear()
    }

    fn keys_changed(&mut self) {
        self.versions.keys = self.versions.keys.wrapping_add(1);
        self.abandon_attempt();
    }

    fn abandon_attempt(&mut self) {
        self.versions.attempts = self.versions.attempts.wrapping_add(1);
        if let Some(attempt) = self.attempt.take() {
            self.keypairs.release(attempt.index);
        }
    }

    /// Indices that nobody answers to any more; the edge takes them out of its table.
    pub fn take_retired(&mut self) -> Option<Vec<u32>> {
        self.keypairs.has_retired().then(|| self.keypairs.take_retired())
    }

    // ---- data out ------------------------------------------------------------------------------------------------

    /// There is something for this peer. True: it was trimmed, and has woken.
    pub fn wanted(&mut self, now: Tick) -> bool {
        self.activity.sent = Seen::at(now);
        self.wake(now)
    }

    pub fn can_send(&self, now: Tick) -> bool {
        self.keypairs.can_send(now)
    }

    /// Seal one padded packet.
    pub fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Result<usize, Drop> {
        let len = self.keypairs.seal(plain, out)?;
        self.tx_bytes += len as u64;
        Ok(len)
    }

    /// After a run of sealed packets. True: the control thread should shake hands.
    pub fn sent(&mut self, now: Tick, data: bool, jitter: Duration) -> bool {
        self.timers.sent(now);
        if data {
            self.timers.data_sent(now, jitter);
        }
        self.keypairs.stale_after_send(now) && self.ask_handshake(now)
    }

    /// No session: wait for one. True: the control thread should shake hands.
    pub fn ask_handshake(&mut self, now: Tick) -> bool {
        if self.removed || self.handshake_asked || self.is_trimmed() || !self.timers.may_initiate(now) {
            return false;
        }
        self.handshake_asked = true;
        true
    }

    /// The control thread comes to what [`Peer::ask_handshake`] has asked for: is it still wanted? A timer, an answer or
    /// the other side may have been quicker.
    pub fn take_ask(&mut self) -> bool {
        core::mem::take(&mut self.handshake_asked)
    }

    /// Others have their turn to shake hands: no engine is held meanwhile.
    pub fn wait_for_turn(&mut self, now: Tick) {
        self.handshake_asked = false;
        self.abandon_attempt();
        self.timers.wait_for_turn(now);
    }

    /// No handshake can be made; how many packets were waiting for it.
    pub fn cancel_handshake(&mut self) -> usize {
        self.handshake_asked = false;
        self.abandon_attempt();
        self.timers.attempt_over();
        self.staging.clear()
    }

    // ---- data in -------------------------------------------------------------------------------------------------

    pub fn open(&mut self, now: Now, data: Data<'_>, out: &mut [u8]) -> Result<Opened, Drop> {
        let opened = self.keypairs.open(now.tick, data, out)?;
        self.rx_bytes += data.datagram.len() as u64;
        if opened.confirmed {
            self.try_batches_again();
            self.timers.session_made(now.tick);
            self.last_handshake = Some(now.wall);
            self.abandon_attempt();
        }
        Ok(opened)
    }

    /// After a run of opened messages that came from `from`. The flags: the peer moved; a handshake is wanted.
    pub fn received(&mut self, now: Tick, data: bool, from: Endpoint) -> (bool, bool) {
        self.heard(now);
        if data {
            self.timers.data_received(now);
        }
        let moved = self.roam(from);
        (moved, self.keypairs.stale_after_receive(now) && self.ask_handshake(now))
    }

    /// Something of the peer was authentic; who was trimmed wakes.
    pub(super) fn heard(&mut self, now: Tick) {
        self.activity.received = Seen::at(now);
        self.wake(now);
        self.timers.received(now);
    }

    /// Only what authenticates may call this (C3 row 14). True: the peer itself moved, not just our end of its path.
    pub(super) fn roam(&mut self, from: Endpoint) -> bool {
        if self.endpoint == Some(from) {
            return false;
        }
        let moved = self.address() != Some(from.address);
        self.endpoint = Some(from);
        self.source_serves.forget();
        if moved {
            self.try_batches_again();
        }
        moved
    }

    // ---- timers --------------------------------------------------------------------------------------------------

    /// What is due now, one thing a call. What needs no datagram is done here already.
    pub fn poll(&mut self, now: Tick) -> Option<Due> {
        let due = self.timers.poll(now)?;
        match due {
            Due::GiveUp { .. } => self.abandon_attempt(),
            // An attempt that may be under way goes on; it has keys of its own.
            Due::Forget => self.keypairs.clear(),
            Due::Initiate | Due::Keepalive => {}
        }
        Some(due)
    }

    /// An empty data message; `None` without a session.
    pub fn keepalive(&mut self, now: Tick) -> Option<[u8; KEEPALIVE_LEN]> {
        if !self.can_send(now) {
            return None;
        }
        let mut message = [0; KEEPALIVE_LEN];
        self.seal(&[], &mut message).ok()?;
        Some(message)
    }
}
