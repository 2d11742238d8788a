//! One connection: bytes in, one request at a time, bytes out.
//!
//! ```text
//! read → inbox → frame → answer → outbox → send → read …
//! ```
//! While an answer waits to be taken, nothing more is read, so a client holds one request and one answer at most.

use super::{answer, Handler};
use crate::fd::Held;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::{Duration, Instant};
use wgengine_core::wire::uapi::{errno_reply, frame, Frame, Refusal, Zeroizing};

/// What a client has for sending a request, and again for taking the answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The largest request: a thousand bytes for each of the 65,536 peers that a device has at most.
pub const REQUEST_MAX: usize = 64 << 20;
/// What a quiet client costs, beyond its descriptor.
const INBOX_START: usize = 4096;
/// Steps in one turn, so that a busy client does not keep the others waiting.
const STEPS_PER_TURN: usize = 32;

/// What comes of a client's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Wait for its descriptor.
    Wait,
    /// It has more to do at once.
    Again,
    /// Close it.
    Over,
}

/// A connection.
pub struct Client {
    stream: Held<UnixStream>,
    inbox: Inbox,
    outbox: Zeroizing<String>,
    sent: usize,
    /// Close after the answer: where the next request would begin is unknown.
    last: bool,
    deadline: Instant,
    /// When it got on last.
    moved: Instant,
}

impl Client {
    pub fn new(stream: UnixStream, now: Instant) -> io::Result<Client> {
        stream.set_nonblocking(true)?;
        no_sigpipe(&stream)?;
        Ok(Client {
            stream: Held::new(stream),
            inbox: Inbox::new(),
            outbox: Zeroizing::default(),
            sent: 0,
            last: false,
            deadline: now + PATIENCE,
            moved: now,
        })
    }

    pub fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// What to poll for.
    pub fn interest(&self) -> libc::c_short {
        match self.outbox.is_empty() {
            true => libc::POLLIN,
            false => libc::POLLOUT,
        }
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Since when it has neither sent anything nor taken anything.
    pub fn quiet_since(&self) -> Instant {
        self.moved
    }

    /// Bytes held for what the client has sent.
    pub fn held(&self) -> usize {
        self.inbox.bytes.len()
    }

    /// Goes on with what is possible now. The inbox may grow to `room` bytes.
    pub fn turn(&mut self, handler: &dyn Handler, room: usize, now: Instant) -> Turn {
        for _ in 0..STEPS_PER_TURN {
            let step = match self.outbox.is_empty() {
                true => self.receive(handler, room, now),
                false => self.send(now),
            };
            match step {
                Ok(Turn::Again) => self.moved = now,
                Ok(turn) => return turn,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return Turn::Wait,
                    _ => return Turn::Over,
                },
            }
        }
        Turn::Again
    }

    /// Answers a request that is here, else reads on.
    fn receive(&mut self, handler: &dyn Handler, room: usize, now: Instant) -> io::Result<Turn> {
        match self.inbox.frame() {
            Frame::Complete(length) => {
                self.outbox = guarded_answer(handler, &self.inbox.bytes[..length]);
                self.inbox.discard(length);
            }
            Frame::Malformed(refusal) => return Ok(self.refuse(handler, &refusal, now)),
            Frame::Partial => match self.inbox.read(&mut self.stream, room)? {
                Inflow::Some => return Ok(Turn::Again),
                Inflow::End if self.inbox.filled == 0 => return Ok(Turn::Over),
                Inflow::End => {
                    let refusal = Refusal::protocol(self.inbox.lines(), "the request ended without its empty line");
                    return Ok(self.refuse(handler, &refusal, now));
                }
                Inflow::Full => {
                    let errno = if self.held() >= REQUEST_MAX { -libc::EMSGSIZE } else { -libc::ENOBUFS };
                    let text = format!("a request of more than {} bytes is not taken here", self.held());
                    let refusal = Refusal { errno, line: self.inbox.lines(), text };
                    return Ok(self.refuse(handler, &refusal, now));
                }
            },
        }
        self.deadline = now + PATIENCE;
        Ok(Turn::Again)
    }

    fn refuse(&mut self, handler: &dyn Handler, refusal: &Refusal, now: Instant) -> Turn {
        handler.refused(refusal);
        self.outbox = Zeroizing::new(errno_reply(refusal.errno));
        self.last = true;
        self.inbox = Inbox::new();
        self.deadline = now + PATIENCE;
        Turn::Again
    }

