use crate::fd::{check, owned, Held};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// A data thread waits for this many descriptors: its TUN queue, a socket a family, its wake, changes of routes.
const ROOM: usize = 5;

/// Waits until one of the watched descriptors is readable.
#[derive(Debug)]
pub struct Poller {
    epoll: Held<OwnedFd>,
}

/// Who was found ready.
pub struct Ready {
    events: [libc::epoll_event; ROOM],
    found: usize,
}

impl Default for Ready {
    fn default() -> Ready {
        Ready { events: [libc::epoll_event { events: 0, u64: 0 }; ROOM], found: 0 }
    }
}

impl Ready {
    pub fn tokens(&self) -> impl Iterator<Item = u64> + '_ {
        self.events[..self.found].iter().map(|event| event.u64)
    }
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        // SAFETY: no pointers; the result is a fresh descriptor.
        let epoll = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }?;
        Ok(Poller { epoll: Held::new(epoll) })
    }

    /// Tell `token` whenever `fd` is readable, until it is closed.
    pub fn watch(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: both descriptors are open and `event` outlives the call.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })
    }

    /// Sleep until somebody is ready, or a signal came.
    pub fn wait(&self, ready: &mut Ready) -> io::Result<()> {
        let (epoll, at) = (self.epoll.as_raw_fd(), ready.events.as_mut_ptr());
        // SAFETY: there is room for as many events as are asked for.
        let found = unsafe { libc::epoll_wait(epoll, at, ROOM as libc::c_int, -1) };
        ready.found = usize::try_from(found).unwrap_or(0);
        match check(found) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}
