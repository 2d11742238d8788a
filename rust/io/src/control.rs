//! The control thread: handshakes, timers, and what waited for a session. A peer's Diffie-Hellman is done under that
//! peer's lock only, so that a handshake delays no other peer's packets.

use crate::clock;
use crate::counters::Counters;
use crate::inbox::Letter;
use crate::link;
use crate::random::{self, jitter};
use crate::shared::Shared;
use crate::table::PeerCell;
use crate::udp::Family;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::{Event, Traffic};
use wgengine_core::tunnel::admission::{Gate, Origin, Verdict};
use wgengine_core::tunnel::backlog::Backlog;
use wgengine_core::tunnel::deadlines::Deadlines;
use wgengine_core::tunnel::endpoint::Endpoint;
use wgengine_core::tunnel::peer::Peer;
use wgengine_core::tunnel::timers::Due;
use wgengine_core::wire::wireguard::{padded, receiver, Message, DATA_OVERHEAD};
use wgengine_noise::{read_initiation, Boring};

/// Handshakes and timers a round, so that what is cheap and waits for an answer never waits long for what is dear.
const ROUND: usize = 16;

/// Under load initiations are collected for so long.
const NAP: Duration = Duration::from_millis(1);

/// The control thread's own state.
pub struct Control {
    shared: Arc<Shared>,
    deadlines: Deadlines,
    gate: Gate,
    backlog: Backlog,
    /// Who wants to shake hands, in the order of asking.
    shake: VecDeque<Arc<PeerCell>>,
    watch: Option<link::Watch>,
}

impl Control {
    pub fn new(shared: Arc<Shared>) -> Control {
        let watch = link::Watch::new(&shared.tun);
        match &watch {
            // What changed between the start and the subscription.
            Some(watch) => watch.read(&shared),
            // Nobody tells us (systemd's RestrictAddressFamilies may forbid it): taken for up, or nothing would ever go.
            None => shared.link_up(),
        }
        Control {
            shared,
            deadlines: Deadlines::default(),
            gate: Gate::default(),
            backlog: Backlog::default(),
            shake: VecDeque::new(),
            watch,
        }
    }

    fn counters(&self) -> &Counters {
        self.shared.control_counters()
    }

    /// Work until the device ends.
    pub fn run(mut self) -> io::Result<()> {
        // Looked at after the round, which quiets the inbox: a stop that it quieted was set before.
        while !self.shared.stopping.load(Ordering::Acquire) {
            self.wait()?;
            if let Some(watch) = &self.watch {
                watch.look(&self.shared);
            }
            self.round();
        }
        Ok(())
    }

    /// A bounded share of everything that is to be done.
    fn round(&mut self) {
        let (tasks, mut waiting) = self.shared.inbox.take(ROUND);
        let flooded = waiting == 0 && self.gate.under_load(clock::tick());
        for cell in tasks.arm {
            self.rearm(&cell);
        }
        for (cell, to) in tasks.single {
            self.path_too_small(&cell, to);
        }
        for letter in tasks.answers {
            self.count(|control| control.answer(&letter));
        }
        for cell in tasks.staged {
            self.send_staged(&cell);
        }
        waiting += tasks.initiations.len();
        for letter in tasks.initiations {
            waiting -= 1;
            self.count(|control| control.initiation(&letter, waiting));
        }
        self.shake.extend(tasks.shake);
        for _ in 0..ROUND {
            let Some(cell) = self.shake.pop_front() else { break };
            let wanted = cell.peer.lock().take_ask();
            if wanted {
                self.initiate(&cell);
            }
        }
        for _ in 0..ROUND {
            let Some(id) = self.backlog.take_turn() else { break };
            match self.shared.table.by_id(id).filter(|cell| cell.peer.lock().timers.waits_for_turn()) {
                Some(cell) => self.send_initiation(&cell),
                None => self.backlog.done(id),
            }
        }
        for _ in 0..ROUND {
            let Some(id) = self.deadlines.pop(clock::tick()) else { break };
            if let Some(cell) = self.shared.table.by_id(id) {
                self.due(&cell);
            }
        }
        while let Some(expired) = self.shared.pings.expire(clock::tick()) {
            self.shared.ring.push(expired);
        }
        if flooded {
            // Looking at many at a time costs the honest less than being woken for each of them.
            std::thread::sleep(NAP);
        }
    }

