//! What data threads and callers leave for the control thread: bounded, each wish of a peer once.

use crate::counters::Counters;
use crate::table::PeerCell;
use crate::wake::Wake;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use wgengine_core::observe::drop::Drop;
use wgengine_core::wire::wireguard::INITIATION_LEN;

/// Handshake messages that wait; beyond it they are dropped, so that a flood costs bounded memory.
const MAX_HANDSHAKES: usize = 1024;

/// A handshake message, copied out of a data thread's block.
pub struct Letter {
    pub from: SocketAddr,
    len: usize,
    bytes: [u8; INITIATION_LEN],
}

/// What the data threads and callers want done. A peer is in a list at most once for each wish.
#[derive(Default)]
pub struct Tasks {
    pub letters: VecDeque<Letter>,
    pub shake: Vec<Arc<PeerCell>>,
    pub staged: Vec<Arc<PeerCell>>,
    pub arm: Vec<Arc<PeerCell>>,
    pub single: Vec<(Arc<PeerCell>, SocketAddr)>,
}

impl Letter {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Where work for the control thread is left.
pub struct Inbox {
    tasks: Mutex<Tasks>,
    wake: Wake,
}

impl Inbox {
    pub fn new() -> io::Result<Inbox> {
        Ok(Inbox { tasks: Mutex::default(), wake: Wake::new()? })
    }

    fn leave(&self, what: impl FnOnce(&mut Tasks)) {
        what(&mut self.tasks.lock());
        self.wake.wake();
    }

    /// A handshake message came in.
    pub fn handshake(&self, datagram: &[u8], from: SocketAddr, counters: &Counters) {
        let mut tasks = self.tasks.lock();
        if tasks.letters.len() >= MAX_HANDSHAKES || datagram.len() > INITIATION_LEN {
            counters.drop(Drop::HandshakeQueueFull, 1);
            return;
        }
        let mut bytes = [0; INITIATION_LEN];
        bytes[..datagram.len()].copy_from_slice(datagram);
        tasks.letters.push_back(Letter { from, len: datagram.len(), bytes });
        drop(tasks);
        self.wake.wake();
    }

    /// The peer wants a new session; [`Peer::ask_handshake`] has said so, once.
    pub fn shake(&self, cell: Arc<PeerCell>) {
        self.leave(|tasks| tasks.shake.push(cell));
    }

    /// There is a session now, and packets that waited for it.
    pub fn staged(&self, cell: Arc<PeerCell>) {
        self.leave(|tasks| tasks.staged.push(cell));
    }

    /// Something comes due earlier than known; [`PeerCell::arm`] has said so.
    pub fn arm(&self, cell: Arc<PeerCell>) {
        self.leave(|tasks| tasks.arm.push(cell));
    }

    /// The path to this address takes no batches.
    pub fn single(&self, cell: Arc<PeerCell>, to: SocketAddr) {
        self.leave(|tasks| {
            if !tasks.single.iter().any(|(known, _)| Arc::ptr_eq(known, &cell)) {
                tasks.single.push((cell, to));
            }
        });
    }

    pub fn wake(&self) {
        self.wake.wake();
    }

    /// All that was left; the descriptor is quiet until more is.
    pub fn take(&self) -> Tasks {
        self.wake.clear();
        core::mem::take(&mut *self.tasks.lock())
    }
}

impl AsRawFd for Inbox {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}
