//! macOS: a call a datagram, each way.

use super::address::Raw;
use super::ancillary::{arrived, Ancillary};
use super::batch::Batch;
use super::receive::{Receiver, BLOCK_LEN, STRIDE};
use super::Socket;
use std::io;
use std::os::fd::RawFd;
use std::thread;

/// The option by which an IPv4 socket tells which of our addresses a datagram came to.
pub(super) const RECEIVE_PKTINFO: libc::c_int = libc::IP_PKTINFO;
/// No datagrams are joined here.
pub(super) const JOINED: Option<(libc::c_int, libc::c_int)> = None;

/// An interface's full queue drains in far less time than these turns of other threads take.
const FULL_TRIES: usize = 8;

/// A buffer's size is told as it was set.
pub(super) const REPORTED: u64 = 1;

/// Our address that a datagram came to; the other field is for sending only.
pub(super) fn local(info: &libc::in_pktinfo) -> libc::in_addr {
    info.ipi_addr
}

impl Socket {
    /// Room for this many bytes each way, or half as many, and so on: more than the kernel's limit is refused whole.
    pub(super) fn enlarge(&self, bytes: libc::c_int) {
        for buffer in [libc::SO_RCVBUF, libc::SO_SNDBUF] {
            let sizes = std::iter::successors(Some(bytes), |bytes| Some(bytes / 2)).take(5);
            // A refusal of all leaves what the kernel gives by itself.
            let _ = sizes.map(|bytes| self.set(libc::SOL_SOCKET, buffer, bytes)).find(io::Result::is_ok);
        }
    }

    /// There are no marks here, so only 0, which is none, can be had.
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        only(mark == 0)
    }

    /// Nothing joins datagrams here.
    pub fn set_gro(&self, on: bool) -> io::Result<()> {
        only(!on)
    }

    /// Nothing cuts batches here.
    pub fn can_segment(&self) -> bool {
        false
    }
}

fn only(possible: bool) -> io::Result<()> {
    match possible {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::ENOTSUP)),
    }
}

impl Receiver {
    /// Fill at most the blocks that are wanted; how many were filled.
    pub(super) fn take(&mut self, socket: RawFd) -> io::Result<usize> {
        for n in 0..self.wanted {
            let block = &mut self.memory[n * STRIDE..][..BLOCK_LEN];
            let mut part = libc::iovec { iov_base: block.as_mut_ptr().cast(), iov_len: BLOCK_LEN };
            // SAFETY: all zero is a valid msghdr.
            let mut header: libc::msghdr = unsafe { core::mem::zeroed() };
            header.msg_name = self.from[n].as_mut_ptr().cast();
            header.msg_namelen = Raw::CAPACITY;
            header.msg_iov = &mut part;
            header.msg_iovlen = 1;
            self.ancillary[n].receive(&mut header);
            // SAFETY: the header points into memory of ours that outlives the call, with its true lengths.
            let len = unsafe { libc::recvmsg(socket, &mut header, libc::MSG_DONTWAIT) };
            match usize::try_from(len) {
                Err(_) if n == 0 => return Err(io::Error::last_os_error()),
                Err(_) => return Ok(n),
                Ok(len) => {
                    let cut = header.msg_flags & libc::MSG_TRUNC != 0;
                    self.came[n] = (if cut { 0 } else { len }, arrived(&header));
                }
            }
        }
        Ok(self.wanted)
    }
}

/// The datagrams of batches, one by one; how many batches the kernel took whole.
pub(super) fn send_batches(socket: RawFd, memory: &[u8], batches: &[Batch]) -> io::Result<usize> {
    for (n, batch) in batches.iter().enumerate() {
        let sent = batch.bytes(memory).chunks(batch.size).try_for_each(|datagram| send(socket, batch, datagram));
        match sent {
            Ok(()) => {}
            Err(error) if n == 0 => return Err(error),
            Err(_) => return Ok(n),
        }
    }
    Ok(batches.len())
}

fn send(socket: RawFd, batch: &Batch, datagram: &[u8]) -> io::Result<()> {
    let (mut name, name_len) = Raw::from_address(&batch.to.address);
    // The kernel only reads what a send's iovec points to.
    let mut part = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    let mut ancillary = Ancillary::default();
    // SAFETY: all zero is a valid msghdr.
    let mut header: libc::msghdr = unsafe { core::mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = name_len;
    header.msg_iov = &mut part;
    header.msg_iovlen = 1;
    if let Some(source) = &batch.to.source {
        ancillary.source(&mut header, source);
    }
    let mut tries = 0;
    loop {
        // SAFETY: the header points to memory that outlives the call, with its true lengths.
        if unsafe { libc::sendmsg(socket, &header, 0) } >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        tries += 1;
        if error.raw_os_error() != Some(libc::ENOBUFS) || tries > FULL_TRIES {
            return Err(error);
        }
        thread::yield_now();
    }
}