    fn count(&mut self, what: impl FnOnce(&mut Control) -> Result<(), Drop>) {
        if let Err(why) = what(self) {
            self.counters().drop(why, 1);
        }
    }

    /// Sleep until something is left, the link changes, or a timer comes due.
    fn wait(&self) -> io::Result<()> {
        let due = [self.deadlines.next(), self.shared.pings.next()].into_iter().flatten().min();
        let timeout = match due {
            _ if !self.shake.is_empty() || self.backlog.is_ready() => 0,
            Some(at) => {
                let left = at.since(clock::tick());
                i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
            }
            None => -1,
        };
        let watch = self.watch.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let mut fds =
            [self.shared.inbox.as_raw_fd(), watch].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
        // SAFETY: `fds` outlives the call and its length is given; negative descriptors are passed over.
        if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
        Ok(())
    }

    fn rearm(&mut self, cell: &Arc<PeerCell>) {
        cell.disarm();
        let peer = cell.peer.lock();
        let next = peer.timers.next().filter(|_| self.shared.is_up() && !peer.is_removed());
        let trying = peer.attempt_index().is_some();
        drop(peer);
        cell.arm(next);
        self.deadlines.set(cell.id, next);
        if !trying {
            self.backlog.done(cell.id);
        }
    }

    fn destination(&self, peer: &mut Peer<Boring>) -> Option<Endpoint> {
        self.shared.destination(peer, &self.shared.sockets().1)
    }

    fn send(&self, to: Option<Endpoint>, datagram: &[u8]) -> Result<(), Drop> {
        let to = to.ok_or(Drop::NoEndpoint)?;
        let (_, sockets) = self.shared.sockets();
        let family = Family::of(&to.address);
        let socket = sockets.of(family, 0).ok_or(Drop::NoSocket)?;
        socket.send(&to, datagram).map_err(|_| Drop::SendFailed)?;
        let counters = self.counters();
        counters.sent(family, 1, datagram.len() as u64);
        counters.udp_writes.add(1);
        Ok(())
    }

    /// For what nobody waits for an answer of: a drop is counted.
    fn send_or_count(&self, to: Option<Endpoint>, datagram: &[u8]) {
        if let Err(why) = self.send(to, datagram) {
            self.counters().drop(why, 1);
        }
    }

    // ---- handshakes ----------------------------------------------------------------------------------------------

    /// An initiation whose mac1 fits; `waiting` more are there.
    fn initiation(&mut self, letter: &Letter, waiting: usize) -> Result<(), Drop> {
        if !self.shared.is_up() {
            return Err(Drop::LinkDown);
        }
        let (bytes, from) = (letter.bytes(), letter.from);
        let Message::Initiation(message) = Message::parse(bytes)? else { return Err(Drop::MalformedMessage) };
        let keys = self.shared.keys().ok_or(Drop::NoPrivateKey)?;
        let origin = Origin { address: from.address, known: self.shared.familiar.knows(from.address) };
        match self.gate.admit(&keys.admission, bytes, origin, waiting, clock::tick(), random::fill) {
            Verdict::Pass => {}
            Verdict::Refuse(why) => {
                if why == Drop::CookieRequired {
                    self.shared.inbox.close(clock::tick());
                    // Whoever floods from there, in his own name or another's, is a stranger until he has proved more.
                    self.shared.familiar.forget(from.address);
                }
                return Err(why);
            }
            Verdict::Reply(reply) => {
                self.counters().cookies_sent.add(1);
                self.send_or_count(Some(from), &reply);
                return Err(Drop::CookieRequired);
            }
        }
        let sender = read_initiation(&keys.identity, message)?;
        let cell = self.shared.table.by_key(&sender.key).ok_or(Drop::UnknownPeer)?;
        cell.peer.lock().may_answer(clock::tick())?;
        let timestamp = sender.timestamp(&keys.identity)?;
        let mut work = cell.peer.lock().take_initiation(timestamp, clock::tick())?;
        let answer = work.answer(&keys.identity, message, || self.shared.table.new_index(&cell));
        let mut peer = cell.peer.lock();
        let trimmed = peer.is_trimmed();
        let answer = peer.answered(work, answer, timestamp, from, clock::tick());
        let to = self.destination(&mut peer);
        self.shared.table.release(&mut peer);
        if answer.is_ok() {
            self.shared.table.list_active(&cell, &mut peer);
        }
        drop(peer);
        let (answer, moved) = answer?;
        if trimmed {
            self.shared.woke(cell.key, Traffic::Received);
        }
        self.heard(&cell, moved, from);
        self.counters().handshakes_answered.add(1);
        self.rearm(&cell);
        self.send(to, &answer)
    }

