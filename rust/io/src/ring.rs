//! Events on their way up: a bounded ring and one descriptor that is readable while something waits.

use crate::clock;
use crate::wake::Wake;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use wgengine_core::observe::event::Event;
use wgengine_core::time::Wall;

/// As many events wait as a reader that sleeps for a while can miss without harm; then the oldest go, and are counted.
pub const CAPACITY: usize = 1024;

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<(Wall, Event)>,
    lost: u64,
}

/// The bounded event ring of one device.
#[derive(Debug)]
pub struct Ring {
    waiting: Mutex<Waiting>,
    wake: Wake,
}

/// What a reader took: how many were lost before, then the events in their order.
#[derive(Debug, Default)]
pub struct Drained {
    pub lost: u64,
    pub events: Vec<(Wall, Event)>,
}

impl Ring {
    pub fn new() -> io::Result<Ring> {
        Ok(Ring { waiting: Mutex::default(), wake: Wake::new()? })
    }

    pub fn push(&self, event: Event) {
        let mut waiting = self.waiting.lock();
        if waiting.events.len() >= CAPACITY {
            // Whoever pings waits for the one event that says how it ended.
            let oldest = waiting.events.iter().position(|(_, event)| !event.is_awaited()).unwrap_or(0);
            waiting.events.remove(oldest);
            waiting.lost += 1;
        }
        waiting.events.push_back((clock::wall(), event));
        self.wake.wake();
    }

    pub fn drain(&self, limit: usize) -> Drained {
        let mut waiting = self.waiting.lock();
        let take = limit.min(waiting.events.len());
        let drained =
            Drained { lost: core::mem::take(&mut waiting.lost), events: waiting.events.drain(..take).collect() };
        if waiting.events.is_empty() {
            self.wake.clear();
        }
        drained
    }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_events_go_first_and_are_counted() {
        let ring = Ring::new().expect("eventfd");
        for mtu in 0..CAPACITY as u32 + 5 {
            ring.push(Event::LinkChanged { up: true, mtu });
        }
        let drained = ring.drain(3);
        assert_eq!(drained.lost, 5);
        assert_eq!(drained.events.len(), 3);
        assert_eq!(drained.events[0].1, Event::LinkChanged { up: true, mtu: 5 });
        assert_eq!(ring.drain(usize::MAX).events.len(), CAPACITY - 3);
    }

    #[test]
    fn row_09_a_flood_of_events_does_not_drown_how_a_ping_ended() {
        let ring = Ring::new().expect("eventfd");
        for token in 0..10 {
            ring.push(Event::PingExpired { token });
        }
        for mtu in 0..5 * CAPACITY as u32 {
            ring.push(Event::LinkChanged { up: true, mtu });
        }
        let drained = ring.drain(usize::MAX);
        assert_eq!(drained.lost as usize, 4 * CAPACITY + 10);
        assert!((0..10).all(|token| drained.events[token].1 == Event::PingExpired { token: token as u64 }));
        for token in 0..2 * CAPACITY as u64 {
            ring.push(Event::PingExpired { token });
        }
        assert_eq!(ring.drain(usize::MAX).events.len(), CAPACITY, "nobody fetches them: bounded all the same");
    }
}
