//! What all threads of a device share.

use crate::clock;
use crate::counters::Counters;
use crate::familiar::Familiar;
use crate::hooks::Hooks;
use crate::inbox::Inbox;
use crate::injection::Injection;
use crate::offloads::Offloads;
use crate::pings::Pings;
use crate::ring::Ring;
use crate::table::{PeerCell, Table};
use crate::tun::{self, Tun};
use crate::udp::Sockets;
use crate::wake::Wake;
use parking_lot::{Mutex, RwLock};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::{Event, Traffic};
use wgengine_core::plan::{PublicKey, Secret};
use wgengine_core::tunnel::admission::Admission;
use wgengine_core::tunnel::endpoint::Endpoint;
use wgengine_core::tunnel::peer::Peer;
use wgengine_noise::{Boring, Identity};

/// The device's own key, and what is derived from it.
pub struct Keys {
    pub(crate) private: Secret,
    pub identity: Identity,
    pub admission: Admission,
}

/// What callers configure, as it stands.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) listen_port: u16,
    pub(crate) fwmark: u32,
}

/// What all threads of a device share.
pub struct Shared {
    pub tun: Tun,
    pub table: Table,
    pub inbox: Inbox,
    pub injection: Injection,
    pub hooks: Hooks,
    pub pings: Pings,
    pub familiar: Familiar,
    pub ring: Ring,
    pub offloads: Offloads,
    pub mtu: AtomicU32,
    /// The interface is up, or there is none. While it is down nothing is sent by itself and nobody is answered.
    pub up: AtomicBool,
    pub stopping: AtomicBool,
    pub wakes: Vec<Wake>,
    /// One a data thread, the last one for the control thread.
    pub counters: Vec<Counters>,
    pub(crate) sockets: RwLock<Arc<Sockets>>,
    pub(crate) sockets_changed: AtomicU64,
    /// Counts changes of the routes that datagrams take, ours and the host's.
    routes_changed: AtomicU32,
    pub(crate) keys: RwLock<Option<Arc<Keys>>>,
    pub(crate) settings: Mutex<Settings>,
}

impl Shared {
    pub(crate) fn new(tun: Tun, offloads: Offloads, up: bool, mtu: u32) -> io::Result<Shared> {
        let queues = tun.queues();
        Ok(Shared {
            tun,
            table: Table::default(),
            inbox: Inbox::new()?,
            injection: Injection::default(),
            hooks: Hooks::default(),
            pings: Pings::default(),
            familiar: Familiar::default(),
            ring: Ring::new()?,
            offloads,
            mtu: AtomicU32::new(mtu),
            up: AtomicBool::new(up),
            stopping: AtomicBool::new(false),
            wakes: (0..queues).map(|_| Wake::new()).collect::<io::Result<_>>()?,
            counters: (0..=queues).map(|_| Counters::default()).collect(),
            sockets: RwLock::default(),
            sockets_changed: AtomicU64::new(0),
            routes_changed: AtomicU32::new(0),
            keys: RwLock::default(),
            settings: Mutex::default(),
        })
    }

    /// The sockets in use, and a number that changes with them.
    pub fn sockets(&self) -> (u64, Arc<Sockets>) {
        let seen = self.sockets_changed.load(Ordering::Acquire);
        (seen, self.sockets.read().clone())
    }

    /// The ways out may be others from now on: learnt sources are looked at anew.
    pub(crate) fn routes_changed(&self) {
        self.routes_changed.fetch_add(1, Ordering::Release);
    }

    /// Where to send what is for this peer, and from which address of ours.
    pub(crate) fn destination(&self, peer: &mut Peer<Boring>, sockets: &Sockets) -> Option<Endpoint> {
        peer.destination(self.routes_changed.load(Ordering::Acquire), |to| sockets.routes.serves(to))
    }

