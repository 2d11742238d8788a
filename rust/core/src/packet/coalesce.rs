//! Join decrypted packets into super-packets for the TUN, where they lie.
//!
//! ```text
//! block     [vnet | header | payload 0 | payload 1 |
//! slot                                   [header | payload 2 ]       the next packet is opened here,
//! joined    [vnet | header | payload 0 | payload 1 | payload 2 |     and needs no copy if it belongs
//! ```
//!
//! The slot starts one header's length before the end of what is built; the bytes that it covers wait aside and go
//! back after the headers are compared. A packet that does not belong is moved once, when the block has been written.
//! Packets leave in the order in which they came. Which packets belong together: `run.rs`.

use super::checksum::Sum;
use super::parse::IPV6_HEADER;
use super::run::{Shape, MAX_HEADER};
use super::segment::{Segments, MAX_PADDING};
use super::transport::{FIN_PSH, TCP_CHECKSUM, TCP_FLAGS, UDP_CHECKSUM, UDP_LENGTH};
use super::vnet::{self, VnetHeader};
use crate::observe::drop::Drop;

/// The longest IP packet that one length field of 16 bits can describe.
const MAX_PACKET: usize = 65_535;
/// Bytes of authentication tag behind a packet that is opened in its slot.
const TAG: usize = 16;
const BLOCK: usize = vnet::LEN + MAX_PACKET + MAX_PADDING + TAG;
/// The kernel cuts a UDP super-packet into at most this many datagrams (UDP_MAX_SEGMENTS).
const MAX_DATAGRAMS: usize = 64;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// It is a part of what is being built.
    Joined,
    /// It is the first of something new.
    Started,
    /// It does not belong to what was built, which must be [taken](Coalescer::take) first. The packet is kept, and is
    /// the first of the next.
    FlushFirst,
}

/// What is being built; it starts at the block's start.
struct Run {
    /// `None`: the first packet stays alone.
    shape: Option<Shape>,
    count: usize,
    /// Where in the block the last payload ends.
    end: usize,
    /// Whether the last packet had FIN, PSH or less payload than the others, or the run is as long as it may be.
    closed: bool,
    /// Whether the first packet's checksums were found to be right; found out when the second one comes.
    intact: bool,
    /// FIN and PSH of the last packet.
    flags: u8,
}

/// Where a packet is being opened, or waits: `overlap` bytes at its start are shared with the run, and of the two
/// owners of those bytes one has them in the block, the other aside.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    overlap: usize,
    len: usize,
}

/// Builds one super-packet after another in a block of fixed size.
pub struct Coalescer {
    block: Box<[u8]>,
    tso: bool,
    uso: bool,
    verify: bool,
    run: Option<Run>,
    slot: Option<Place>,
    kept: Option<Place>,
    aside: [u8; MAX_HEADER],
    /// Where the block ends that was taken last, as long as it still lies there.
    taken: Option<usize>,
}

impl Coalescer {
    /// `tso`: TCP segments may be joined; `uso`: UDP datagrams too. Without either, every packet stays alone.
    pub fn new(tso: bool, uso: bool) -> Coalescer {
        Coalescer {
            block: vec![0; BLOCK].into_boxed_slice(),
            tso,
            uso,
            verify: true,
            run: None,
            slot: None,
            kept: None,
            aside: [0; MAX_HEADER],
            taken: None,
        }
    }

    /// What may be joined from now on; what is built already stays joined.
    pub fn set_offloads(&mut self, tso: bool, uso: bool) {
        (self.tso, self.uso) = (tso, uso);
        if let Some(run) = &mut self.run {
            run.closed |= !run.shape.is_some_and(|shape| if shape.tcp { tso } else { uso });
        }
    }

    /// Whether inner checksums are verified before packets are joined; they are unless this is set to `false`. Without
    /// it, a packet that was damaged before it was sealed can reach its reader as if it were right.
    pub fn set_verify(&mut self, verify: bool) {
        self.verify = verify;
    }

