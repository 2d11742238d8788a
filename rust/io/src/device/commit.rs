//! What a plan changes on a device, and what the device shows.

use crate::clock;
use crate::offloads::Offloads;
use crate::shared::{Keys, Settings, Shared};
use crate::table::PeerCell;
use crate::uapi;
use crate::udp::Sockets;
use std::collections::HashSet;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::{Event, Traffic};
use wgengine_core::observe::state::{DeviceState, PeerState};
use wgengine_core::plan::{PeerPlan, Plan, Prefix, PublicKey, Secret};
use wgengine_core::time::Tick;
use wgengine_core::tunnel::admission::Admission;
use wgengine_core::tunnel::peer::Peer;
use wgengine_noise::{Boring, Identity};

impl Shared {
    /// Change what the plan says, as one step: what can fail comes first, and a failure changes nothing.
    pub fn commit(&self, plan: &Plan) -> io::Result<()> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(io::Error::from_raw_os_error(libc::ESHUTDOWN));
        }
        let mut settings = self.settings.lock();
        self.commit_sockets(&mut settings, plan)?;
        if let Some(private) = &plan.private_key {
            self.commit_private(private);
        }
        // A peer that a replacement names again keeps its sessions and endpoint, and nothing of its settings.
        let mut kept = HashSet::new();
        if plan.replace_peers {
            let named: HashSet<PublicKey> = plan.peers.iter().filter(|p| !p.remove).map(|p| p.public_key).collect();
            for cell in self.table.cells() {
                if named.contains(&cell.key) {
                    kept.insert(cell.key);
                } else {
                    self.remove_peer(&cell.key);
                }
            }
        }
        for peer in &plan.peers {
            self.commit_peer(peer, kept.remove(&peer.public_key));
        }
        Ok(())
    }

    fn commit_sockets(&self, settings: &mut Settings, plan: &Plan) -> io::Result<()> {
        let mark = plan.fwmark.unwrap_or(settings.fwmark);
        let port = plan.listen_port.unwrap_or(settings.listen_port);
        let (_, sockets) = self.sockets();
        let rebind =
            sockets.port == 0 || (plan.listen_port.is_some() && port != settings.listen_port && port != sockets.port);
        if rebind {
            let fresh = Sockets::bind(port, mark, self.shards())?;
            if Offloads::on(&self.offloads.udp_gro) && fresh.all().any(|socket| socket.set_gro(true).is_err()) {
                self.offloads.udp_gro.store(false, Ordering::Relaxed);
            }
            if fresh.all().any(|socket| !socket.can_segment()) {
                self.offloads.udp_gso.store(false, Ordering::Relaxed);
            }
            drop(sockets);
            self.replace_sockets(fresh);
        } else if mark != settings.fwmark {
            for socket in sockets.all() {
                if let Err(error) = socket.set_mark(mark) {
                    // All or nothing: the first refusal comes before anything was marked, but a later one may not.
                    let _ = sockets.all().try_for_each(|socket| socket.set_mark(settings.fwmark));
                    return Err(error);
                }
            }
            sockets.routes.set_mark(mark);
            self.routes_changed();
        }
        *settings = Settings { listen_port: port, fwmark: mark };
        Ok(())
    }

    fn commit_private(&self, private: &Secret) {
        let same = self.keys().map_or(private.is_zero(), |keys| keys.private.same(private));
        if same {
            return;
        }
        let keys = (!private.is_zero()).then(|| {
            let private = wgengine_noise::clamp(private.clone());
            let identity = Identity::new(&private);
            let admission = Admission::new(&identity.public());
            Arc::new(Keys { private, identity, admission })
        });
        // Whoever has our own key as a peer would talk to itself.
        if let Some(keys) = &keys {
            self.remove_peer(&keys.identity.public());
        }
        *self.keys.write() = keys;
        for cell in self.table.cells() {
            let mut peer = cell.peer.lock();
            peer.forget_sessions();
            self.table.release(&mut peer);
        }
    }

    fn remove_peer(&self, key: &PublicKey) {
        if let Some(cell) = self.table.remove(key) {
            let waiting = self.table.retire(&cell);
            self.control_counters().drop(Drop::PeerRemoved, waiting as u64);
            if cell.is_armed() {
                // Its timers and its turn to shake hands are the control thread's to take off.
                self.inbox.arm(cell);
            }
        }
    }

    /// `anew`: what the plan does not say goes back to its default.
    fn commit_peer(&self, plan: &PeerPlan, anew: bool) {
        if plan.remove {
            return self.remove_peer(&plan.public_key);
        }
        let cell = match self.table.by_key(&plan.public_key) {
            Some(cell) => cell,
            None if plan.update_only => return,
            // Our own key as a peer is passed over, as by the kernel.
            None if self.keys().is_some_and(|keys| keys.identity.public() == plan.public_key) => return,
            None => self.table.add(plan.public_key),
        };
        self.table.change_allowed(&cell, plan.replace_allowed_ips || anew, &plan.allowed_ips);
        let now = clock::tick();
        let mut peer = cell.peer.lock();
        let shake = plan.reset_session && peer.reset_sessions(now);
        if let Some(trimmed) = plan.trimmed.or(anew.then_some(false)) {
            self.trim(&cell, &mut peer, trimmed, now);
        }
        if plan.preshared_key.is_some() || anew {
            peer.set_psk(plan.preshared_key.clone().filter(|psk| !psk.is_zero()));
        }
        self.table.release(&mut peer);
        if let Some(endpoint) = plan.endpoint {
            peer.set_endpoint(endpoint);
            self.familiar.note(endpoint);
        }
        if let Some(interval) = plan.persistent_keepalive.or(anew.then_some(0)) {
            peer.timers.set_persistent(interval, now);
        }
        let next = peer.timers.next();
        let calm = next.is_none() && cell.is_armed();
        drop(peer);
        if cell.arm(next) || calm {
            self.inbox.arm(cell.clone());
        }
        if shake {
            self.inbox.shake(cell);
        }
    }

    /// Trim a peer, or wake it. One for which packets wait is not idle: whoever wants it trimmed has not heard yet.
    fn trim(&self, cell: &PeerCell, peer: &mut Peer<Boring>, trimmed: bool, now: Tick) {
        if !trimmed {
            peer.wake(now);
        } else if !peer.is_trimmed() {
            if peer.trim(now) {
                self.table.unlist(cell);
            } else {
                self.woke(cell.key, Traffic::Sent);
            }
        }
    }

    pub fn state(&self) -> DeviceState {
        let fwmark = self.settings.lock().fwmark;
        let peers = self.table.list().into_iter().map(|(cell, allowed_ips)| state_of(&cell, allowed_ips));
        DeviceState {
            private_key: self.keys().map(|keys| keys.private.clone()),
            listen_port: self.sockets().1.port,
            fwmark,
            peers: peers.collect(),
        }
    }
}

