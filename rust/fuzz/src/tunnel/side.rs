//! One end: a peer, what the edge does around it, and its watch.

use super::clear::Clear;
use super::handshakes::Out;
use super::watch::Watch;
use super::Flight;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use wgengine_core::plan::{PublicKey, Secret};
use wgengine_core::time::{Now, Tick};
use wgengine_core::tunnel::peer::Peer;
use wgengine_core::tunnel::staging::Budget;
use wgengine_core::tunnel::timers::Due;
use wgengine_core::wire::wireguard::{Data, Message, COOKIE_REPLY_LEN, DATA_OVERHEAD};

pub struct Side {
    pub(super) peer: Peer<Clear>,
    pub(super) watch: Watch,
    pub(super) next_index: u32,
    /// The control thread was asked for a handshake so often, and has not come to it.
    pub(super) asked: usize,
    /// What the control thread is computing, without the peer's lock.
    pub(super) out: Option<Out>,
    pub(super) answered: Vec<Tick>,
    /// Data messages with content that came in.
    pub heard: usize,
    pub sent: Vec<Vec<u8>>,
}

fn key(who: u32) -> PublicKey {
    PublicKey([who as u8 + 1; 32])
}

fn address(which: u8) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 1000 + u16::from(which)).into()
}

impl Side {
    pub fn new(who: u32, budget: Arc<Budget>) -> Side {
        Side {
            peer: Peer::new(key(who), Default::default(), budget),
            watch: Watch::default(),
            next_index: who << 20,
            asked: 0,
            out: None,
            answered: Vec::new(),
            heard: 0,
            sent: Vec::new(),
        }
    }

    pub fn audit(&mut self, now: Now) {
        let out = self.out.as_ref().and_then(Out::index);
        self.watch.audit(&mut self.peer, now, out);
    }

    pub fn staged_bytes(&self) -> usize {
        self.watch.staged_bytes()
    }

    // ---- configuration -------------------------------------------------------------------------------------------

    pub fn set_endpoint(&mut self, which: u8) {
        self.peer.set_endpoint(address(which));
    }

    pub fn set_psk(&mut self, which: u8) {
        self.peer.set_psk((which > 0).then(|| Secret([which; 32])));
    }

    pub fn set_persistent(&mut self, now: Now, seconds: u16) {
        self.peer.timers.set_persistent(seconds, now.tick);
    }

    pub fn forget_sessions(&mut self) {
        self.peer.forget_sessions();
        self.watch.reset();
    }

    pub fn reset_sessions(&mut self, now: Now) {
        self.asked += usize::from(self.peer.reset_sessions(now.tick));
        self.watch.reset();
        assert!(!self.peer.can_send(now.tick), "a session outlived its reset");
    }

    /// Sessions that the other side may still use stay; what waits stays, and keeps the peer awake.
    pub fn trim(&mut self, now: Now) {
        let waiting = !self.peer.staging.is_empty();
        assert_eq!(self.peer.trim(now.tick), !waiting);
        if !waiting {
            self.watch.trimmed();
        }
    }

    pub fn wake(&mut self, now: Now) {
        self.peer.wake(now.tick);
    }

