//! A WireGuard device: a TUN, sockets, peers, and the threads that move packets between them.

use crate::clock;
use crate::control::{Control, Inbox};
use crate::counters::{self, Counters};
use crate::offloads::Offloads;
use crate::ring::{Drained, Ring};
use crate::shard::Shard;
use crate::table::{PeerCell, Table};
use crate::tun::{self, Tun};
use crate::uapi;
use crate::udp::Sockets;
use crate::wake::Wake;
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::Event;
use wgengine_core::observe::state::{DeviceState, PeerState};
use wgengine_core::plan::{PeerPlan, Plan, PublicKey, Secret};
use wgengine_core::tunnel::admission::Admission;
use wgengine_noise::Identity;

/// Where the TUN comes from.
#[derive(Debug)]
pub enum TunSource<'a> {
    /// Make one; an empty name lets the kernel choose.
    Create(&'a str),
    /// Use this descriptor (duplicated).
    Adopt(BorrowedFd<'a>),
    /// A socket pair in its place.
    Memory,
}

/// Where the UAPI socket comes from.
#[derive(Debug)]
pub enum UapiSource {
    None,
    /// /var/run/wireguard/NAME.sock
    Listen,
    /// One that listens already.
    Adopt(UnixListener),
}

/// How a device starts.
#[derive(Debug)]
pub struct Options<'a> {
    pub tun: TunSource<'a>,
    /// 0: what the TUN has, 1420 for one that we make.
    pub mtu: u32,
    /// Data threads; 0: by the number of cores.
    pub shards: usize,
    pub uapi: UapiSource,
    pub tun_offload: bool,
    pub udp_gso: bool,
    pub udp_gro: bool,
}

/// The device's own key, and what is derived from it.
pub struct Keys {
    private: Secret,
    pub identity: Identity,
    pub admission: Admission,
}

/// What callers configure, as it stands.
#[derive(Debug, Default)]
struct Settings {
    listen_port: u16,
    fwmark: u32,
}

/// What all threads of a device share.
pub struct Shared {
    pub tun: Tun,
    pub table: Table,
    pub inbox: Inbox,
    pub ring: Ring,
    pub offloads: Offloads,
    pub mtu: AtomicU32,
    pub stopping: AtomicBool,
    pub wakes: Vec<Wake>,
    /// One a data thread, the last one for the control thread.
    pub counters: Vec<Counters>,
    sockets: RwLock<Arc<Sockets>>,
    sockets_changed: AtomicU64,
    keys: RwLock<Option<Arc<Keys>>>,
    settings: Mutex<Settings>,
}

impl Shared {
    /// The sockets in use, and a number that changes with them.
    pub fn sockets(&self) -> (u64, Arc<Sockets>) {
        let seen = self.sockets_changed.load(Ordering::Acquire);
        (seen, self.sockets.read().clone())
    }

    pub fn keys(&self) -> Option<Arc<Keys>> {
        self.keys.read().clone()
    }

    pub fn control_counters(&self) -> &Counters {
        &self.counters[self.counters.len() - 1]
    }

    fn shards(&self) -> usize {
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

    /// The link came up: whoever waits behind a NAT shows itself at once (case 28).
    pub fn link_up(&self) {
        let now = clock::tick();
        for cell in self.table.cells() {
            cell.peer.lock().timers.link_up(now);
            self.arm(cell);
        }
    }

    fn arm(&self, cell: Arc<PeerCell>) {
        let next = cell.peer.lock().timers.next();
        if cell.arm(next) {
            self.inbox.arm(cell);
        }
    }

    fn wake_shards(&self) {
        self.wakes.iter().for_each(Wake::wake);
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_shards();
        self.inbox.wake();
    }

    // ---- configuration -------------------------------------------------------------------------------------------

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
            *self.sockets.write() = Arc::new(fresh);
            self.sockets_changed.fetch_add(1, Ordering::Release);
            self.wake_shards();
        } else if mark != settings.fwmark {
            for socket in sockets.all() {
                if let Err(error) = socket.set_mark(mark) {
                    // All or nothing: the first refusal comes before anything was marked, but a later one may not.
                    let _ = sockets.all().try_for_each(|socket| socket.set_mark(settings.fwmark));
                    return Err(error);
                }
            }
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
        if plan.preshared_key.is_some() || anew {
            peer.set_psk(plan.preshared_key.clone().filter(|psk| !psk.is_zero()));
            self.table.release(&mut peer);
        }
        if let Some(endpoint) = plan.endpoint {
            peer.set_endpoint(endpoint);
        }
        if let Some(interval) = plan.persistent_keepalive.or(anew.then_some(0)) {
            peer.timers.set_persistent(interval, now);
        }
        let next = peer.timers.next();
        drop(peer);
        if cell.arm(next) {
            self.inbox.arm(cell);
        }
    }

