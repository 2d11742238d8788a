//! Makes descriptors that are not inherited by programs that the process starts: Linux in one step, macOS in two.

mod held;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod system;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub use held::{let_go_of_all, Held};
#[cfg(target_os = "macos")]
pub use system::not_inherited;
use system::replace_number;
pub use system::{pair, socket};

/// What a system call that makes descriptors gave: one that nobody else owns, or its error.
///
/// # Safety
/// `result` was given by such a call, just now.
pub unsafe fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    check(result)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

/// From now on `old`'s number means what `new` means.
pub fn replace(old: &OwnedFd, new: &OwnedFd) -> io::Result<()> {
    replace_number(old.as_raw_fd(), new)
}

pub fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Calls on it return at once.
pub fn nonblocking(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: fcntl with integers only.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    check(flags)?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
}

/// A socket option of any plain type.
pub fn set_option<T: Copy>(fd: &impl AsRawFd, level: libc::c_int, option: libc::c_int, value: T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` outlives the call and its length is given.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(fd: &OwnedFd, get: libc::c_int) -> libc::c_int {
        // SAFETY: fcntl with integers only.
        unsafe { libc::fcntl(fd.as_raw_fd(), get) }
    }

    #[test]
    fn what_is_made_is_not_inherited() {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0).expect("socket");
        let [near, far] = pair().expect("socket pair");
        replace(&near, &socket).expect("dup");
        for fd in [&socket, &near, &far] {
            assert_eq!(flag(fd, libc::F_GETFD) & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
    }

    #[test]
    fn messages_of_a_pair_keep_their_bounds_and_its_reads_return_at_once() {
        let [near, far] = pair().expect("socket pair");
        let mut room = [0u8; 8];
        // SAFETY: `room` is writable for its length.
        let mut read = || unsafe { libc::read(far.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) };
        assert_eq!((read(), io::Error::last_os_error().kind()), (-1, io::ErrorKind::WouldBlock));
        for message in [&b"one"[..], b"three"] {
            // SAFETY: `message` is readable for its length.
            unsafe { libc::write(near.as_raw_fd(), message.as_ptr().cast(), message.len()) };
        }
        assert_eq!((read(), read()), (3, 5));
    }
}
