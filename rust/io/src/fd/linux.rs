use super::{check, owned};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub fn socket(domain: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is a fresh descriptor.
    unsafe { owned(libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol)) }
}

/// Two ends that keep the bounds of messages, and do not block.
pub fn pair() -> io::Result<[OwnedFd; 2]> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: `ends` has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: both were just made and belong to nobody else.
    Ok(ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// From now on `number` means what `new` means.
pub(super) fn replace_number(number: RawFd, new: &OwnedFd) -> io::Result<()> {
    // SAFETY: dup3 takes numbers; the caller's right to this one is `Held`'s or an `OwnedFd`'s.
    check(unsafe { libc::dup3(new.as_raw_fd(), number, libc::O_CLOEXEC) })
}
