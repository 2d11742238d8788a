//! The thread `wg-uapi`: accepts, polls, drops who is late.

use super::client::{Client, Turn, REQUEST_MAX};
use super::file::{SocketFile, Watch};
use super::Handler;
use crate::fd::Held;
use crate::stack;
use crate::wake::Wake;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// More wait in the socket's own queue.
const CLIENTS_MAX: usize = 64;
/// While more wait than there is room for, who has been quiet for so long makes room for one of them.
const QUIET_MAX: Duration = Duration::from_millis(50);
/// What all clients together may have sent without having been answered.
const HELD_MAX: usize = 2 * REQUEST_MAX;
/// Without a free descriptor accept(2) fails at once and again; the listener rests meanwhile.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Is told that somebody has removed the socket file. It runs on the server's thread.
pub type OnRemoved = Box<dyn Fn() + Send>;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
    file: Option<SocketFile>,
}

#[derive(Debug)]
struct Stop {
    asked: AtomicBool,
    wake: Wake,
}

impl Server {
    /// Serves `listener`. `path` is its file, to be watched and at the end removed; `None` leaves it to the caller.
    pub fn start(
        listener: UnixListener,
        path: Option<PathBuf>,
        handler: Arc<dyn Handler>,
        on_removed: OnRemoved,
    ) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        let file = path.map(|path| SocketFile::at(&path)).transpose()?;
        let stop = Arc::new(Stop { asked: AtomicBool::new(false), wake: Wake::new()? });
        let work = Loop {
            listener: Held::new(listener),
            stop: stop.clone(),
            watch: file.clone().map(Watch::new),
            on_removed,
            handler,
            clients: Vec::new(),
            accept_at: None,
        };
        let thread = thread::Builder::new().name("wg-uapi".into()).spawn(move || {
            work.run();
            stack::wipe();
        })?;
        Ok(Server { stop, thread: Some(thread), file })
    }

    /// Ends the thread, closes its connections and removes the socket file, unless that is another's by now.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.stop.asked.store(true, Ordering::Release);
        self.stop.wake.wake();
        // A callback of ours that stops the server runs on this very thread: it ends when the callback returns.
        if thread.thread().id() != thread::current().id() {
            // A panic of the thread has been reported by the panic hook; there is nothing left to do about it.
            let _ = thread.join();
        }
        if let Some(file) = &self.file {
            file.remove_locked();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the thread owns.
struct Loop {
    listener: Held<UnixListener>,
    stop: Arc<Stop>,
    /// Gone after it has told.
    watch: Option<Watch>,
    on_removed: OnRemoved,
    handler: Arc<dyn Handler>,
    clients: Vec<Connection>,
    /// When the listener's rest ends.
    accept_at: Option<Instant>,
}

struct Connection {
    client: Client,
    next: Turn,
}

/// Where the descriptors stand in what is polled, behind the one that wakes; the clients follow.
const WATCH: usize = 1;
const LISTENER: usize = 2;
const FIRST_CLIENT: usize = 3;

impl Loop {
    fn run(mut self) {
        let mut polled = Vec::with_capacity(FIRST_CLIENT + CLIENTS_MAX);
        self.look_at_file();
        loop {
            let now = Instant::now();
            self.fill(&mut polled, now);
            if poll(&mut polled, self.timeout(now)).is_err() {
                // Memory for the kernel's own list: as short a shortage as that of descriptors.
                thread::sleep(ACCEPT_REST);
            }
            if self.stop.asked.load(Ordering::Acquire) {
                return;
            }
            let now = Instant::now();
            self.serve(&polled[FIRST_CLIENT..], now);
            if polled[WATCH].revents != 0 || self.watch.as_ref().is_some_and(|watch| watch.period().is_some()) {
                self.look_at_file();
            }
            if polled[LISTENER].revents != 0 {
                self.accept(now);
            }
        }
    }

    fn fill(&mut self, polled: &mut Vec<libc::pollfd>, now: Instant) {
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
        }
        let accepting = self.accept_at.is_none();
        polled.clear();
        polled.push(wait_for(self.stop.wake.as_raw_fd(), libc::POLLIN));
        polled.push(wait_for(self.watch.as_ref().map_or(-1, Watch::descriptor), libc::POLLIN));
        polled.push(wait_for(if accepting { self.listener.as_raw_fd() } else { -1 }, libc::POLLIN));
        polled.extend(self.clients.iter().map(|c| wait_for(c.client.descriptor(), c.client.interest())));
    }

    /// Until the next thing that comes by time; `None`: nothing does.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if self.clients.iter().any(|connection| connection.next == Turn::Again) {
            return Some(Duration::ZERO);
        }
        let deadlines = self.clients.iter().map(|connection| connection.client.deadline()).chain(self.accept_at);
        let next = deadlines.min().map(|at| at.saturating_duration_since(now));
        next.into_iter().chain(self.watch.as_ref().and_then(Watch::period)).min()
    }

    /// A turn for every client that is ready, the end for every one that is late.
    fn serve(&mut self, polled: &[libc::pollfd], now: Instant) {
        let mut held: usize = self.clients.iter().map(|connection| connection.client.held()).sum();
        for (connection, polled) in self.clients.iter_mut().zip(polled) {
            if polled.revents != 0 || connection.next == Turn::Again {
                let others = held - connection.client.held();
                connection.next = connection.client.turn(&*self.handler, HELD_MAX.saturating_sub(others), now);
                held = others + connection.client.held();
            }
            if connection.client.deadline() <= now {
                connection.next = Turn::Over;
            }
        }
        self.clients.retain(|connection| connection.next != Turn::Over);
    }

    fn accept(&mut self, now: Instant) {
        loop {
            let full = self.clients.len() >= CLIENTS_MAX;
            let quietest = self.quietest().filter(|_| full);
            if let Some((_, until)) = quietest.filter(|(_, until)| *until > now) {
                self.accept_at = Some(until);
                return;
            }
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if let Some((at, _)) = quietest {
                        self.clients.swap_remove(at);
                    }
                    // A connection that cannot be set up is closed; its client sees that.
                    let client = Client::new(stream, now).ok();
                    self.clients.extend(client.map(|client| Connection { client, next: Turn::Wait }));
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => {
                        self.accept_at = Some(now + ACCEPT_REST);
                        return;
                    }
                },
            }
        }
    }

    /// Which client has been quiet the longest, and until when it may be.
    fn quietest(&self) -> Option<(usize, Instant)> {
        let clients = self.clients.iter().enumerate();
        clients
            .map(|(at, connection)| (at, connection.client.quiet_since() + QUIET_MAX))
            .min_by_key(|(_, until)| *until)
    }

    fn look_at_file(&mut self) {
        if self.watch.as_mut().is_some_and(Watch::is_gone) {
            self.watch = None;
            (self.on_removed)();
        }
    }
}

fn wait_for(fd: RawFd, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Waits for one of the descriptors, or for the time to pass. A signal counts as nothing having happened.
fn poll(polled: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<()> {
    // Rounded up: a deadline has passed when it wakes.
    let millis = timeout.map_or(-1, |t| i32::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
    // SAFETY: the pointer and the length are those of `polled`.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
    if ready >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        ErrorKind::Interrupted => {
            polled.iter_mut().for_each(|entry| entry.revents = 0);
            Ok(())
        }
        _ => Err(error),
    }
}
