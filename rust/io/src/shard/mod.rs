//! A data thread: one TUN queue and one socket of each family, run to completion.
//!
//! ```text
//! out:  TUN super-packet → parse once → owner of the address → seal each segment into one wire block → one UDP send
//! in:   UDP GRO block → open each datagram into the outgoing TUN block → owner check → coalesce → one TUN write
//! ```
//!
//! One shard does both directions, in turns of a bounded budget, and sleeps in epoll when neither has anything.

mod handshake;
mod inbound;
mod outbound;

use crate::offloads::Offloads;
use crate::shared::Shared;
use crate::udp::Sockets;
use inbound::Inbound;
use outbound::Outbound;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;
use wgengine_core::observe::event::Event;
use wgengine_core::tunnel::timers::REKEY_TIMEOUT_JITTER;

const TUN: u64 = 0;
const UDP4: u64 = 1;
const UDP6: u64 = 2;
const WAKE: u64 = 3;

/// Random numbers that need not be unguessable: xorshift, seeded once.
pub(crate) struct Jitter(u64);

impl Jitter {
    fn new() -> Jitter {
        Jitter(u64::from(crate::random::number()) << 1 | 1)
    }

    fn next(&mut self) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_nanos(self.0 % REKEY_TIMEOUT_JITTER.as_nanos() as u64)
    }
}

/// What a data thread owns.
pub struct Shard {
    number: usize,
    shared: Arc<Shared>,
    sockets: Arc<Sockets>,
    seen: u64,
    epoll: OwnedFd,
    outbound: Outbound,
    inbound: Inbound,
}

/// Waiting for one descriptor failed for good.
fn fatal(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Shard {
    pub fn new(number: usize, shared: Arc<Shared>) -> io::Result<Shard> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let (seen, sockets) = shared.sockets();
        let tso = Offloads::on(&shared.offloads.tun_tso);
        let uso = Offloads::on(&shared.offloads.tun_uso);
        let shard =
            Shard { number, shared, sockets, seen, epoll, outbound: Outbound::new(), inbound: Inbound::new(tso, uso) };
        shard.watch(shard.shared.tun.fd(number), TUN)?;
        shard.watch(shard.shared.wakes[number].as_raw_fd(), WAKE)?;
        shard.watch_sockets()?;
        Ok(shard)
    }

    fn watch(&self, fd: RawFd, what: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: what };
        // SAFETY: both descriptors are open and `event` outlives the call.
        if unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn watch_sockets(&self) -> io::Result<()> {
        for (sockets, what) in [(&self.sockets.v4, UDP4), (&self.sockets.v6, UDP6)] {
            if let Some(socket) = sockets.get(self.number) {
                self.watch(socket.as_raw_fd(), what)?;
            }
        }
        Ok(())
    }

    /// Other sockets are in use since the last look: watch those. The old ones leave epoll when they are closed.
    fn look_at_sockets(&mut self) -> io::Result<()> {
        let (seen, sockets) = self.shared.sockets();
        if seen != self.seen {
            self.seen = seen;
            self.sockets = sockets;
            self.watch_sockets()?;
        }
        Ok(())
    }

    /// Move packets until the device ends.
    pub fn run(mut self) -> io::Result<()> {
        let mut ready = [libc::epoll_event { events: 0, u64: 0 }; 4];
        loop {
            // SAFETY: `ready` has room for as many events as are asked for.
            let n =
                unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), ready.as_mut_ptr(), ready.len() as libc::c_int, -1) };
            if n < 0 && fatal(&io::Error::last_os_error()) {
                return Err(io::Error::last_os_error());
            }
            for event in ready.iter().take(usize::try_from(n).unwrap_or(0)) {
                match event.u64 {
                    TUN => {
                        if let Err(error) = self.outbound.turn(self.number, &self.shared, &self.sockets) {
                            return self.tun_lost(&error);
                        }
                    }
                    UDP4 => self.inbound.turn(self.number, &self.shared, self.sockets.v4.get(self.number)),
                    UDP6 => self.inbound.turn(self.number, &self.shared, self.sockets.v6.get(self.number)),
                    _ => {
                        self.shared.wakes[self.number].clear();
                        if self.shared.stopping.load(Ordering::Acquire) {
                            return Ok(());
                        }
                        self.look_at_sockets()?;
                    }
                }
            }
        }
    }

    /// The TUN cannot be read any more: deleted, or shut because another thread failed.
    fn tun_lost(&self, _error: &io::Error) -> io::Result<()> {
        if !self.shared.stopping.load(Ordering::Acquire) {
            self.shared.ring.push(Event::TunLost);
        }
        Ok(())
    }
}
