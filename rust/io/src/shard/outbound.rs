//! Out: TUN super-packet → parse once → owner of the address → seal each segment into one wire block → one UDP send.

use super::Jitter;
use crate::clock;
use crate::counters::Counters;
use crate::offloads::Offloads;
use crate::shared::Shared;
use crate::table::PeerCell;
use crate::udp::batch::{Failure, Outbox};
use crate::udp::{Family, Sockets};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::{Event, Traffic};
use wgengine_core::packet::parse::protocol;
use wgengine_core::packet::segment::{Segments, MAX_PADDING};
use wgengine_core::packet::vnet;
use wgengine_core::wire::wireguard::{padded, DATA_OVERHEAD};

/// Super-packets a turn, so that the other direction gets its own.
const BUDGET: usize = 64;

/// One direction's memory: what was read, and what is to be sent.
pub struct Outbound {
    read: Box<[u8]>,
    outbox: Outbox,
    owner: Option<Owner>,
    jitter: Jitter,
}

/// Who owned the last destination: most super-packets go where the one before went.
struct Owner {
    address: IpAddr,
    generation: u64,
    cell: Arc<PeerCell>,
}

impl Outbound {
    pub fn new() -> Outbound {
        Outbound {
            read: vec![0; vnet::LEN + 65_535 + MAX_PADDING + 1].into_boxed_slice(),
            outbox: Outbox::default(),
            owner: None,
            jitter: Jitter::new(),
        }
    }

    /// Send what waits in the TUN, up to the budget. An error means that the TUN is gone.
    pub fn turn(&mut self, shard: usize, shared: &Shared, sockets: &Sockets) -> io::Result<()> {
        let counters = &shared.counters[shard];
        let room = self.read.len() - MAX_PADDING;
        let mut outcome = Ok(());
        for _ in 0..BUDGET {
            match shared.tun.read(shard, &mut self.read[..room]) {
                Ok(0) => {
                    outcome = Err(io::ErrorKind::UnexpectedEof.into());
                    break;
                }
                Ok(len) => {
                    counters.tun_reads.add(1);
                    if let Err(why) = self.super_packet(len, true, shard, shared, sockets) {
                        counters.drop(why, 1);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        outcome = Err(error);
                    }
                    break;
                }
            }
        }
        flush(&mut self.outbox, shard, shared, sockets);
        outcome
    }

    /// Send what the engine itself has to say.
    pub fn inject(&mut self, shard: usize, shared: &Shared, sockets: &Sockets) {
        let counters = &shared.counters[shard];
        for packet in shared.injection.take() {
            counters.injected_packets.add(1);
            let len = vnet::LEN + packet.len();
            self.read[..vnet::LEN].fill(0);
            self.read[vnet::LEN..len].copy_from_slice(&packet);
            if let Err(why) = self.super_packet(len, false, shard, shared, sockets) {
                counters.drop(why, 1);
            }
        }
        flush(&mut self.outbox, shard, shared, sockets);
    }

