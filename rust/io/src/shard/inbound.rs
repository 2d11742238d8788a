//! In: UDP GRO block → open each datagram into the outgoing TUN block → owner check → coalesce → one TUN write.

use super::handshake::hand_in;
use crate::clock;
use crate::counters::Counters;
use crate::hooks::{self, Verdict};
use crate::offloads::Offloads;
use crate::shared::Shared;
use crate::table::PeerCell;
use crate::udp::receive::{Block, Receiver};
use crate::udp::{Family, Socket};
use std::net::IpAddr;
use std::sync::Arc;
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::{Event, Traffic};
use wgengine_core::packet::coalesce::{Coalescer, Commit};
use wgengine_core::packet::parse::{is_traffic, source_and_length};
use wgengine_core::time::Now;
use wgengine_core::tunnel::endpoint::Endpoint;
use wgengine_core::tunnel::peer::Peer;
use wgengine_core::wire::wireguard::{Data, Message, DATA_HEADER_LEN};
use wgengine_noise::Boring;

/// Receive calls a turn, so that the other direction gets its own.
const BUDGET: usize = 16;

/// One direction's memory: what was received, and what is to be written.
pub struct Inbound {
    receiver: Receiver,
    writer: Writer,
    owner: Option<Owner>,
    in_vain: u64,
}

/// Whose the last source address was: most packets come from where the one before came from.
struct Owner {
    address: IpAddr,
    generation: u64,
    id: Option<u32>,
}

impl Inbound {
    pub fn new(tso: bool, uso: bool) -> Inbound {
        Inbound {
            receiver: Receiver::default(),
            writer: Writer { coalescer: Coalescer::new(tso, uso) },
            owner: None,
            in_vain: 0,
        }
    }

    /// Datagrams since the last one that was of use.
    pub fn in_vain(&self) -> u64 {
        self.in_vain
    }

    /// Take in what waits at the socket, up to the budget.
    pub fn turn(&mut self, shard: usize, shared: &Shared, socket: Option<&Socket>) {
        let Some(socket) = socket else { return };
        let counters = &shared.counters[shard];
        self.writer.follow(shared);
        for _ in 0..BUDGET {
            // An error is the path's, not the socket's (an ICMP answer to something sent), or that nothing waits.
            let Ok(_) = self.receiver.receive(socket) else { break };
            counters.udp_reads.add(1);
            let now = clock::now();
            for block in self.receiver.blocks() {
                let datagrams = block.bytes.len().div_ceil(block.size).max(1) as u64;
                counters.received(Family::of(&block.from.address), datagrams, block.bytes.len() as u64);
                let of_use = take_block(&block, now, shard, shared, &mut self.writer, &mut self.owner);
                self.in_vain = if of_use { 0 } else { self.in_vain + datagrams };
            }
            if !self.receiver.full() {
                break;
            }
        }
        self.writer.flush(shard, shared);
    }
}

/// Datagrams of one sender: consecutive ones of one session are a run. Was any of use?
fn take_block(
    block: &Block<'_>,
    now: Now,
    shard: usize,
    shared: &Shared,
    writer: &mut Writer,
    owner: &mut Option<Owner>,
) -> bool {
    let mut of_use = false;
    let counters = &shared.counters[shard];
    if block.bytes.is_empty() {
        // An empty datagram, or one longer than any: chunks() would pass over it in silence.
        counters.drop(Drop::MalformedMessage, 1);
    }
    let mut datagrams = block.bytes.chunks(block.size).peekable();
    while let Some(datagram) = datagrams.next() {
        match Message::parse(datagram) {
            Ok(Message::Data(first)) => {
                let mut next = Some(first);
                let run = std::iter::from_fn(|| {
                    let this = next.take()?;
                    next = datagrams.next_if(|d| data(d).is_some_and(|d| d.receiver == first.receiver)).and_then(data);
                    Some(this)
                });
                match shared.table.by_index(first.receiver) {
                    Some(cell) => {
                        let run_of = Run { now, shard, shared, counters, writer, owner, cell: &cell };
                        of_use |= run_of.open(run, block.from);
                    }
                    None => counters.drop(Drop::UnknownIndex, run.count() as u64),
                }
            }
            Ok(handshake) => match hand_in(handshake, datagram, block.from, shared) {
                Ok(()) => of_use = true,
                Err(why) => counters.drop(why, 1),
            },
            Err(why) => counters.drop(why, 1),
        }
    }
    of_use
}

fn data(datagram: &[u8]) -> Option<Data<'_>> {
    match Message::parse(datagram) {
        Ok(Message::Data(data)) => Some(data),
        _ => None,
    }
}

/// Where consecutive data messages of one session go, and who sent them.
struct Run<'a> {
    now: Now,
    shard: usize,
    shared: &'a Shared,
    counters: &'a Counters,
    writer: &'a mut Writer,
    owner: &'a mut Option<Owner>,
    cell: &'a Arc<PeerCell>,
}

/// What authenticated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Heard {
    Nothing,
    Keepalive,
    Data,
}