    pub fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.read().clone()
    }

    pub fn control_counters(&self) -> &Counters {
        &self.counters[self.counters.len() - 1]
    }

    pub(crate) fn shards(&self) -> usize {
        self.tun.queues()
    }

    /// The kernel refused a super-packet: single packets from now on, in both directions.
    pub fn tun_offload_off(&self, errno: i32) {
        let on = Offloads::off(&self.offloads.tun_tso) | Offloads::off(&self.offloads.tun_uso);
        if on {
            // The kernel keeps what it granted when it refuses; reading super-packets stays possible then.
            let _ = tun::set_offload(&self.tun, &self.offloads);
            self.ring.push(Event::OffloadOff { offload: "tun", errno });
        }
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// The link went down: sessions end, as the kernel ends them, and nothing waits for one.
    pub fn link_down(&self) {
        self.up.store(false, Ordering::Release);
        for cell in self.table.cells() {
            let mut peer = cell.peer.lock();
            peer.forget_sessions();
            let waiting = peer.staging.clear();
            self.table.release(&mut peer);
            self.control_counters().drop(Drop::LinkDown, waiting as u64);
        }
    }

    /// The link came up: whoever waits behind a NAT shows itself at once (case 28).
    pub fn link_up(&self) {
        self.up.store(true, Ordering::Release);
        let now = clock::tick();
        for cell in self.table.cells() {
            cell.peer.lock().timers.link_up(now);
            self.arm(cell);
        }
    }

    /// A new session now, as if REKEY_AFTER_TIME had passed; the one in use goes on until there is another. False: there
    /// is no such peer, or a handshake is under way.
    pub fn rekey(&self, peer: &PublicKey) -> bool {
        let Some(cell) = self.table.by_key(peer) else { return false };
        let asked = cell.peer.lock().ask_handshake(clock::tick());
        if asked {
            self.inbox.shake(cell);
        }
        asked
    }

    /// Traffic has woken the peer.
    pub(crate) fn woke(&self, peer: PublicKey, by: Traffic) {
        self.ring.push(Event::PeerWoke { peer, by });
    }

    fn arm(&self, cell: Arc<PeerCell>) {
        let next = cell.peer.lock().timers.next();
        if cell.arm(next) {
            self.inbox.arm(cell);
        }
    }

    pub(crate) fn wake_shards(&self) {
        self.wakes.iter().for_each(Wake::wake);
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_shards();
        self.inbox.wake();
    }

    /// Use these sockets from now on. The old ones are closed when this returns, so that their port can be taken again
    /// at once; only a data thread that hangs in a send could keep them longer than a second.
    pub(crate) fn replace_sockets(&self, fresh: Sockets) {
        let old = core::mem::replace(&mut *self.sockets.write(), Arc::new(fresh));
        self.sockets_changed.fetch_add(1, Ordering::Release);
        self.routes_changed();
        self.wake_shards();
        for _ in 0..10_000 {
            if Arc::strong_count(&old) == 1 {
                break;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Drop the sockets and the keys: the device has ended.
    pub(crate) fn let_go(&self) {
        *self.sockets.write() = Arc::default();
        *self.keys.write() = None;
    }

    /// Switch offloads by hand, while packets flow.
    pub fn set_offloads(&self, tun: Option<bool>, gso: Option<bool>, gro: Option<bool>) -> io::Result<()> {
        let offloads = &self.offloads;
        if let Some(on) = tun.filter(|_| !self.tun.is_bare()) {
            offloads.tun_tso.store(on, Ordering::Relaxed);
            offloads.tun_uso.store(on, Ordering::Relaxed);
            if tun::set_offload(&self.tun, offloads).is_err() {
                // No USO on this kernel (before 6.2).
                offloads.tun_uso.store(false, Ordering::Relaxed);
                tun::set_offload(&self.tun, offloads)?;
            }
        }
        if let Some(on) = gso {
            offloads.udp_gso.store(on, Ordering::Relaxed);
        }
        if let Some(on) = gro {
            self.sockets().1.all().try_for_each(|socket| socket.set_gro(on))?;
            offloads.udp_gro.store(on, Ordering::Relaxed);
        }
        Ok(())
    }
}
