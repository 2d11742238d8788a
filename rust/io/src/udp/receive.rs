//! Receives blocks: each one datagram, or a run of datagrams of one size that the kernel has joined (UDP_GRO).

use super::address::Raw;
use super::ancillary::{Ancillary, Arrived};
use super::Socket;
use std::io;
use std::os::fd::AsRawFd;
use wgengine_core::tunnel::endpoint::Endpoint;

/// Blocks a call. Most hold one datagram where the network does not join them, and 64 KiB where it does.
pub(super) const BLOCKS: usize = 32;
pub(super) const BLOCK_LEN: usize = 65_536;
/// From one block to the next: a power of two would have all their beginnings compete for the same few cache lines.
pub(super) const STRIDE: usize = BLOCK_LEN + 17 * 64;

/// Room for what one receive call brings.
pub struct Receiver {
    /// One mapping, touched only as far as datagrams reach.
    pub(super) memory: Box<[u8]>,
    pub(super) from: Box<[Raw; BLOCKS]>,
    pub(super) ancillary: Box<[Ancillary; BLOCKS]>,
    pub(super) came: [(usize, Arrived); BLOCKS],
    received: usize,
    /// Blocks to ask for next.
    pub(super) wanted: usize,
    full: bool,
}

/// A call is to bring few long blocks, so that what was received is still in the cache when it is opened, and many single
/// datagrams, so that it pays; under a flood it brings both.
const FEW: usize = 2;
const LONG: usize = 8192;

/// Datagrams of one size from one sender, whose source is our address that they came to; the last one may be shorter.
pub struct Block<'a> {
    pub from: Endpoint,
    pub bytes: &'a [u8],
    pub size: usize,
}

impl Default for Receiver {
    fn default() -> Receiver {
        Receiver {
            memory: vec![0; BLOCKS * STRIDE].into_boxed_slice(),
            from: Box::new([Raw::default(); BLOCKS]),
            ancillary: Box::new([Ancillary::default(); BLOCKS]),
            came: [(0, Arrived::default()); BLOCKS],
            received: 0,
            wanted: FEW,
            full: false,
        }
    }
}

impl Receiver {
    /// Take what waits, without waiting; how many blocks.
    pub fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        self.received = 0;
        let got = self.take(socket.as_raw_fd())?;
        self.received = got;
        self.full = got == self.wanted;
        self.wanted = match self.came[..got].iter().filter(|(len, _)| *len >= LONG).count() {
            0 if self.full => (2 * self.wanted).min(BLOCKS),
            0 => self.wanted,
            long => (got * FEW / long).clamp(FEW, BLOCKS),
        };
        Ok(got)
    }

    /// The blocks of the last call.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        (0..self.received).filter_map(|n| {
            let (len, Arrived { size, source }) = self.came[n];
            let bytes = &self.memory[n * STRIDE..][..len];
            let from = Endpoint { address: self.from[n].address()?, source };
            Some(Block { from, bytes, size: size.unwrap_or(len).max(1) })
        })
    }

    /// Did the last call fill every block that it had, so that more may wait?
    pub fn full(&self) -> bool {
        self.full
    }
}