    /// A response or a cookie reply to an initiation of ours; mac1 of a response fits.
    fn answer(&mut self, letter: &Letter) -> Result<(), Drop> {
        if !self.shared.is_up() {
            return Err(Drop::LinkDown);
        }
        let message = Message::parse(letter.bytes())?;
        match message {
            Message::Response(response) => {
                let cell = self.addressee(message)?;
                let mut peer = cell.peer.lock();
                if peer.attempt_index() != receiver(message).map(|index| index >> 8) {
                    return Err(Drop::UnknownIndex);
                }
                let mut work = peer.take_attempt();
                drop(peer);
                let outcome = work.finish(response);
                let mut peer = cell.peer.lock();
                let moved = peer.finished(work, outcome, letter.from, clock::now());
                self.shared.table.release(&mut peer);
                let moved = moved?;
                self.shared.table.list_active(&cell, &mut peer);
                let waiting = !peer.staging.is_empty();
                drop(peer);
                self.counters().handshakes_completed.add(1);
                self.shared.ring.push(Event::SessionUp { peer: cell.key, initiator: true });
                self.heard(&cell, moved, letter.from);
                // Either shows the other side that we have the session (whitepaper 6.5).
                if waiting {
                    self.send_staged(&cell);
                } else {
                    self.keepalive(&cell);
                }
                self.rearm(&cell);
                Ok(())
            }
            Message::CookieReply(reply) => {
                let cell = self.addressee(message)?;
                let mut peer = cell.peer.lock();
                peer.take_cookie(reply, clock::tick())
            }
            Message::Initiation(_) | Message::Data(_) => Err(Drop::MalformedMessage),
        }
    }

    /// A handshake message of the peer was authentic.
    fn heard(&self, cell: &PeerCell, moved: bool, from: Endpoint) {
        self.shared.familiar.note(from.address);
        if moved {
            self.shared.ring.push(Event::EndpointChanged { peer: cell.key, endpoint: from.address });
        }
    }

    fn addressee(&self, message: Message<'_>) -> Result<Arc<PeerCell>, Drop> {
        receiver(message).and_then(|index| self.shared.table.by_index(index)).ok_or(Drop::UnknownIndex)
    }

    /// The peer wants to shake hands: now, if it has a session or it is its turn.
    fn initiate(&mut self, cell: &Arc<PeerCell>) {
        let now = clock::tick();
        let mut peer = cell.peer.lock();
        if !peer.is_removed() && !peer.can_send(now) && !self.backlog.turn(cell.id) {
            peer.wait_for_turn(now);
            self.shared.table.release(&mut peer);
            drop(peer);
            return self.rearm(cell);
        }
        drop(peer);
        self.send_initiation(cell);
    }