impl Shared {
    /// One peer, without a look at any other.
    pub fn peer_state(&self, key: &PublicKey) -> Option<PeerState> {
        let cell = self.table.by_key(key)?;
        let allowed_ips = self.table.allowed(&cell);
        Some(state_of(&cell, allowed_ips))
    }

    /// Peers that are not trimmed and had traffic: when each was last sent to and heard from, in seconds of the monotonic
    /// clock. Costs nothing for those that had none.
    pub fn activity(&self) -> Vec<(PublicKey, Option<f64>, Option<f64>)> {
        let monotonic = clock::monotonic();
        let cells = self.table.active();
        let activity = cells.iter().map(|cell| {
            let activity = cell.peer.lock().activity;
            let [sent, received] = [activity.sent, activity.received].map(|seen| seen.get().map(&monotonic));
            (cell.key, sent, received)
        });
        activity.collect()
    }
}

fn state_of(cell: &PeerCell, allowed_ips: Vec<Prefix>) -> PeerState {
    let peer = cell.peer.lock();
    let (tx_bytes, rx_bytes) = peer.bytes();
    PeerState {
        public_key: cell.key,
        preshared_key: peer.psk().cloned(),
        endpoint: peer.address(),
        last_handshake: peer.last_handshake(),
        tx_bytes,
        rx_bytes,
        persistent_keepalive: peer.timers.persistent_interval(),
        trimmed: peer.is_trimmed(),
        allowed_ips,
    }
}

impl uapi::Handler for Shared {
    fn get(&self) -> DeviceState {
        self.state()
    }

    fn set(&self, plan: Plan) -> Result<(), i32> {
        self.commit(&plan).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
        self.ring.push(Event::ConfigChanged);
        Ok(())
    }

    fn refused(&self, refusal: &uapi::Refusal) {
        self.ring.push(Event::UapiRefused { line: refusal.line, text: refusal.text.clone() });
    }
}
