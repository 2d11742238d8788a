//! Linux: the kernel cuts batches into datagrams (UDP_SEGMENT), joins datagrams into blocks (UDP_GRO), and takes and gives
//! many at a call.

use super::address::Raw;
use super::ancillary::{arrived, Ancillary};
use super::batch::{Batch, MAX_BATCHES};
use super::receive::{Receiver, BLOCKS, BLOCK_LEN, STRIDE};
use super::Socket;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;

/// The option by which an IPv4 socket tells which of our addresses a datagram came to.
pub(super) const RECEIVE_PKTINFO: libc::c_int = libc::IP_PKTINFO;
/// The control message that says by which size datagrams were joined.
pub(super) const JOINED: Option<(libc::c_int, libc::c_int)> = Some((libc::SOL_UDP, UDP_GRO));

/// A buffer's size is told with as much again for the kernel's own use.
pub(super) const REPORTED: u64 = 2;

/// Our address that a datagram came to, or for a broadcast the one that answers leave from.
pub(super) fn local(info: &libc::in_pktinfo) -> libc::in_addr {
    info.ipi_spec_dst
}

impl Socket {
    /// Room for this many bytes each way, as far as the kernel grants it.
    pub(super) fn enlarge(&self, bytes: libc::c_int) {
        for (forced, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            if self.set(libc::SOL_SOCKET, forced, bytes).is_err() {
                // Without the privilege the kernel's own limit holds; a smaller buffer still works.
                let _ = self.set(libc::SOL_SOCKET, plain, bytes);
            }
        }
    }

    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_MARK, mark as libc::c_int)
    }

    /// Let runs of equal datagrams arrive as one block.
    pub fn set_gro(&self, on: bool) -> io::Result<()> {
        self.set(libc::SOL_UDP, UDP_GRO, libc::c_int::from(on))
    }

    /// Does the kernel know UDP_SEGMENT (Linux 4.18)?
    pub fn can_segment(&self) -> bool {
        let (mut value, mut len) = (0 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
        // SAFETY: both out-pointers are valid for the call.
        unsafe {
            libc::getsockopt(self.as_raw_fd(), libc::SOL_UDP, UDP_SEGMENT, (&raw mut value).cast(), &mut len) == 0
        }
    }
}

impl Receiver {
    /// Fill at most the blocks that are wanted; how many were filled.
    pub(super) fn take(&mut self, socket: RawFd) -> io::Result<usize> {
        let mut parts: [libc::iovec; BLOCKS] = core::array::from_fn(|n| libc::iovec {
            iov_base: self.memory[n * STRIDE..].as_mut_ptr().cast(),
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
        let at = messages.as_mut_ptr();
        // SAFETY: every message points into memory of ours that outlives the call, with its true length.
        let got =
            unsafe { libc::recvmmsg(socket, at, self.wanted as _, libc::MSG_DONTWAIT as _, core::ptr::null_mut()) };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        for (n, message) in messages[..got].iter().enumerate() {
            let cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let len = if cut { 0 } else { message.msg_len as usize };
            self.came[n] = (len, arrived(&message.msg_hdr));
        }
        Ok(got)
    }
}

/// One call for batches of one family; how many the kernel took.
pub(super) fn send_batches(fd: RawFd, memory: &[u8], batches: &[Batch]) -> io::Result<usize> {
    // One batch is the rule, under load and at rest; headers for all that there might be would cost as much as the call.
    match batches.len() {
        1 => send_up_to::<1>(fd, memory, batches),
        _ => send_up_to::<MAX_BATCHES>(fd, memory, batches),
    }
}

fn send_up_to<const N: usize>(fd: RawFd, memory: &[u8], batches: &[Batch]) -> io::Result<usize> {
    let mut names = [Raw::default(); N];
    let mut parts = [libc::iovec { iov_base: core::ptr::null_mut(), iov_len: 0 }; N];
    let mut ancillary = [Ancillary::default(); N];
    // SAFETY: all zero is a valid mmsghdr.
    let mut messages: [libc::mmsghdr; N] = unsafe { core::mem::zeroed() };
    for (n, batch) in batches.iter().enumerate().take(N) {
        let (name, name_len) = Raw::from_address(&batch.to.address);
        names[n] = name;
        let bytes = batch.bytes(memory);
        // The kernel only reads what a send's iovec points to.
        parts[n] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut messages[n].msg_hdr;
        header.msg_name = names[n].as_mut_ptr().cast();
        header.msg_namelen = name_len;
        header.msg_iov = &mut parts[n];
        header.msg_iovlen = 1;
        if batch.count > 1 {
            ancillary[n].put(header, libc::SOL_UDP, UDP_SEGMENT, batch.size as u16);
        }
        if let Some(source) = &batch.to.source {
            ancillary[n].source(header, source);
        }
    }
    // SAFETY: every message points to memory that outlives the call, with its true length.
    let n = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), batches.len().min(N) as _, libc::MSG_NOSIGNAL as _) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}