    /// One read, or a packet of our own. A reason for which all of it died is returned; parts are counted here.
    fn super_packet(
        &mut self,
        len: usize,
        of_host: bool,
        shard: usize,
        shared: &Shared,
        sockets: &Sockets,
    ) -> Result<(), Drop> {
        let counters = &shared.counters[shard];
        let mtu = shared.mtu.load(Ordering::Relaxed) as usize;
        let mut segments = Segments::new(&mut self.read, len)?;
        if of_host {
            counters.tun_rx_packets.add(segments.count() as u64);
            counters.tun_rx_bytes.add((len - vnet::LEN) as u64);
            // Whoever hears it takes it for the engine's word.
            if segments.parsed().protocol == protocol::TSMP {
                return Err(Drop::HostTsmp);
            }
        }
        let Some(cell) = owner_of(&mut self.owner, segments.destination(), shared) else {
            counters.drop(Drop::NoPeer, segments.count() as u64);
            return Ok(());
        };
        let now = clock::tick();
        let mut peer = cell.peer.lock();
        if peer.wanted(now) {
            shared.woke(cell.key, Traffic::Sent);
        }
        shared.table.list_active(&cell, &mut peer);
        let Some(to) = shared.destination(&mut peer, sockets) else {
            counters.drop(Drop::NoEndpoint, segments.count() as u64);
            return Ok(());
        };
        let can_send = peer.can_send(now);
        // What still waits goes first, so that a session's first packets keep their order; the control thread sends it.
        if !can_send || !peer.staging.is_empty() {
            while let Some((packet, inner)) = segments.next(|len| len) {
                if let Some((why, packets)) = peer.staging.push(&packet[..inner]) {
                    counters.drop(why, packets as u64);
                }
            }
            if !can_send && peer.ask_handshake(now) {
                shared.inbox.shake(cell.clone());
            }
            return Ok(());
        }
        let join = !peer.single_datagrams && Offloads::on(&shared.offloads.udp_gso);
        while let Some((plain, _)) = segments.next(|len| padded(len, mtu)) {
            let wire_len = plain.len() + DATA_OVERHEAD;
            if self.outbox.room(wire_len).is_none() {
                flush(&mut self.outbox, shard, shared, sockets);
            }
            let sealed = self.outbox.room(wire_len).ok_or(Drop::MalformedPacket).and_then(|out| peer.seal(plain, out));
            match sealed {
                Ok(written) => self.outbox.push(&cell, to, written, join),
                Err(why) => counters.drop(why, 1),
            }
        }
        if peer.sent(now, true, self.jitter.next()) {
            shared.inbox.shake(cell.clone());
        }
        let next = peer.timers.next();
        drop(peer);
        if cell.arm(next) {
            shared.inbox.arm(cell);
        }
        Ok(())
    }
}

fn owner_of(last: &mut Option<Owner>, address: IpAddr, shared: &Shared) -> Option<Arc<PeerCell>> {
    let generation = shared.table.generation();
    if let Some(owner) = last.as_ref().filter(|o| o.address == address && o.generation == generation) {
        return Some(owner.cell.clone());
    }
    let cell = shared.table.owner(address)?;
    *last = Some(Owner { address, generation, cell: cell.clone() });
    Some(cell)
}

/// Send what is sealed. No peer's lock may be wanted here: the caller may hold one.
fn flush(outbox: &mut Outbox, shard: usize, shared: &Shared, sockets: &Sockets) {
    if outbox.is_empty() {
        return;
    }
    let counters = &shared.counters[shard];
    let sent = outbox.flush(sockets, shard, |failure| refused(failure, shared, counters));
    for family in [Family::V4, Family::V6] {
        let went = sent.over(family);
        counters.sent(family, went.datagrams, went.bytes);
    }
    counters.udp_writes.add(sent.writes);
}

/// The kernel refused a batch. True: it may take the datagrams one by one.
fn refused(failure: Failure, shared: &Shared, counters: &Counters) -> bool {
    let Failure { peer, to, datagrams, error } = failure;
    match error.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => {
            counters.drop(Drop::NoSocket, datagrams as u64);
            false
        }
        // A segment is longer than the path's MTU (case 24): single datagrams are fragmented and arrive.
        Some(libc::EMSGSIZE | libc::EINVAL) if datagrams > 1 => {
            path_too_small(&peer, to.address, shared);
            true
        }
        // The way out cannot complete checksums, so it cannot cut batches at all.
        Some(libc::EIO) if datagrams > 1 => {
            if Offloads::off(&shared.offloads.udp_gso) {
                shared.ring.push(Event::OffloadOff { offload: "udp_gso", errno: libc::EIO });
            }
            true
        }
        _ => {
            counters.drop(Drop::SendFailed, datagrams as u64);
            false
        }
    }
}

/// Remember it with the peer, once; the control thread does it, since the peer's lock may be held here.
fn path_too_small(peer: &Arc<PeerCell>, to: SocketAddr, shared: &Shared) {
    shared.inbox.single(peer.clone(), to);
}
