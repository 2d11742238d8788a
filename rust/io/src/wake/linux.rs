use crate::fd::{owned, Held};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Readable from [`Wake::wake`] until [`Wake::clear`].
#[derive(Debug)]
pub struct Wake {
    fd: Held<OwnedFd>,
}

impl Wake {
    pub fn new() -> io::Result<Wake> {
        // SAFETY: no pointers; the result is a fresh descriptor.
        let fd = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)) }?;
        Ok(Wake { fd: Held::new(fd) })
    }

    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes. A full counter (EAGAIN) is readable already, which is all that is wanted.
        unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes.
        unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