    /// Send an initiation. Where none can go out, what waits for it would wait for nothing: it is dropped.
    fn send_initiation(&mut self, cell: &Arc<PeerCell>) {
        let keys = self.shared.keys().ok_or(Drop::NoPrivateKey);
        let mut peer = cell.peer.lock();
        if peer.is_removed() {
            return self.backlog.done(cell.id);
        }
        let written = match keys {
            Ok(keys) if peer.endpoint.is_some() => {
                let mut work = peer.take_attempt();
                drop(peer);
                let message = work.initiate(&keys.identity, || self.shared.table.new_index(cell));
                peer = cell.peer.lock();
                peer.initiated(work, message, clock::tick(), jitter())
            }
            keys => Err(keys.err().unwrap_or(Drop::NoEndpoint)),
        };
        let to = self.destination(&mut peer);
        self.shared.table.release(&mut peer);
        match written {
            Ok(Some(message)) => {
                drop(peer);
                self.counters().handshakes_initiated.add(1);
                self.send_or_count(to, &message);
            }
            Ok(None) => {
                let now = clock::tick();
                if !peer.can_send(now) && peer.ask_handshake(now) {
                    self.shake.push_back(cell.clone());
                }
                drop(peer);
            }
            Err(why) => {
                let waiting = peer.cancel_handshake();
                drop(peer);
                self.counters().drop(why, waiting as u64);
            }
        }
        self.rearm(cell);
    }

    // ---- what waited, and empty messages -------------------------------------------------------------------------

    fn send_staged(&mut self, cell: &Arc<PeerCell>) {
        let mtu = self.shared.mtu.load(Ordering::Relaxed) as usize;
        let now = clock::tick();
        let mut plain = Vec::new();
        let mut wire = Vec::new();
        let mut peer = cell.peer.lock();
        let to = self.destination(&mut peer);
        let mut any = false;
        while peer.can_send(now) {
            let Some(packet) = peer.staging.pop() else { break };
            plain.clear();
            plain.extend_from_slice(&packet);
            plain.resize(padded(packet.len(), mtu), 0);
            wire.resize(plain.len() + DATA_OVERHEAD, 0);
            match peer.seal(&plain, &mut wire) {
                Ok(len) => self.send_or_count(to, &wire[..len]),
                Err(why) => self.counters().drop(why, 1),
            }
            any = true;
        }
        if any {
            peer.sent(now, true, jitter());
        }
        drop(peer);
        self.rearm(cell);
    }

    /// An empty message; without a session, the handshake that comes first confirms the path as well.
    fn keepalive(&mut self, cell: &Arc<PeerCell>) {
        let now = clock::tick();
        let mut peer = cell.peer.lock();
        match peer.keepalive(now) {
            Some(message) => {
                let to = self.destination(&mut peer);
                let shake = peer.sent(now, false, Duration::ZERO);
                drop(peer);
                self.counters().keepalives_sent.add(1);
                self.send_or_count(to, &message);
                if shake {
                    self.initiate(cell);
                }
            }
            None => {
                let shake = peer.endpoint.is_some() && peer.ask_handshake(now);
                drop(peer);
                if shake {
                    self.initiate(cell);
                }
            }
        }
    }

    // ---- timers --------------------------------------------------------------------------------------------------

    fn due(&mut self, cell: &Arc<PeerCell>) {
        loop {
            let mut peer = cell.peer.lock();
            let due = peer.poll(clock::tick());
            self.shared.table.release(&mut peer);
            match due {
                None => break,
                Some(due) => self.act(cell, peer, due),
            }
        }
        self.rearm(cell);
    }

    fn act(&mut self, cell: &Arc<PeerCell>, mut peer: parking_lot::MutexGuard<'_, Peer<Boring>>, due: Due) {
        match due {
            Due::Initiate => {
                let unanswered = peer.timers.is_unanswered();
                drop(peer);
                if unanswered {
                    self.shared.ring.push(Event::HandshakeUnanswered { peer: cell.key });
                }
                self.initiate(cell);
            }
            Due::Keepalive => {
                drop(peer);
                self.keepalive(cell);
            }
            Due::GiveUp { tried } => {
                let waiting = peer.staging.clear();
                drop(peer);
                let why = if tried { Drop::HandshakeTimeout } else { Drop::HandshakeBacklog };
                self.counters().drop(why, waiting as u64);
                self.shared.ring.push(Event::HandshakeFailed { peer: cell.key });
            }
            Due::Forget => {}
        }
    }

    fn path_too_small(&self, cell: &Arc<PeerCell>, to: SocketAddr) {
        let mut peer = cell.peer.lock();
        if peer.address() == Some(to) && !peer.single_datagrams {
            peer.single_datagrams = true;
            drop(peer);
            self.shared.ring.push(Event::PathTooSmall { peer: cell.key, endpoint: to });
        }
    }
}