impl Run<'_> {
    /// Open all under the peer's lock, taken once; timers and roaming once, and only for what authenticates (C3 row 14).
    /// Did any?
    fn open<'d>(mut self, messages: impl Iterator<Item = Data<'d>>, from: Endpoint) -> bool {
        let mut heard = Heard::Nothing;
        let mut peer = self.cell.peer.lock();
        let trimmed = peer.is_trimmed();
        for message in messages {
            match self.open_one(&mut peer, message) {
                Ok(one) => heard = heard.max(one),
                Err(why) => self.counters.drop(why, 1),
            }
        }
        if heard == Heard::Nothing {
            return false;
        }
        let (moved, shake) = peer.received(self.now.tick, heard == Heard::Data, from);
        let next = peer.timers.next();
        self.shared.table.list_active(self.cell, &mut peer);
        drop(peer);
        if trimmed {
            self.shared.woke(self.cell.key, Traffic::Received);
        }
        if moved {
            self.shared.ring.push(Event::EndpointChanged { peer: self.cell.key, endpoint: from.address });
        }
        if shake {
            self.shared.inbox.shake(self.cell.clone());
        }
        if self.cell.arm(next) {
            self.shared.inbox.arm(self.cell.clone());
        }
        true
    }

    fn open_one(&mut self, peer: &mut Peer<Boring>, message: Data<'_>) -> Result<Heard, Drop> {
        let room = message.datagram.len() - DATA_HEADER_LEN;
        if self.writer.coalescer.slot(room).is_none() {
            self.writer.flush(self.shard, self.shared);
        }
        let slot = self.writer.coalescer.slot(room).ok_or(Drop::MalformedMessage)?;
        // What is not committed, the next slot() discards.
        let opened = peer.open(self.now, message, slot)?;
        let inner = (opened.len > 0).then(|| source_and_length(&slot[..opened.len]));
        let is_traffic = is_traffic(&slot[..opened.len]);
        if opened.confirmed {
            self.confirmed(peer);
        }
        let Some(inner) = inner else {
            self.counters.keepalives_received.add(1);
            return Ok(Heard::Keepalive);
        };
        let inner = inner.and_then(|(source, len)| self.owns(source).then_some(len).ok_or(Drop::BadSource));
        let verdict = match inner {
            Ok(len) if !is_traffic => {
                let packet = self.writer.coalescer.opened(len);
                hooks::inbound(packet, peer, self.now.tick, self.shared, self.counters).map(|verdict| (verdict, len))
            }
            inner => inner.map(|len| (Verdict::Pass, len)),
        };
        match verdict {
            Ok((Verdict::Pass, len)) => self.writer.commit(len, self.shard, self.shared),
            Ok((Verdict::Ours, _)) => {}
            Err(why) => self.counters.drop(why, 1),
        }
        Ok(Heard::Data)
    }

    /// The other side uses the session that we answered for: what waited for one can go.
    fn confirmed(&self, peer: &mut Peer<Boring>) {
        self.counters.handshakes_completed.add(1);
        self.shared.table.release(peer);
        self.shared.ring.push(Event::SessionUp { peer: self.cell.key, initiator: false });
        if !peer.staging.is_empty() {
            self.shared.inbox.staged(self.cell.clone());
        }
    }

    /// Would a packet to this address go to the peer that sent this one? (C3 row 13)
    fn owns(&mut self, address: IpAddr) -> bool {
        let generation = self.shared.table.generation();
        let known = self.owner.as_ref().filter(|o| o.address == address && o.generation == generation).map(|o| o.id);
        let id = known.unwrap_or_else(|| {
            let id = self.shared.table.owner(address).map(|cell| cell.id);
            *self.owner = Some(Owner { address, generation, id });
            id
        });
        id == Some(self.cell.id)
    }
}

/// Builds super-packets and writes them to the TUN.
struct Writer {
    coalescer: Coalescer,
}

impl Writer {
    /// Take over what is switched on now.
    fn follow(&mut self, shared: &Shared) {
        let offloads = &shared.offloads;
        self.coalescer.set_offloads(Offloads::on(&offloads.tun_tso), Offloads::on(&offloads.tun_uso));
    }

    fn commit(&mut self, len: usize, shard: usize, shared: &Shared) {
        if self.coalescer.commit(len) == Commit::FlushFirst {
            self.write(shard, shared);
        }
    }

    fn flush(&mut self, shard: usize, shared: &Shared) {
        while self.write(shard, shared) {}
    }

    /// Write what is built; false when nothing was.
    fn write(&mut self, shard: usize, shared: &Shared) -> bool {
        let counters = &shared.counters[shard];
        let Some((block, packets)) = self.coalescer.take() else { return false };
        let bytes = (block.len() - wgengine_core::packet::vnet::LEN) as u64;
        match shared.tun.write(shard, block) {
            Ok(()) => {
                counters.tun_writes.add(1);
                counters.tun_tx_packets.add(packets as u64);
                counters.tun_tx_bytes.add(bytes);
            }
            // Kernels that take no super-packets after all: cut it again, and send no more of them.
            Err(error) if packets > 1 && error.raw_os_error() == Some(libc::EINVAL) => {
                shared.tun_offload_off(libc::EINVAL);
                self.write_singly(shard, shared);
            }
            Err(_) => counters.drop(Drop::TunWriteFailed, packets as u64),
        }
        true
    }

    fn write_singly(&mut self, shard: usize, shared: &Shared) {
        let counters = &shared.counters[shard];
        let mut single = [0u8; 65_545];
        let Ok(mut segments) = self.coalescer.recut() else { return };
        while let Some((packet, len)) = segments.next(|len| len) {
            let end = wgengine_core::packet::vnet::LEN + len;
            single[wgengine_core::packet::vnet::LEN..end].copy_from_slice(&packet[..len]);
            match shared.tun.write(shard, &single[..end]) {
                Ok(()) => {
                    counters.tun_writes.add(1);
                    counters.tun_tx_packets.add(1);
                    counters.tun_tx_bytes.add(len as u64);
                }
                Err(_) => counters.drop(Drop::TunWriteFailed, 1),
            }
        }
    }
}
