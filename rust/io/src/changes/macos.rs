use crate::fd::{nonblocking, socket, Held};

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// A routing socket tells of everything, and cannot be asked for less.
pub fn of_links() -> io::Result<Held<OwnedFd>> {
    let routing = socket(libc::PF_ROUTE, libc::SOCK_RAW, libc::AF_UNSPEC)?;
    nonblocking(&routing)?;
    Ok(Held::new(routing))
}

pub fn of_routes() -> io::Result<Held<OwnedFd>> {
    of_links()
}

/// Take in all that was told. True: something was, if only that there was more than the socket could hold.
pub fn drain(routing: &OwnedFd) -> bool {
    let mut told = false;
    let mut buffer = [0u8; 8192];
    loop {
        // SAFETY: `buffer` is writable for its whole length.
        let n = unsafe { libc::recv(routing.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        match n {
            1.. => told = true,
            0 => return told,
            _ if io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) => told = true,
            _ => return told,
        }
    }
}
