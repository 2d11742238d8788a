//! Which pings are under way, and when each was sent: every one ends exactly once, by its answer or by its deadline.

use super::event::{Event, PingKind};
use crate::packet::icmp::EchoId;
use crate::plan::PublicKey;
use crate::time::Tick;
use crate::wire::tsmp::PingId;
use core::time::Duration;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// Pings that are under way at a time.
pub const MAX_PINGS: usize = 1024;

/// By which an answer names its ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    Tsmp(PingId),
    Echo(EchoId),
}

impl Id {
    pub fn kind(&self) -> PingKind {
        match self {
            Id::Tsmp(_) => PingKind::Tsmp,
            Id::Echo(_) => PingKind::Icmp,
        }
    }
}

/// Whom a ping went to, and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    pub peer: PublicKey,
    pub source: IpAddr,
    pub destination: IpAddr,
}

#[derive(Clone, Copy)]
struct Ping {
    token: u64,
    way: Way,
    sent: Tick,
    deadline: Tick,
}

/// Why a ping was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// [`MAX_PINGS`] are under way.
    Full,
    /// Another one has this identity; draw a new one.
    Taken,
}

/// What an answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a ping of ours, by the peer that it went to: it has ended.
    Ours(Event),
    /// To a ping of ours, by somebody else or to another address.
    Forged,
    /// To no ping of ours.
    Unknown,
}

/// The pings of one device.
#[derive(Default)]
pub struct Pings {
    under_way: HashMap<Id, Ping>,
    deadlines: BTreeSet<(Tick, u64, Id)>,
    last_token: u64,
}

impl Pings {
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// A ping is about to be sent; the token that names it from now on, never used before.
    pub fn begin(&mut self, id: Id, way: Way, now: Tick, timeout: Duration) -> Result<u64, Refused> {
        if self.under_way.contains_key(&id) {
            return Err(Refused::Taken);
        }
        if self.under_way.len() >= MAX_PINGS {
            return Err(Refused::Full);
        }
        self.last_token += 1;
        let ping = Ping { token: self.last_token, way, sent: now, deadline: now + timeout };
        self.under_way.insert(id, ping);
        self.deadlines.insert((ping.deadline, ping.token, id));
        Ok(ping.token)
    }

    fn end(&mut self, id: Id) -> Option<Ping> {
        let ping = self.under_way.remove(&id)?;
        self.deadlines.remove(&(ping.deadline, ping.token, id));
        Some(ping)
    }

    /// It could not be sent: nobody shall hear of it.
    pub fn cancel(&mut self, id: Id) {
        self.end(id);
    }

    /// An answer came, on the way back `from` where the ping went.
    pub fn answered(&mut self, id: Id, from: &Way, peer_api_port: u16, now: Tick) -> Answer {
        match self.under_way.get(&id) {
            None => Answer::Unknown,
            Some(ping) if ping.way != *from => Answer::Forged,
            Some(&Ping { token, way, sent, .. }) => {
                self.end(id);
                let latency = now.since(sent);
                Answer::Ours(Event::Pong { token, peer: way.peer, kind: id.kind(), latency, peer_api_port })
            }
        }
    }

    /// Does it expire before all others?
    pub fn is_next(&self, id: Id) -> bool {
        self.deadlines.first().is_some_and(|(.., first)| *first == id)
    }

    /// When the next one expires.
    pub fn next(&self) -> Option<Tick> {
        self.deadlines.first().map(|(deadline, ..)| *deadline)
    }