    fn send(&mut self, now: Instant) -> io::Result<Turn> {
        self.sent += send(&self.stream, &self.outbox.as_bytes()[self.sent..])?;
        if self.sent < self.outbox.len() {
            return Ok(Turn::Again);
        }
        self.outbox = Zeroizing::default();
        self.sent = 0;
        self.deadline = now + PATIENCE;
        Ok(if self.last { Turn::Over } else { Turn::Again })
    }
}

/// A panic in the device is an answer to this client; the socket goes on.
fn guarded_answer(handler: &dyn Handler, request: &[u8]) -> Zeroizing<String> {
    let answered = catch_unwind(AssertUnwindSafe(|| match std::str::from_utf8(request) {
        Ok(request) => answer(handler, request),
        Err(error) => {
            let refusal = Refusal::protocol(lines(&request[..error.valid_up_to()]), "a request is UTF-8 text");
            handler.refused(&refusal);
            Zeroizing::new(errno_reply(refusal.errno))
        }
    }));
    answered.unwrap_or_else(|_| Zeroizing::new(errno_reply(-libc::EIO)))
}

/// The line that the end of `bytes` is in, from 1.
fn lines(bytes: &[u8]) -> usize {
    1 + bytes.iter().filter(|&&byte| byte == b'\n').count()
}

/// What reading has brought.
enum Inflow {
    Some,
    /// The client sends no more.
    End,
    /// There is no room for more.
    Full,
}

/// Bytes that no request was made of yet. They may hold keys, so every place they were in is wiped.
struct Inbox {
    bytes: Zeroizing<Vec<u8>>,
    filled: usize,
    /// So many bytes are known to hold no end of a request.
    searched: usize,
}

impl Inbox {
    fn new() -> Inbox {
        Inbox { bytes: Zeroizing::new(vec![0; INBOX_START]), filled: 0, searched: 0 }
    }

    fn frame(&mut self) -> Frame {
        // An empty line more than needed, between two requests, does no harm.
        let blank = self.bytes[..self.filled].iter().take_while(|&&byte| byte == b'\n').count();
        if blank > 0 {
            self.discard(blank);
        }
        let frame = frame(&self.bytes[..self.filled], self.searched);
        self.searched = self.filled;
        frame
    }

    fn read(&mut self, stream: &mut UnixStream, room: usize) -> io::Result<Inflow> {
        if self.filled == self.bytes.len() && !self.grow(room) {
            return Ok(Inflow::Full);
        }
        let count = stream.read(&mut self.bytes[self.filled..])?;
        self.filled += count;
        Ok(if count == 0 { Inflow::End } else { Inflow::Some })
    }

    /// Twice the size. The old place is wiped when it is dropped; a plain growing vector would leave it.
    fn grow(&mut self, room: usize) -> bool {
        let size = self.bytes.len() * 2;
        if size > room.min(REQUEST_MAX) {
            return false;
        }
        let mut bytes = Zeroizing::new(vec![0; size]);
        bytes[..self.filled].copy_from_slice(&self.bytes[..self.filled]);
        self.bytes = bytes;
        true
    }

    /// Forgets the first `length` bytes, and the size that a large request has needed.
    fn discard(&mut self, length: usize) {
        let rest = length..self.filled;
        self.filled = rest.len();
        self.searched = 0;
        if self.bytes.len() > INBOX_START && self.filled <= INBOX_START {
            let mut bytes = Zeroizing::new(vec![0; INBOX_START]);
            bytes[..self.filled].copy_from_slice(&self.bytes[rest]);
            self.bytes = bytes;
        } else {
            let end = rest.end;
            self.bytes.copy_within(rest, 0);
            self.bytes[self.filled..end].fill(0);
        }
    }

    fn lines(&self) -> usize {
        lines(&self.bytes[..self.filled])
    }
}

/// Sends without the signal that a closed peer would bring upon the whole process.
fn send(stream: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_vendor = "apple")]
    let flags = 0;
    #[cfg(not(target_vendor = "apple"))]
    let flags = libc::MSG_NOSIGNAL;
    // SAFETY: the pointer and the length are those of `bytes`.
    let count = unsafe { libc::send(stream.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// What MSG_NOSIGNAL does elsewhere is a property of the socket here.
#[cfg(target_vendor = "apple")]
fn no_sigpipe(stream: &UnixStream) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = std::mem::size_of_val(&on) as libc::socklen_t;
    let option = (&raw const on).cast();
    // SAFETY: `option` points to an int of `size` bytes that outlives the call.
    match unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NOSIGPIPE, option, size) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(not(target_vendor = "apple"))]
fn no_sigpipe(_stream: &UnixStream) -> io::Result<()> {
    Ok(())
}
