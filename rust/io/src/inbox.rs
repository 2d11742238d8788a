//! What data threads and callers leave for the control thread: bounded, each wish of a peer once.

use crate::clock;
use crate::table::PeerCell;
use crate::wake::Wake;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::time::Tick;
use wgengine_core::tunnel::endpoint::Endpoint;
use wgengine_core::wire::wireguard::INITIATION_LEN;

/// Initiations that wait; beyond it they are dropped, so that a flood costs bounded memory.
const MAX_INITIATIONS: usize = 1024;
/// Responses and cookie replies that wait: to initiations of ours, so as many as may be under way at a time.
const MAX_ANSWERS: usize = 2048;

/// How long nobody without a cookie is let in after the control thread had none left to give: in bursts they cost least.
const CLOSED: Duration = Duration::from_millis(50);

/// A handshake message, copied out of a data thread's block.
pub struct Letter {
    pub from: Endpoint,
    len: usize,
    bytes: [u8; INITIATION_LEN],
}

impl Letter {
    fn new(datagram: &[u8], from: Endpoint) -> Option<Letter> {
        let mut bytes = [0; INITIATION_LEN];
        bytes.get_mut(..datagram.len())?.copy_from_slice(datagram);
        Some(Letter { from, len: datagram.len(), bytes })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// What the data threads and callers want done. A peer is in a list at most once for each wish.
#[derive(Default)]
pub struct Tasks {
    /// Responses and cookie replies: what we asked for never waits behind what others ask of us.
    pub answers: VecDeque<Letter>,
    pub initiations: VecDeque<Letter>,
    pub shake: Vec<Arc<PeerCell>>,
    pub staged: Vec<Arc<PeerCell>>,
    pub arm: Vec<Arc<PeerCell>>,
    pub single: Vec<(Arc<PeerCell>, SocketAddr)>,
}

#[derive(Default)]
struct Waiting {
    tasks: Tasks,
    /// The control thread has been woken for what is here.
    woken: bool,
}

/// Where work for the control thread is left.
pub struct Inbox {
    waiting: Mutex<Waiting>,
    wake: Wake,
    /// Up to this tick there are no cookies to be had, so who has none need not ask; 0 while there is no load.
    closed_until: AtomicU64,
}

fn leave_letter(queue: &mut VecDeque<Letter>, most: usize, datagram: &[u8], from: Endpoint) -> Result<(), Drop> {
    if queue.len() >= most {
        return Err(Drop::HandshakeQueueFull);
    }
    queue.push_back(Letter::new(datagram, from).ok_or(Drop::MalformedMessage)?);
    Ok(())
}

impl Inbox {
    pub fn new() -> io::Result<Inbox> {
        Ok(Inbox { waiting: Mutex::default(), wake: Wake::new()?, closed_until: AtomicU64::new(0) })
    }

    /// A system call only for the first of many.
    fn leave<T>(&self, what: impl FnOnce(&mut Tasks) -> T) -> T {
        let mut waiting = self.waiting.lock();
        let left = what(&mut waiting.tasks);
        if !waiting.woken {
            waiting.woken = true;
            self.wake.wake();
        }
        left
    }

    /// There are no cookies left: for a while data threads drop what does not bring one.
    pub fn close(&self, now: Tick) {
        self.closed_until.store((now + CLOSED).0, Ordering::Relaxed);
    }

    /// Would an initiation without a cookie be looked at in vain? No clock is read while there is no load.
    pub fn is_closed(&self) -> bool {
        let until = self.closed_until.load(Ordering::Relaxed);
        if until == 0 {
            return false;
        }
        let closed = clock::tick().0 < until;
        if !closed {
            self.closed_until.store(0, Ordering::Relaxed);
        }
        closed
    }

    /// An initiation came in whose mac1 fits.
    pub fn initiation(&self, datagram: &[u8], from: Endpoint) -> Result<(), Drop> {
        self.leave(|tasks| leave_letter(&mut tasks.initiations, MAX_INITIATIONS, datagram, from))
    }

    /// A response or cookie reply came in, to an index of ours.
    pub fn answer(&self, datagram: &[u8], from: Endpoint) -> Result<(), Drop> {
        self.leave(|tasks| leave_letter(&mut tasks.answers, MAX_ANSWERS, datagram, from))
    }

    /// The peer wants a new session; [`Peer::ask_handshake`] has said so, once.
    pub fn shake(&self, cell: Arc<PeerCell>) {
        self.leave(|tasks| tasks.shake.push(cell));
    }

    /// There is a session now, and packets that waited for it.
    pub fn staged(&self, cell: Arc<PeerCell>) {
        self.leave(|tasks| tasks.staged.push(cell));
    }

    /// Something comes due earlier than known ([`PeerCell::arm`] has said so, once), or not at all any more.
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

    /// All that was left, but of the initiations, which are the dearest, only so many; and how many of them stay. The
    /// descriptor is quiet until more is left, or until the next call where some stay.
    pub fn take(&self, initiations: usize) -> (Tasks, usize) {
        let mut waiting = self.waiting.lock();
        let most = initiations.min(waiting.tasks.initiations.len());
        let stay = waiting.tasks.initiations.split_off(most);
        let left = stay.len();
        let tasks = core::mem::take(&mut waiting.tasks);
        waiting.tasks.initiations = stay;
        waiting.woken = left > 0;
        if left == 0 {
            self.wake.clear();
        }
        (tasks, left)
    }
}

impl AsRawFd for Inbox {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}
