//! What a peer says to the engine itself, found among the packets that it sends: TSMP, which never reaches the operating
//! system, and replies to echo requests of ours. Asked only about what is neither TCP nor UDP, after the owner check.

use crate::counters::Counters;
use crate::shared::Shared;
use parking_lot::RwLock;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::Event;
use wgengine_core::observe::pings::{Answer, Id, Way};
use wgengine_core::packet::icmp::{self, Echo, Half};
use wgengine_core::packet::parse::{protocol, Parsed};
use wgengine_core::time::Tick;
use wgengine_core::tunnel::peer::Peer;
use wgengine_core::wire::tsmp::Tsmp;
use wgengine_noise::Boring;

/// What the hooks go by.
#[derive(Debug, Default)]
pub struct Hooks {
    own: RwLock<HashSet<IpAddr>>,
    answers_echo: AtomicBool,
}

impl Hooks {
    /// Our addresses inside the tunnel: TSMP to any other is not for us.
    pub fn set_own_addresses(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        *self.own.write() = addresses.into_iter().collect();
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.own.read().contains(&address)
    }

    /// Answer echo requests to our addresses: for a device behind which no operating system does.
    pub fn set_respond_to_ping(&self, on: bool) {
        self.answers_echo.store(on, Ordering::Relaxed);
    }
}

/// Where a packet of a peer goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the TUN.
    Pass,
    /// It was for us.
    Ours,
}

/// A packet of `peer` that is no traffic; `now` is when it came. What was for us and is of no use dies of the reason.
pub fn inbound(
    packet: &[u8],
    peer: &mut Peer<Boring>,
    now: Tick,
    shared: &Shared,
    counters: &Counters,
) -> Result<Verdict, Drop> {
    let parsed = Parsed::of(packet).ok_or(Drop::MalformedInner)?;
    match parsed.protocol {
        protocol::TSMP => {
            counters.tsmp_received.add(1);
            tsmp(&parsed, packet, peer, now, shared).map(|()| Verdict::Ours)
        }
        protocol::ICMP | protocol::ICMPV6 => echo(&parsed, packet, peer, now, shared),
        _ => Ok(Verdict::Pass),
    }
}

/// The way that a ping took, if `parsed` is on its way back.
fn way_back(parsed: &Parsed, peer: &Peer<Boring>) -> Way {
    Way { peer: *peer.key(), source: parsed.destination, destination: parsed.source }
}

fn tsmp(parsed: &Parsed, packet: &[u8], peer: &mut Peer<Boring>, now: Tick, shared: &Shared) -> Result<(), Drop> {
    let message = Tsmp::of(parsed, packet).ok_or(Drop::MalformedTsmp)?;
    if let Tsmp::Pong { id, peer_api_port } = message {
        // The address that the ping went out from says enough: it need not be ours any more.
        return match shared.pings.answered(Id::Tsmp(id), &way_back(parsed, peer), peer_api_port, now) {
            Answer::Ours(event) => {
                shared.ring.push(event);
                Ok(())
            }
            Answer::Forged | Answer::Unknown => Err(Drop::UnsolicitedPong),
        };
    }
    if !shared.hooks.is_own(parsed.destination) {
        return Err(Drop::ForeignTsmp);
    }
    match message {
        Tsmp::Ping(id) => {
            let pong = Tsmp::Pong { id, peer_api_port: 0 }.answer(parsed, packet);
            // What the full queue drops is counted there.
            let _ = shared.inject(pong.ok_or(Drop::MalformedTsmp)?);
        }
        Tsmp::DiscoKey(key) => {
            if key == [0; 32] {
                return Err(Drop::MalformedTsmp);
            }
            if !peer.activity.may_tell(now) {
                return Err(Drop::AdvertisementLimited);
            }
            shared.ring.push(Event::DiscoKeyAdvertised { peer: *peer.key(), source: parsed.source, key });
        }
        Tsmp::Reject(_) | Tsmp::Pong { .. } => {}
    }
    Ok(())
}

fn echo(parsed: &Parsed, packet: &[u8], peer: &Peer<Boring>, now: Tick, shared: &Shared) -> Result<Verdict, Drop> {
    let answers = shared.hooks.answers_echo.load(Ordering::Relaxed);
    if !answers && !shared.pings.any() {
        return Ok(Verdict::Pass);
    }
    let Some(echo) = Echo::of(parsed, packet) else { return Ok(Verdict::Pass) };
    if echo.half == Half::Request {
        let reply = answers.then(|| icmp::answer(parsed, packet)).flatten();
        if let Some(reply) = reply.filter(|_| shared.hooks.is_own(parsed.destination)) {
            let _ = shared.inject(reply);
        }
        return Ok(Verdict::Pass);
    }
    match shared.pings.answered(Id::Echo(echo.id), &way_back(parsed, peer), 0, now) {
        Answer::Ours(event) => {
            shared.ring.push(event);
            Ok(Verdict::Ours)
        }
        Answer::Forged => Err(Drop::ForgedEchoReply),
        Answer::Unknown => Ok(Verdict::Pass),
    }
}
