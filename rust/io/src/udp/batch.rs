//! Sends batches: sealed datagrams that lie back to back, cut by the kernel (UDP_SEGMENT), in one call for all batches.

use super::socket::refuses_source;
use super::system::send_batches;
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
pub(super) const MAX_BATCHES: usize = 64;

/// Datagrams of one size to one endpoint; the last one may be shorter.
pub(super) struct Batch {
    peer: Arc<PeerCell>,
    pub(super) to: Endpoint,
    start: usize,
    len: usize,
    pub(super) size: usize,
    pub(super) count: usize,
    /// No more may follow: a shorter one has ended it, or the path wants single datagrams.
    closed: bool,
}

impl Batch {
    /// Its datagrams, back to back.
    pub(super) fn bytes<'m>(&self, memory: &'m [u8]) -> &'m [u8] {
        &memory[self.start..self.start + self.len]
    }
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
    v4: Went,
    v6: Went,
    pub writes: u64,
}

/// What went out over one family.
#[derive(Clone, Copy, Default)]
pub struct Went {
    pub datagrams: u64,
    pub bytes: u64,
}

impl Sent {
    pub fn over(&self, family: Family) -> Went {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    fn add(&mut self, family: Family, datagrams: usize, bytes: usize) {
        let went = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        went.datagrams += datagrams as u64;
        went.bytes += bytes as u64;
    }
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
                        sent.add(family, batch.count, batch.len);
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
                            for datagram in batch.bytes(&self.memory).chunks(batch.size) {
                                if socket.send(&to, datagram).is_ok() {
                                    sent.add(family, 1, datagram.len());
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
