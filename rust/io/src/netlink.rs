//! rtnetlink sockets: told of changes, which are then read afresh, or asked.

use crate::fd::{self, Held};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Taken in at a time.
const MESSAGES: usize = 64;

/// A socket that the kernel tells of changes in these groups; 0: of none, for questions.
pub fn open(groups: u32) -> io::Result<Held<OwnedFd>> {
    let netlink = fd::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    // SAFETY: all zero is a valid sockaddr_nl.
    let mut address: libc::sockaddr_nl = unsafe { core::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` outlives the call and its length is given.
    fd::check(unsafe { libc::bind(netlink.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(Held::new(netlink))
}

pub fn send(netlink: &OwnedFd, message: &[u8]) -> io::Result<()> {
    let (fd, at, len) = (netlink.as_raw_fd(), message.as_ptr().cast(), message.len());
    // SAFETY: `message` is readable for its length.
    match unsafe { libc::send(fd, at, len, libc::MSG_DONTWAIT) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One message, without waiting.
pub fn receive<'a>(netlink: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let (fd, at, len) = (netlink.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: `buffer` is writable for its whole length.
    let n = unsafe { libc::recv(fd, at, len, libc::MSG_DONTWAIT) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    Ok(&buffer[..n])
}

/// Take in what was told, up to a bound: a router may tell of thousands of routes at a time, and what is left keeps the
/// socket readable. True: something was told, if only that there was more than the socket could hold.
pub fn drain(netlink: &OwnedFd) -> bool {
    let mut told = false;
    let mut buffer = [0u8; 8192];
    for _ in 0..MESSAGES {
        match receive(netlink, &mut buffer) {
            Ok(_) => told = true,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => told = true,
            Err(_) => break,
        }
    }
    told
}
