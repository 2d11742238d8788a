//! Sends batches: sealed datagrams that lie back to back, cut by the kernel (UDP_SEGMENT), in one call for all batches.

use super::address::Raw;
use super::ancillary::Ancillary;
use super::socket::refuses_source;
use super::{Family, Sockets};
use crate::table::PeerCell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use wgengine_core::tunnel::endpoint::Endpoint;

/// What the kernel takes in one batch on all versions.
pub const MAX_SEGMENTS: usize = 64;
pub const MAX_BYTES: usize = 65_507;
/// Room for one full batch, or for the longest datagram.
const CAPACITY: usize = 65_536;
const MAX_BATCHES: usize = 64;

/// Datagrams of one size to one endpoint; the last one may be shorter.
struct Batch {
    peer: Arc<PeerCell>,
    to: Endpoint,
    start: usize,
    len: usize,
    size: usize,
    count: usize,
    /// No more may follow: a shorter one has ended it, or the path wants single datagrams.
    closed: bool,
}

/// Sealed datagrams on their way out.
pub struct Outbox {
    memory: Box<[u8]>,
    used: usize,
    batches: Vec<Batch>,
}

/// A batch that could not be sent as it was.
pub struct Failure {
    pub peer: Arc<PeerCell>,
    pub to: Endpoint,
    pub datagrams: usize,
    pub error: io::Error,
}

/// What a flush did.
#[derive(Default)]
pub struct Sent {
    pub datagrams: u64,
    pub bytes: u64,
    pub writes: u64,
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox { memory: vec![0; CAPACITY].into_boxed_slice(), used: 0, batches: Vec::with_capacity(MAX_BATCHES) }
    }
}

impl Outbox {
    /// Room for a datagram of `len` bytes; `None`: flush first. What is full is one send's worth, so that a super-packet
    /// of the TUN that fits one send is never cut in two.
    pub fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        let end = self.used + len;
        let full = self.batches.len() >= MAX_BATCHES || (self.used > 0 && end > MAX_BYTES);
        self.memory.get_mut(self.used..end).filter(|_| !full)
    }

    /// The room given last holds a datagram of `len` bytes to `to`. `join`: it may share a send with its neighbours.
    pub fn push(&mut self, peer: &Arc<PeerCell>, to: Endpoint, len: usize, join: bool) {
        let start = self.used;
        self.used += len;
        if let Some(last) = self.batches.last_mut() {
            let fits = len <= last.size && last.count < MAX_SEGMENTS && last.len + len <= MAX_BYTES;
            if join && fits && !last.closed && last.to == to {
                last.len += len;
                last.count += 1;
                last.closed = len < last.size;
                return;
            }
        }
        self.batches.push(Batch { peer: peer.clone(), to, start, len, size: len, count: 1, closed: !join });
    }

    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Send all; `failed` is told of what the kernel refused, and says whether to try once more as single datagrams.
    pub fn flush(&mut self, sockets: &Sockets, shard: usize, mut failed: impl FnMut(Failure) -> bool) -> Sent {
        let mut sent = Sent::default();
        let mut at = 0;
        while at < self.batches.len() {
            let family = Family::of(&self.batches[at].to.address);
            let run = self.batches[at..].iter().take_while(|batch| Family::of(&batch.to.address) == family).count();
            let outcome = match sockets.of(family, shard) {
                Some(socket) => send_run(socket.as_raw_fd(), &self.memory, &mut self.batches[at..at + run]),
                None => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
            };
            match outcome {
                Ok(done) => {
                    for batch in &self.batches[at..at + done] {
                        sent.datagrams += batch.count as u64;
                        sent.bytes += batch.len as u64;
                    }
                    sent.writes += 1;
                    at += done;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let batch = &self.batches[at];
                    let (peer, to, datagrams) = (batch.peer.clone(), batch.to, batch.count);
                    let again = failed(Failure { peer, to, datagrams, error });
                    if again {
                        if let Some(socket) = sockets.of(family, shard) {
                            for datagram in self.memory[batch.start..batch.start + batch.len].chunks(batch.size) {
                                if socket.send(&to, datagram).is_ok() {
                                    sent.datagrams += 1;
                                    sent.bytes += datagram.len() as u64;
                                    sent.writes += 1;
                                }
                            }
                        }
                    }
                    at += 1;
                }
            }
        }
        self.batches.clear();
        self.used = 0;
        sent
    }
}

/// Batches of one family; how many the kernel took. One that is refused for its source goes without.
fn send_run(fd: RawFd, memory: &[u8], batches: &mut [Batch]) -> io::Result<usize> {
    match send_batches(fd, memory, batches) {
        Err(error) if refuses_source(&batches[0].to, &error) => {
            let source = batches[0].to.source.take();
            let sent = send_batches(fd, memory, &batches[..1]);
            // It may have been another reason, after which the datagrams are tried one by one.
            batches[0].to.source = source;
            sent
        }
        outcome => outcome,
    }
}

/// One call for batches of one family; how many the kernel took.
fn send_batches(fd: RawFd, memory: &[u8], batches: &[Batch]) -> io::Result<usize> {
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
        let bytes = &memory[batch.start..batch.start + batch.len];
        // The kernel only reads what a send's iovec points to.
        parts[n] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut messages[n].msg_hdr;
        header.msg_name = names[n].as_mut_ptr().cast();
        header.msg_namelen = name_len;
        header.msg_iov = &mut parts[n];
        header.msg_iovlen = 1;
        let size = (batch.count > 1).then_some(batch.size as u16);
        ancillary[n].send(header, size, batch.to.source.as_ref());
    }
    // SAFETY: every message points to memory that outlives the call, with its true length.
    let n = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), batches.len().min(N) as _, libc::MSG_NOSIGNAL as _) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}