    /// Whether no packet waits.
    pub fn is_empty(&self) -> bool {
        self.run.is_none() && self.kept.is_none()
    }

    /// Where the next packet is to be opened: `max` bytes, its padding and tag included. `None`: the block has no room
    /// for it, or a packet is kept; [`take`](Coalescer::take) first. An empty block has room for every datagram.
    pub fn slot(&mut self, max: usize) -> Option<&mut [u8]> {
        self.discard();
        if self.run.is_none() {
            self.start_kept();
        }
        if self.kept.is_some() {
            return None;
        }
        self.taken = None;
        let (at, overlap) = match &self.run {
            None => (vnet::LEN, 0),
            Some(Run { shape: Some(shape), closed: false, end, .. }) => (end - shape.header, shape.header),
            Some(run) => (run.end, 0),
        };
        let end = at.checked_add(max).filter(|end| *end <= BLOCK)?;
        self.aside[..overlap].copy_from_slice(&self.block[at..at + overlap]);
        self.slot = Some(Place { at, overlap, len: max });
        Some(&mut self.block[at..end])
    }

    /// The first `len` bytes of the slot, as they are now.
    pub fn opened(&self, len: usize) -> &[u8] {
        let slot = self.slot.map_or(0..0, |slot| slot.at..slot.at + len.min(slot.len));
        &self.block[slot]
    }

    /// The slot holds a packet of `len` bytes, as it declares itself.
    pub fn commit(&mut self, len: usize) -> Commit {
        let Some(slot) = self.slot.take() else {
            return match (self.kept, &self.run) {
                (None, _) => Commit::Joined,
                (Some(_), Some(_)) => Commit::FlushFirst,
                (Some(_), None) => {
                    self.start_kept();
                    Commit::Started
                }
            };
        };
        let slot = Place { len: len.min(slot.len), ..slot };
        let Some(run) = &self.run else {
            self.run = Some(self.start(slot.len));
            return Commit::Started;
        };
        let (intact, shape) = (run.intact || !self.verify, run.shape);
        let longer = self.next_run(run, &slot);
        let shared = &mut self.block[slot.at..slot.at + slot.overlap];
        shared.swap_with_slice(&mut self.aside[..slot.overlap]);
        // The first packet lies whole in the block again: now it can be verified, once.
        match longer.filter(|_| intact || shape.is_some_and(|shape| self.is_first_intact(&shape))) {
            Some(longer) => {
                self.run = Some(longer);
                Commit::Joined
            }
            None => {
                self.kept = Some(slot);
                Commit::FlushFirst
            }
        }
    }

    /// The slot's packet is not wanted.
    pub fn discard(&mut self) {
        if let Some(Place { at, overlap, .. }) = self.slot.take() {
            self.block[at..at + overlap].copy_from_slice(&self.aside[..overlap]);
        }
    }

    /// What is built, ready for one write: the vnet header and a packet or super-packet, and how many packets it stands
    /// for. A kept packet starts the next; take until `None` to have them all.
    pub fn take(&mut self) -> Option<(&[u8], usize)> {
        self.discard();
        if self.run.is_none() {
            self.start_kept();
        }
        let run = self.run.take()?;
        self.finish(&run);
        self.taken = Some(run.end);
        Some((&self.block[..run.end], run.count))
    }