    pub fn state(&self) -> DeviceState {
        let fwmark = self.settings.lock().fwmark;
        let peers = self.table.list().into_iter().map(|(cell, allowed_ips)| {
            let peer = cell.peer.lock();
            let (tx_bytes, rx_bytes) = peer.bytes();
            PeerState {
                public_key: cell.key,
                preshared_key: peer.psk().cloned(),
                endpoint: peer.endpoint,
                last_handshake: peer.last_handshake(),
                tx_bytes,
                rx_bytes,
                persistent_keepalive: peer.timers.persistent_interval(),
                allowed_ips,
            }
        });
        DeviceState {
            private_key: self.keys().map(|keys| keys.private.clone()),
            listen_port: self.sockets().1.port,
            fwmark,
            peers: peers.collect(),
        }
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

impl uapi::Handler for Shared {
    fn get(&self) -> DeviceState {
        self.state()
    }

    fn set(&self, plan: Plan) -> Result<(), i32> {
        self.commit(&plan).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))?;
        self.ring.push(Event::ConfigChanged);
        Ok(())
    }
}

/// What could not be had at start.
#[derive(Debug)]
pub enum StartError {
    Tun(io::Error),
    Uapi(io::Error),
    /// A thread, an event descriptor or the like.
    System(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> StartError {
        StartError::System(error)
    }
}

/// A running device. Dropping it closes it.
pub struct Device {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    uapi: Mutex<Option<uapi::Server>>,
    /// The process that started it: a fork's child has neither the threads nor a right to the rest.
    process: u32,
}

/// One data thread on one or two cores; more where there are cores to spare for the rest (dataplane.md 6.2).
fn default_shards() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / 2).clamp(1, 4)
}

impl Device {
    /// Make the TUN, listen for UAPI, start the threads.
    pub fn start(options: Options<'_>) -> Result<Device, StartError> {
        let shards = if options.shards == 0 { default_shards() } else { options.shards };
        let offloads = Offloads::default();
        for (name, flag) in offloads.names() {
            let on = match name {
                "udp_gso" => options.udp_gso,
                "udp_gro" => options.udp_gro,
                _ => options.tun_offload,
            };
            flag.store(on, Ordering::Relaxed);
        }
        let tun = match options.tun {
            TunSource::Create(name) => tun::create(name, shards, &offloads),
            TunSource::Adopt(fd) => tun::adopt(fd, &offloads),
            TunSource::Memory => Tun::memory(),
        };
        let tun = tun.map_err(StartError::Tun)?;
        if options.mtu != 0 && tun.ifindex != 0 {
            tun::set_mtu(&tun.name, options.mtu).map_err(StartError::Tun)?;
        }
        let mtu = match tun.ifindex {
            0 if options.mtu != 0 => options.mtu,
            0 => tun::DEFAULT_MTU,
            _ => tun::link_flags_and_mtu(&tun.name)?.1,
        };
        let (listener, path) = match options.uapi {
            UapiSource::None => (None, None),
            UapiSource::Listen => {
                let (listener, path) = uapi::listen(&tun.name).map_err(StartError::Uapi)?;
                (Some(listener), Some(path))
            }
            UapiSource::Adopt(listener) => (Some(listener), None),
        };
        let queues = tun.queues();
        let shared = Arc::new(Shared {
            tun,
            table: Table::default(),
            inbox: Inbox::new()?,
            ring: Ring::new()?,
            offloads,
            mtu: AtomicU32::new(mtu),
            stopping: AtomicBool::new(false),
            wakes: (0..queues).map(|_| Wake::new()).collect::<io::Result<_>>()?,
            counters: (0..=queues).map(|_| Counters::default()).collect(),
            sockets: RwLock::default(),
            sockets_changed: AtomicU64::new(0),
            keys: RwLock::default(),
            settings: Mutex::default(),
        });
        let device = Device {
            shared: shared.clone(),
            threads: Mutex::default(),
            uapi: Mutex::default(),
            process: std::process::id(),
        };
        for number in 0..queues {
            let shard = Shard::new(number, shared.clone())?;
            device.spawn(format!("wg-io-{number}"), move || shard.run())?;
        }
        let control = Control::new(shared.clone());
        device.spawn("wg-ctl".into(), move || control.run())?;
        if let Some(listener) = listener {
            let watcher = shared.clone();
            let removed = Box::new(move || watcher.ring.push(Event::UapiRemoved));
            *device.uapi.lock() = Some(uapi::Server::start(listener, path, shared, removed)?);
        }
        Ok(device)
    }

