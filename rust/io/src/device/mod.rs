//! A WireGuard device: a TUN, sockets, peers, and the threads that move packets between them; how it starts and ends.

mod commit;

use crate::control::Control;
use crate::counters;
use crate::offloads::Offloads;
use crate::process::{self, Process};
use crate::ring::Drained;
use crate::shard::Shard;
use crate::shared::Shared;
use crate::stack;
use crate::tun::{self, Tun};
use crate::uapi;
use parking_lot::Mutex;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use wgengine_core::observe::event::Event;

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
    /// Nice value of the data threads; 0: as everything else. Without the privilege they stay as they are.
    pub nice: i32,
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
    process: Process,
}

/// One data thread on one or two cores; more where there are cores to spare for the rest.
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
        let (up, mtu) = match tun.ifindex {
            0 if options.mtu != 0 => (true, options.mtu),
            0 => (true, tun::DEFAULT_MTU),
            _ => tun::link_flags_and_mtu(&tun.name)?,
        };
        let (listener, path) = match options.uapi {
            UapiSource::None => (None, None),
            UapiSource::Listen => {
                let (listener, path) = uapi::listen(&tun.name).map_err(StartError::Uapi)?;
                (Some(listener), Some(path))
            }
            // The file is watched and removed like one of ours, if it is where everybody looks for it.
            UapiSource::Adopt(listener) => {
                (Some(listener), uapi::socket_path(&tun.name).ok().filter(|path| path.exists()))
            }
        };
        if tun.ifindex != 0 {
            // As in `link`: without it super-packets may need two sends.
            let _ = tun::bound_super_packets(tun.ifindex, mtu);
        }
        let started = Device::run(tun, offloads, up, mtu, options.nice, listener, path.clone());
        if let (Err(_), Some(path)) = (&started, &path) {
            // A socket file that nobody serves would only puzzle the next one.
            let _ = std::fs::remove_file(path);
        }
        Ok(started?)
    }

    fn run(
        tun: Tun,
        offloads: Offloads,
        up: bool,
        mtu: u32,
        nice: i32,
        listener: Option<UnixListener>,
        path: Option<PathBuf>,
    ) -> io::Result<Device> {
        let queues = tun.queues();
        let shared = Arc::new(Shared::new(tun, offloads, up, mtu)?);
        let device = Device {
            shared: shared.clone(),
            threads: Mutex::default(),
            uapi: Mutex::default(),
            process: Process::current(),
        };
        for number in 0..queues {
            let shard = Shard::new(number, shared.clone())?;
            device.spawn(format!("wg-io-{number}"), move || {
                process::set_nice_of_thread(nice);
                shard.run()
            })?;
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
            let ended = catch_unwind(AssertUnwindSafe(work));
            stack::wipe();
            let reason = match ended {
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
    pub fn is_inherited(&self) -> bool {
        !self.process.is_current()
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
        self.shared.let_go();
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
            nice: 0,
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
