//! Receives blocks: each one datagram, or a run of datagrams of one size that the kernel has joined (UDP_GRO).

use super::address::Raw;
use super::ancillary::{arrived, Ancillary, Arrived};
use super::Socket;
use std::io;
use std::os::fd::AsRawFd;
use wgengine_core::tunnel::endpoint::Endpoint;

/// Blocks a call. Most hold one datagram where the network does not join them, and 64 KiB where it does.
const BLOCKS: usize = 32;
const BLOCK_LEN: usize = 65_536;

/// Room for what one receive call brings.
pub struct Receiver {
    /// One mapping, touched only as far as datagrams reach.
    memory: Box<[u8]>,
    from: Box<[Raw; BLOCKS]>,
    ancillary: Box<[Ancillary; BLOCKS]>,
    came: [(usize, Arrived); BLOCKS],
    received: usize,
    /// Blocks to ask for next.
    wanted: usize,
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
        let mut parts: [libc::iovec; BLOCKS] = core::array::from_fn(|n| libc::iovec {
            iov_base: self.memory[n * BLOCK_LEN..].as_mut_ptr().cast(),
            iov_len: BLOCK_LEN,
        });
        // SAFETY: all zero is a valid mmsghdr.
        let mut messages: [libc::mmsghdr; BLOCKS] = unsafe { core::mem::zeroed() };
        for (n, message) in messages.iter_mut().enumerate().take(self.wanted) {
            message.msg_hdr.msg_name = self.from[n].as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = Raw::CAPACITY;
            message.msg_hdr.msg_iov = &mut parts[n];
            message.msg_hdr.msg_iovlen = 1;
            self.ancillary[n].receive(&mut message.msg_hdr);
        }
        let (fd, at) = (socket.as_raw_fd(), messages.as_mut_ptr());
        // SAFETY: every message points into memory of ours that outlives the call, with its true length.
        let got = unsafe { libc::recvmmsg(fd, at, self.wanted as _, libc::MSG_DONTWAIT as _, core::ptr::null_mut()) };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        for (n, message) in messages[..got].iter().enumerate() {
            let cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let len = if cut { 0 } else { message.msg_len as usize };
            self.came[n] = (len, arrived(&message.msg_hdr));
        }
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