    /// The peer is removed and added again. The row that is gone may still be in a thread's hands: nothing comes of it.
    pub fn replace<'a>(&mut self, now: Now, budget: Arc<Budget>, late: impl Iterator<Item = &'a Flight>) {
        let waiting = self.peer.remove();
        self.watch.cleared(waiting);
        self.watch.reset();
        self.audit(now);
        let sent = self.sent.len();
        self.complete(now, Duration::ZERO);
        for flight in late {
            if let Ok(Message::Initiation(_)) = Message::parse(&flight.bytes) {
                let answer = self.peer.take_initiation([0xff; 12], now.tick);
                assert!(answer.is_err(), "a removed peer answers");
            }
        }
        assert!(!self.peer.ask_handshake(now.tick), "a removed peer asks for a handshake");
        assert!(self.peer.keepalive(now.tick).is_none() && self.peer.poll(now.tick).is_none());
        self.audit(now);
        assert_eq!(self.sent.len(), sent, "a removed peer sends");
        self.peer = Peer::new(*self.peer.key(), self.peer.newest_timestamp(), budget);
        self.watch = Watch::default();
        (self.asked, self.answered) = (0, Vec::new());
    }

    // ---- out -----------------------------------------------------------------------------------------------------

    /// A packet out of the TUN.
    pub fn send(&mut self, now: Now, length: usize, jitter: Duration) {
        if self.peer.address().is_none() {
            return;
        }
        self.peer.wanted(now.tick);
        assert!(!self.peer.is_trimmed(), "there is traffic");
        let can_send = self.peer.can_send(now.tick);
        let packet = vec![0x45; length];
        if !can_send || !self.peer.staging.is_empty() {
            let dropped = self.peer.staging.push(&packet);
            self.watch.staged(length, dropped);
            if !can_send && self.peer.ask_handshake(now.tick) {
                self.asked += 1;
            }
            return;
        }
        self.seal(now, &packet);
        if self.peer.sent(now.tick, true, jitter) {
            self.asked += 1;
        }
    }

    fn seal(&mut self, now: Now, packet: &[u8]) {
        let mut out = vec![0; packet.len() + DATA_OVERHEAD];
        let length = self.peer.seal(packet, &mut out).expect("it was asked whether it can send");
        self.emit_data(now, out[..length].to_vec());
    }

    fn emit_data(&mut self, now: Now, message: Vec<u8>) {
        self.watch.sealed(now.tick, &message);
        self.sent.push(message);
    }

    pub(super) fn send_staged(&mut self, now: Now) {
        let mut any = false;
        while self.peer.can_send(now.tick) {
            let Some(packet) = self.peer.staging.pop() else { break };
            self.watch.popped(packet.len());
            self.seal(now, &packet);
            any = true;
        }
        if any {
            self.peer.sent(now.tick, true, Duration::ZERO);
        }
    }

    pub(super) fn keepalive(&mut self, now: Now, turn: bool, jitter: Duration) {
        let shake = match self.peer.keepalive(now.tick) {
            Some(message) => {
                self.emit_data(now, message.to_vec());
                self.peer.sent(now.tick, false, Duration::ZERO)
            }
            None => self.peer.endpoint.is_some() && self.peer.ask_handshake(now.tick),
        };
        if shake {
            self.initiate(now, turn);
            self.complete(now, jitter);
        }
    }

    // ---- timers --------------------------------------------------------------------------------------------------

    pub fn due(&mut self, now: Now, turn: bool, jitter: Duration) {
        self.complete(now, jitter);
        let (trimmed, sent) = (self.peer.is_trimmed(), self.sent.len());
        while let Some(due) = self.peer.poll(now.tick) {
            match due {
                Due::Initiate => {
                    self.initiate(now, turn);
                    self.complete(now, jitter);
                }
                Due::Keepalive => self.keepalive(now, turn, jitter),
                Due::GiveUp { .. } => {
                    let waiting = self.peer.staging.clear();
                    self.watch.cleared(waiting);
                }
                Due::Forget => self.watch.forgot(),
            }
        }
        assert!(self.peer.timers.next().is_none_or(|next| next > now.tick), "due, and nothing comes of it");
        assert!(!trimmed || self.sent.len() == sent, "a trimmed peer sends by itself");
    }

    // ---- in ------------------------------------------------------------------------------------------------------

    /// `slow`: what takes Diffie-Hellman is not put back at once.
    pub fn receive(&mut self, now: Now, flight: &Flight, elsewhere: bool, slow: bool) {
        let from = address(if elsewhere { 9 } else { 8 });
        if matches!(flight.bytes[0], 1 | 2) {
            self.complete(now, Duration::ZERO);
        }
        let before = self.shown();
        let taken = match Message::parse(&flight.bytes) {
            Ok(Message::Initiation(message)) => self.take_initiation(now, message, from),
            Ok(Message::Response(message)) => self.take_response(message, from),
            Ok(Message::Data(data)) => Some(self.take_data(now, data, flight.is_genuine(), from)),
            Ok(Message::CookieReply(message)) => Some(self.take_cookie(now, message)),
            Err(_) => Some(false),
        };
        let taken = match taken {
            None if slow => return,
            None => self.complete(now, Duration::ZERO),
            Some(taken) => taken,
        };
        assert!(flight.is_genuine() || !taken, "a message that was changed is taken");
        if taken {
            assert_eq!(self.peer.address(), Some(from), "an authentic message moves the peer");
        } else {
            assert_eq!(self.shown(), before, "what is refused changes nothing");
        }
    }

    /// All that a refused message must leave as it is.
    fn shown(&self) -> impl PartialEq + core::fmt::Debug {
        let peer = &self.peer;
        let known = (peer.bytes(), peer.address(), peer.last_handshake(), peer.newest_timestamp());
        (known, peer.timers.next(), peer.attempt_index(), peer.staging.len())
    }

    fn take_data(&mut self, now: Now, data: Data<'_>, genuine: bool, from: SocketAddr) -> bool {
        self.watch.release(&mut self.peer);
        let expected = self.watch.should_open(now.tick, &data, genuine);
        let mut out = vec![0; data.datagram.len()];
        let opened = self.peer.open(now, data, &mut out);
        assert_eq!(opened.is_ok(), expected, "{opened:?}");
        let Ok(opened) = opened else { return false };
        self.watch.opened(&data, opened.confirmed);
        assert!(out[..opened.len].iter().all(|byte| *byte == 0x45));
        let (_, shake) = self.peer.received(now.tick, opened.len > 0, from.into());
        assert!(!self.peer.is_trimmed(), "there is traffic");
        self.asked += usize::from(shake);
        self.heard += usize::from(opened.len > 0);
        if opened.confirmed {
            self.send_staged(now);
        }
        true
    }

    fn take_cookie(&mut self, now: Now, message: &[u8; COOKIE_REPLY_LEN]) -> bool {
        self.peer.take_cookie(message, now.tick).is_ok()
    }
}