    /// What was taken last, cut into its packets again, for when the kernel refused the super-packet. To be called
    /// before anything else is done here, and with no padding; [`Drop::MalformedPacket`] when there is nothing to cut.
    pub fn recut(&mut self) -> Result<Segments<'_>, Drop> {
        let end = self.taken.take().ok_or(Drop::MalformedPacket)?;
        Segments::new(&mut self.block, end)
    }

    /// Makes the kept packet the first of a new run.
    fn start_kept(&mut self) {
        let Some(Place { at, overlap, len }) = self.kept.take() else {
            return;
        };
        self.taken = None;
        if len > overlap {
            self.block.copy_within(at + overlap..at + len, vnet::LEN + overlap);
        }
        let shared = overlap.min(len);
        self.block[vnet::LEN..vnet::LEN + shared].copy_from_slice(&self.aside[..shared]);
        self.run = Some(self.start(len));
    }

    /// A run of the one packet of `len` bytes at the block's start.
    fn start(&self, len: usize) -> Run {
        let end = vnet::LEN + len;
        let allowed = |shape: &Shape| if shape.tcp { self.tso } else { self.uso };
        let shape = Shape::of(&self.block[vnet::LEN..end]).filter(allowed);
        // The second packet's slot must not cover the first one's header.
        let closed = shape.is_none_or(|shape| shape.ends || shape.payload < shape.header);
        Run { shape, count: 1, end, closed, intact: false, flags: 0 }
    }

    fn is_first_intact(&self, shape: &Shape) -> bool {
        shape.is_intact(&self.block[vnet::LEN..vnet::LEN + shape.header + shape.payload])
    }

    /// `run` with the slot's packet; `None` when it does not belong.
    fn next_run(&self, run: &Run, slot: &Place) -> Option<Run> {
        let shape = run.shape.filter(|_| !run.closed)?;
        let packet = &self.block[slot.at..slot.at + slot.len];
        let next = Shape::of(packet)?;
        let first = &self.block[vnet::LEN..vnet::LEN + shape.header];
        let bytes = run.end - vnet::LEN - shape.header;
        let fits = next.payload <= shape.payload && run.end + next.payload <= vnet::LEN + MAX_PACKET;
        if !fits || !next.follows(packet, &shape, first, run.count, bytes) {
            return None;
        }
        if self.verify && !next.is_intact(packet) {
            return None;
        }
        let count = run.count + 1;
        let full = !next.tcp && count == MAX_DATAGRAMS;
        let flags = if next.tcp { packet[next.transport + TCP_FLAGS] & FIN_PSH } else { 0 };
        let closed = next.ends || next.payload < shape.payload || full;
        Some(Run { shape: run.shape, count, end: run.end + next.payload, closed, intact: true, flags })
    }

    /// Writes the headers of what is built.
    fn finish(&mut self, run: &Run) {
        let (head, rest) = self.block.split_at_mut(vnet::LEN);
        let packet = &mut rest[..run.end - vnet::LEN];
        let mut vnet = VnetHeader::default();
        if let Some(shape) = run.shape.filter(|_| run.count > 1) {
            let length = packet.len();
            let (ip, segment) = packet.split_at_mut(shape.transport);
            if shape.ipv6 {
                ip[4..6].copy_from_slice(&((length - IPV6_HEADER) as u16).to_be_bytes());
            } else {
                ip[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                ip[10..12].fill(0);
                let sum = Sum::new().bytes(ip).checksum();
                ip[10..12].copy_from_slice(&sum);
            }
            let offset = if shape.tcp {
                segment[TCP_FLAGS] |= run.flags;
                TCP_CHECKSUM
            } else {
                let length = (segment.len() as u16).to_be_bytes();
                segment[UDP_LENGTH..UDP_LENGTH + 2].copy_from_slice(&length);
                UDP_CHECKSUM
            };
            // The kernel completes the checksum when it cuts, if it has to cut at all.
            let partial = shape.pseudo_header(ip, segment.len()).partial();
            segment[offset..offset + 2].copy_from_slice(&partial);
            vnet = VnetHeader {
                flags: vnet::F_NEEDS_CSUM,
                gso_type: match (shape.tcp, shape.ipv6) {
                    (true, false) => vnet::GSO_TCPV4,
                    (true, true) => vnet::GSO_TCPV6,
                    (false, _) => vnet::GSO_UDP_L4,
                },
                hdr_len: shape.header as u16,
                gso_size: shape.payload as u16,
                csum_start: shape.transport as u16,
                csum_offset: offset as u16,
            };
        }
        head.copy_from_slice(&vnet.to_bytes());
    }
}