    /// A thread of this device: a panic in it, or an error that it cannot go on after, closes the TUN and is told.
    fn spawn(&self, name: String, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let shared = self.shared.clone();
        let told = name.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let reason = match catch_unwind(AssertUnwindSafe(work)) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{told}: {error}"),
                Err(_) => format!("{told}: a panic; the TUN is closed"),
            };
            shared.stop();
            shared.tun.shut();
            shared.ring.push(Event::Failed { reason });
        })?;
        self.threads.lock().push(thread);
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.shared.tun.name
    }

    pub fn ifindex(&self) -> u32 {
        self.shared.tun.ifindex
    }

    pub fn mtu(&self) -> u32 {
        self.shared.mtu.load(Ordering::Relaxed)
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Readable while events wait.
    pub fn event_fd(&self) -> RawFd {
        self.shared.ring.as_raw_fd()
    }

    pub fn tun_fd(&self) -> RawFd {
        self.shared.tun.fd(0)
    }

    /// The far end of an in-memory device.
    pub fn memory_fd(&self) -> Option<RawFd> {
        self.shared.tun.far.as_ref().map(AsRawFd::as_raw_fd)
    }

    pub fn drain(&self, limit: usize) -> Drained {
        self.shared.ring.drain(limit)
    }

    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        counters::drops(self.shared.counters.iter())
    }

    pub fn totals(&self) -> Vec<(&'static str, u64)> {
        counters::totals(self.shared.counters.iter())
    }

    /// Are we a fork's child? Then nothing is ours to end, and no lock may be taken: a thread that the fork left behind
    /// may hold it.
    fn is_inherited(&self) -> bool {
        self.process != std::process::id()
    }

    pub fn is_closed(&self) -> bool {
        self.shared.stopping.load(Ordering::Acquire)
    }

    /// End all threads and give everything back. May be called again.
    pub fn close(&self) {
        if self.is_inherited() {
            self.shared.stopping.store(true, Ordering::Release);
            return;
        }
        if let Some(server) = self.uapi.lock().take() {
            server.stop();
        }
        self.shared.stop();
        for thread in core::mem::take(&mut *self.threads.lock()) {
            // A panic in it was caught and told already.
            let _ = thread.join();
        }
        for cell in self.shared.table.cells() {
            let mut peer = cell.peer.lock();
            peer.remove();
        }
        self.shared.tun.shut();
        *self.shared.sockets.write() = Arc::default();
        *self.shared.keys.write() = None;
    }
}

impl core::ops::Drop for Device {
    fn drop(&mut self) {
        if self.is_inherited() {
            // The parent's TUN, socket file and threads stay as they are; only our descriptors close.
            core::mem::forget(core::mem::take(self.threads.get_mut()));
            core::mem::forget(self.uapi.get_mut().take());
        } else {
            self.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c3_15_a_panic_in_a_thread_closes_the_tun_and_is_told() {
        let options = Options {
            tun: TunSource::Memory,
            mtu: 0,
            shards: 1,
            uapi: UapiSource::None,
            tun_offload: true,
            udp_gso: true,
            udp_gro: true,
        };
        let device = Device::start(options).expect("an in-memory device needs nothing");
        device.spawn("wg-test".into(), || panic!("on purpose")).expect("thread");
        let far = device.memory_fd().expect("in memory");
        let mut poll = libc::pollfd { fd: far, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&mut poll, 1, 5000) };
        let mut one = [0u8; 1];
        // SAFETY: one writable byte.
        let n = unsafe { libc::read(far, one.as_mut_ptr().cast(), 1) };
        assert_eq!(n, 0, "the near end is closed");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        loop {
            let told = device.drain(100).events.into_iter().find_map(|(_, event)| match event {
                Event::Failed { reason } => Some(reason),
                _ => None,
            });
            if let Some(reason) = told {
                assert!(reason.contains("wg-test") && reason.contains("panic"), "{reason}");
                break;
            }
            assert!(std::time::Instant::now() < deadline, "never told");
        }
        assert!(device.is_closed());
        device.close();
    }
}
