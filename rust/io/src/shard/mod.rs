//! A data thread: one TUN queue and one socket of each family, run to completion.
//!
//! ```text
//! out:  TUN super-packet → parse once → owner of the address → seal each segment into one wire block → one UDP send
//! in:   UDP GRO block → open each datagram into the outgoing TUN block → owner check → coalesce → one TUN write
//! ```
//!
//! One shard does both directions, in turns of a bounded budget, and sleeps when neither has anything.

mod handshake;
mod inbound;
mod outbound;

use crate::offloads::Offloads;
use crate::poller::{Poller, Ready};
use crate::shared::Shared;
use crate::udp::{Family, Sockets};
use inbound::Inbound;
use outbound::Outbound;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;
use wgengine_core::observe::event::Event;
use wgengine_core::tunnel::timers::REKEY_TIMEOUT_JITTER;

const TUN: u64 = 0;
const UDP4: u64 = 1;
const UDP6: u64 = 2;
const WAKE: u64 = 3;
const ROUTES: u64 = 4;

/// After so many datagrams in a row that were of no use there is a flood and nothing else. Then the socket is looked at
/// only now and then, since to be woken for each costs more than to drop it.
const IN_VAIN: u64 = 64;
const NAP: Duration = Duration::from_micros(100);

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
    poller: Poller,
    outbound: Outbound,
    inbound: Inbound,
}

impl Shard {
    pub fn new(number: usize, shared: Arc<Shared>) -> io::Result<Shard> {
        let poller = Poller::new()?;
        let (seen, sockets) = shared.sockets();
        let tso = Offloads::on(&shared.offloads.tun_tso);
        let uso = Offloads::on(&shared.offloads.tun_uso);
        let shard =
            Shard { number, shared, sockets, seen, poller, outbound: Outbound::new(), inbound: Inbound::new(tso, uso) };
        shard.poller.watch(shard.shared.tun.fd(number), TUN)?;
        shard.poller.watch(shard.shared.wakes[number].as_raw_fd(), WAKE)?;
        shard.watch_sockets()?;
        Ok(shard)
    }

    fn watch_sockets(&self) -> io::Result<()> {
        for (sockets, what) in [(&self.sockets.v4, UDP4), (&self.sockets.v6, UDP6)] {
            if let Some(socket) = sockets.get(self.number) {
                self.poller.watch(socket.as_raw_fd(), what)?;
            }
        }
        // One tells all.
        if let Some(changes) = self.sockets.routes.changes().filter(|_| self.number == 0) {
            self.poller.watch(changes, ROUTES)?;
        }
        Ok(())
    }

    /// Other sockets are in use since the last look: watch those. The old ones leave the poller when they are closed.
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
        let mut ready = Ready::default();
        loop {
            self.poller.wait(&mut ready)?;
            for token in ready.tokens() {
                match token {
                    TUN => {
                        if let Err(error) = self.outbound.turn(self.number, &self.shared, &self.sockets) {
                            return self.tun_lost(&error);
                        }
                    }
                    UDP4 => self.hear(Family::V4),
                    UDP6 => self.hear(Family::V6),
                    ROUTES => {
                        if self.sockets.routes.look() {
                            self.shared.routes_changed();
                        }
                    }
                    _ => {
                        self.shared.wakes[self.number].clear();
                        if self.shared.stopping.load(Ordering::Acquire) {
                            return Ok(());
                        }
                        self.look_at_sockets()?;
                        if self.number == 0 {
                            self.outbound.inject(self.number, &self.shared, &self.sockets);
                        }
                    }
                }
            }
        }
    }

    fn hear(&mut self, family: Family) {
        let sockets = match family {
            Family::V4 => &self.sockets.v4,
            Family::V6 => &self.sockets.v6,
        };
        self.inbound.turn(self.number, &self.shared, sockets.get(self.number));
        if self.inbound.in_vain() >= IN_VAIN {
            std::thread::sleep(NAP);
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
