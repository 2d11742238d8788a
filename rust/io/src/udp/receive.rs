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

/// Few where blocks are long, so that what was received is still in the cache when it is opened; many where they are
/// single datagrams, so that a call pays.
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
            memory: vec![0; BLOCKS * BLOCK_LEN].into_boxed_slice(),
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
        let long = self.came[..got].iter().any(|(len, _)| *len >= LONG);
        if long {
            self.wanted = FEW;
        } else if self.full {
            self.wanted = (2 * self.wanted).min(BLOCKS);
        }
        Ok(got)
    }

    /// The blocks of the last call.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        (0..self.received).filter_map(|n| {
            let (len, Arrived { size, source }) = self.came[n];
            let bytes = &self.memory[n * BLOCK_LEN..n * BLOCK_LEN + len];
            let from = Endpoint { address: self.from[n].address()?, source };
            Some(Block { from, bytes, size: size.unwrap_or(len).max(1) })
        })
    }

    /// Did the last call fill every block that it had, so that more may wait?
    pub fn full(&self) -> bool {
        self.full
    }
}
