use crate::fd::{check, not_inherited, owned};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// A data thread waits for this many descriptors: its TUN, a socket a family, its wake, changes of routes.
const ROOM: usize = 5;

const NOTHING: libc::kevent =
    libc::kevent { ident: 0, filter: 0, flags: 0, fflags: 0, data: 0, udata: core::ptr::null_mut() };

/// Waits until one of the watched descriptors is readable.
#[derive(Debug)]
pub struct Poller {
    queue: OwnedFd,
}

/// Who was found ready.
pub struct Ready {
    events: [libc::kevent; ROOM],
    found: usize,
}

impl Default for Ready {
    fn default() -> Ready {
        Ready { events: [NOTHING; ROOM], found: 0 }
    }
}

impl Ready {
    pub fn tokens(&self) -> impl Iterator<Item = u64> + '_ {
        self.events[..self.found].iter().map(|event| event.udata as u64)
    }
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        // SAFETY: no pointers; the result is a fresh descriptor.
        let queue = unsafe { owned(libc::kqueue()) }?;
        not_inherited(&queue)?;
        Ok(Poller { queue })
    }

    /// Tell `token` whenever `fd` is readable, until it is closed.
    pub fn watch(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let change = libc::kevent {
            ident: fd as usize,
            filter: libc::EVFILT_READ,
            flags: libc::EV_ADD,
            udata: token as *mut libc::c_void,
            ..NOTHING
        };
        let (none, forever) = (core::ptr::null_mut(), core::ptr::null());
        // SAFETY: `change` outlives the call, and no events are asked for.
        check(unsafe { libc::kevent(self.queue.as_raw_fd(), &change, 1, none, 0, forever) })
    }

    /// Sleep until somebody is ready, or a signal came.
    pub fn wait(&self, ready: &mut Ready) -> io::Result<()> {
        let (queue, at) = (self.queue.as_raw_fd(), ready.events.as_mut_ptr());
        let (none, forever) = (core::ptr::null(), core::ptr::null());
        // SAFETY: there is room for as many events as are asked for.
        let found = unsafe { libc::kevent(queue, none, 0, at, ROOM as libc::c_int, forever) };
        ready.found = usize::try_from(found).unwrap_or(0);
        match check(found) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}