    /// One whose time is over, and has ended with it. Call until `None`.
    pub fn expire(&mut self, now: Tick) -> Option<Event> {
        let (_, token, id) = *self.deadlines.first().filter(|(deadline, ..)| *deadline <= now)?;
        self.end(id);
        Some(Event::PingExpired { token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn way(peer: u8) -> Way {
        let [source, destination] = ["10.9.0.1", "10.9.0.2"].map(|text| text.parse().expect("address"));
        Way { peer: PublicKey([peer; 32]), source, destination }
    }

    fn id(n: u32) -> Id {
        Id::Echo(n.to_be_bytes())
    }

    const TIMEOUT: Duration = Duration::from_nanos(100);

    #[test]
    fn an_answer_ends_its_ping_and_tells_how_long_it_took() {
        let mut pings = Pings::default();
        let tsmp = Id::Tsmp([7; 8]);
        assert_eq!(pings.begin(tsmp, way(1), Tick(5), TIMEOUT), Ok(1));
        assert_eq!(pings.begin(tsmp, way(2), Tick(5), TIMEOUT), Err(Refused::Taken));
        assert_eq!(pings.answered(Id::Tsmp([8; 8]), &way(1), 0, Tick(9)), Answer::Unknown);
        assert_eq!(pings.answered(tsmp, &way(2), 0, Tick(9)), Answer::Forged, "another peer");
        let turned = Way { source: way(1).destination, ..way(1) };
        assert_eq!(pings.answered(tsmp, &turned, 0, Tick(9)), Answer::Forged, "another address");
        let latency = Duration::from_nanos(4);
        let pong = Event::Pong { token: 1, peer: way(1).peer, kind: PingKind::Tsmp, latency, peer_api_port: 80 };
        assert_eq!(pings.answered(tsmp, &way(1), 80, Tick(9)), Answer::Ours(pong));
        assert_eq!(pings.answered(tsmp, &way(1), 80, Tick(9)), Answer::Unknown, "once");
        assert_eq!((pings.next(), pings.expire(Tick(1000))), (None, None));
    }

    #[test]
    fn row_10_only_so_many_are_under_way_and_each_expires() {
        let mut pings = Pings::default();
        for n in 0..MAX_PINGS as u32 {
            assert!(pings.begin(id(n), way(1), Tick(n.into()), TIMEOUT).is_ok());
        }
        assert_eq!(pings.begin(id(9999), way(1), Tick(0), TIMEOUT), Err(Refused::Full));
        pings.cancel(id(7));
        assert!(pings.begin(id(9999), way(1), Tick(0), TIMEOUT).is_ok(), "one that was not sent makes room");
        let mut ended = Vec::new();
        while let Some(at) = pings.next() {
            assert_eq!(pings.expire(Tick(at.0 - 1)), None);
            ended.extend(pings.expire(at));
        }
        assert_eq!((ended.len(), pings.len()), (MAX_PINGS, 0));
        let cancelled = Event::PingExpired { token: 8 };
        assert!(!ended.contains(&cancelled));
    }

    proptest! {
        /// Whatever happens in whatever order, each token is told exactly once.
        #[test]
        fn row_09_every_ping_ends_exactly_once(steps in prop::collection::vec((0u8..4, 0u32..12, 0u8..2, 0u64..60), 1..200)) {
            let mut pings = Pings::default();
            let mut now = Tick(0);
            let mut open = std::collections::BTreeMap::new();
            for (what, n, peer, passed) in steps {
                now = now + Duration::from_nanos(passed);
                match what {
                    0 | 1 => if let Ok(token) = pings.begin(id(n), way(peer), now, TIMEOUT) {
                        prop_assert!(open.insert(token, (n, peer, now)).is_none(), "a token is used once");
                    },
                    2 => match pings.answered(id(n), &way(peer), 0, now) {
                        Answer::Ours(Event::Pong { token, latency, .. }) => {
                            let (asked, of, sent) = open.remove(&token).expect("it was open");
                            prop_assert_eq!((asked, of, now.since(sent)), (n, peer, latency));
                        }
                        Answer::Ours(_) => prop_assert!(false, "no pong"),
                        Answer::Forged => prop_assert!(open.values().any(|(asked, of, _)| *asked == n && *of != peer)),
                        Answer::Unknown => prop_assert!(open.values().all(|(asked, ..)| *asked != n)),
                    },
                    _ => while let Some(event) = pings.expire(now) {
                        let Event::PingExpired { token } = event else { panic!("no expiry") };
                        let (.., sent) = open.remove(&token).expect("it was open");
                        prop_assert!(now.since(sent) >= TIMEOUT);
                    },
                }
                prop_assert_eq!(pings.len(), open.len());
            }
            while pings.expire(now + TIMEOUT).is_some() {
                open.pop_first();
            }
            prop_assert!(pings.is_empty() && open.is_empty());
        }
    }
}
