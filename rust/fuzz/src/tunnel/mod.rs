//! Two peers, the wire between them and a clock, driven by bytes: whatever is lost, late, doubled, changed or forgotten,
//! the rules hold at every step, and when the wire is whole again packets get through.

mod clear;
mod handshakes;
mod side;
mod watch;

use crate::bytes::Bytes;
use side::Side;
use std::sync::Arc;
use std::time::Duration;
use wgengine_core::time::{Now, Tick, Wall};
use wgengine_core::tunnel::staging::Budget;

/// Steps of an input; longer ones say nothing that shorter ones do not.
const MOST_STEPS: usize = 600;
/// Datagrams on their way at a time.
const MOST_ON_WIRE: usize = 64;
/// How far a step of the clock goes, in milliseconds: about each of the protocol's times.
const STRIDES: [u64; 16] =
    [0, 1, 19, 20, 333, 1000, 4999, 5000, 5333, 9999, 10_000, 15_000, 60_000, 90_000, 120_000, 180_000];
/// Seconds in which a whole wire must bring packets through: two attempts, after the silence that makes them.
const SETTLED: u64 = 60;

/// A datagram on its way.
struct Flight {
    to: usize,
    bytes: Vec<u8>,
    /// The bits that were changed on the way, as bytes to be XORed.
    changed: Vec<u8>,
}

pub fn run(data: &[u8]) {
    clear::restart();
    let mut world = World::new();
    let mut bytes = Bytes::new(data);
    for _ in 0..MOST_STEPS {
        if bytes.is_empty() {
            break;
        }
        world.step(bytes.byte(), &mut bytes);
        world.audit();
    }
    world.settle();
}

struct World {
    now: Now,
    sides: [Side; 2],
    wire: Vec<Flight>,
    budget: Arc<Budget>,
}

impl World {
    fn new() -> World {
        let budget = Arc::new(Budget::default());
        let sides = [Side::new(0, budget.clone()), Side::new(1, budget.clone())];
        let now = Now { tick: Tick(3_600_000_000_000), wall: Wall { secs: 1, nanos: 0 } };
        let mut world = World { now, sides, wire: Vec::new(), budget };
        world.sides[0].set_endpoint(1);
        world
    }

    fn wait(&mut self, time: Duration) {
        self.now.tick = self.now.tick + time;
    }

    /// `what`: the lowest bit is the side, the next four the operation, the rest a choice of its own.
    fn step(&mut self, what: u8, bytes: &mut Bytes<'_>) {
        let (at, choice, now) = (usize::from(what & 1), what >> 5, self.now);
        let side = &mut self.sides[at];
        match what >> 1 & 15 {
            0 | 1 => side.send(now, usize::from(choice) * 40 + 1, jitter(bytes)),
            2 => side.shake(now, choice & 1 != 0, choice & 2 != 0, jitter(bytes)),
            3 => side.due(now, choice & 1 != 0, jitter(bytes)),
            4 => side.take_turn(now, jitter(bytes)),
            5 | 6 => self.deliver(bytes.byte(), choice),
            7 => self.lose(bytes.byte()),
            8 => self.change(bytes.byte(), bytes.byte(), bytes.byte()),
            9 => self.wait(Duration::from_millis(STRIDES[usize::from(bytes.byte()) % STRIDES.len()])),
            10 => {
                side.complete(now, jitter(bytes));
            }
            11 => side.set_psk(choice),
            12 => match choice {
                0..=2 => side.forget_sessions(),
                3 | 4 => side.reset_sessions(now),
                5 | 6 => side.trim(now),
                _ => side.wake(now),
            },
            13 => side.replace(now, self.budget.clone(), self.wire.iter().filter(|flight| flight.to == at)),
            14 => side.set_persistent(now, [0, 1, 25, 65535][usize::from(choice) % 4]),
            _ => side.set_endpoint(choice),
        }
        let sent: Vec<_> = side_by_side(&mut self.sides).collect();
        self.wire.extend(sent);
        let over = self.wire.len().saturating_sub(MOST_ON_WIRE);
        self.wire.drain(..over);
    }

    /// `how`: a bit each for once more, from elsewhere, and slowly.
    fn deliver(&mut self, which: u8, how: u8) {
        if self.wire.is_empty() {
            return;
        }
        let at = usize::from(which) % self.wire.len();
        let flight = if how & 1 != 0 { self.wire[at].copy() } else { self.wire.remove(at) };
        self.sides[flight.to].receive(self.now, &flight, how & 2 != 0, how & 4 != 0);
    }

    fn lose(&mut self, which: u8) {
        if !self.wire.is_empty() {
            let at = usize::from(which) % self.wire.len();
            self.wire.remove(at);
        }
    }

    /// A bit of what lies under the sum of a message changes; MACs are the admission's to check, before the peer.
    fn change(&mut self, which: u8, byte: u8, bit: u8) {
        if self.wire.is_empty() {
            return;
        }
        let at = usize::from(which) % self.wire.len();
        let flight = &mut self.wire[at];
        let covered = flight.bytes.len().min(58);
        let at = usize::from(byte) % covered;
        flight.changed.resize(flight.bytes.len(), 0);
        flight.bytes[at] ^= 1 << (bit % 8);
        flight.changed[at] ^= 1 << (bit % 8);
    }

    fn audit(&mut self) {
        let now = self.now;
        for side in &mut self.sides {
            side.audit(now);
        }
        let staged: usize = self.sides.iter().map(Side::staged_bytes).sum();
        assert_eq!(self.budget.used(), staged, "the budget counts what waits");
    }

    /// From now on the wire loses nothing. Both sides send every second; soon both hear each other.
    fn settle(&mut self) {
        self.wire.clear();
        for (at, side) in self.sides.iter_mut().enumerate() {
            side.set_psk(1);
            side.set_endpoint(1 - at as u8);
            side.heard = 0;
        }
        for _ in 0..SETTLED {
            self.wait(Duration::from_secs(1));
            let now = self.now;
            for side in &mut self.sides {
                side.due(now, true, Duration::ZERO);
                side.take_turn(now, Duration::ZERO);
                side.send(now, 100, Duration::ZERO);
                while side.is_asked() {
                    side.shake(now, true, false, Duration::ZERO);
                }
            }
            self.wire.extend(side_by_side(&mut self.sides));
            while !self.wire.is_empty() {
                let flight = self.wire.remove(0);
                // Crossing initiations are some milliseconds apart.
                self.wait(Duration::from_millis(30));
                self.sides[flight.to].receive(self.now, &flight, false, false);
                self.wire.extend(side_by_side(&mut self.sides));
            }
            self.audit();
            if self.sides.iter().all(|side| side.heard > 0) {
                return;
            }
        }
        panic!("a whole wire, and nothing gets through for {SETTLED} seconds");
    }
}

impl Flight {
    fn copy(&self) -> Flight {
        Flight { bytes: self.bytes.clone(), changed: self.changed.clone(), ..*self }
    }

    /// As it was sent?
    fn is_genuine(&self) -> bool {
        self.changed.iter().all(|byte| *byte == 0)
    }
}

/// What both have sent since.
fn side_by_side(sides: &mut [Side; 2]) -> impl Iterator<Item = Flight> + '_ {
    sides
        .iter_mut()
        .enumerate()
        .flat_map(|(at, side)| side.sent.drain(..).map(move |bytes| Flight { to: 1 - at, bytes, changed: Vec::new() }))
}

/// Up to a third of a second.
fn jitter(bytes: &mut Bytes<'_>) -> Duration {
    Duration::from_millis(u64::from(bytes.byte()))
}
