use super::{check, nonblocking, owned};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A program that another thread starts between the two steps inherits it; macOS has no way to do both in one.
pub fn not_inherited(fd: &OwnedFd) -> io::Result<()> {
    close_on_exec(fd.as_raw_fd())
}

fn close_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: fcntl with integers only.
    check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })
}

pub fn socket(domain: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is a fresh descriptor.
    let socket = unsafe { owned(libc::socket(domain, kind, protocol)) }?;
    not_inherited(&socket)?;
    Ok(socket)
}

/// Two ends that keep the bounds of messages, and do not block. There is no SOCK_SEQPACKET here, so an end does not see
/// that the other one has been closed.
pub fn pair() -> io::Result<[OwnedFd; 2]> {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, ends.as_mut_ptr()) })?;
    // SAFETY: both were just made and belong to nobody else.
    let ends = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    for end in &ends {
        not_inherited(end)?;
        nonblocking(end)?;
    }
    Ok(ends)
}

/// From now on `number` means what `new` means.
pub(super) fn replace_number(number: RawFd, new: &OwnedFd) -> io::Result<()> {
    // SAFETY: dup2 takes numbers; the caller's right to this one is `Held`'s or an `OwnedFd`'s.
    check(unsafe { libc::dup2(new.as_raw_fd(), number) })?;
    close_on_exec(number)
}
