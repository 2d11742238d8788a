//! Which descriptors are the devices' own, so that a fork's child can let go of them: it has a copy of each, and an
//! interface, a port or a socket file lasts as long as any copy does.

use super::replace_number;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicU64, Ordering};

/// Linux gives a process no more descriptors than these unless `fs.nr_open` was raised; higher ones stay with the child.
const NUMBERS: usize = 1 << 20;

/// One bit a number. Without a lock: a thread that the fork left behind could hold it forever.
static HELD: [AtomicU64; NUMBERS / 64] = [const { AtomicU64::new(0) }; NUMBERS / 64];

fn bit(fd: RawFd) -> Option<(&'static AtomicU64, u64)> {
    let number = usize::try_from(fd).ok()?;
    Some((HELD.get(number / 64)?, 1 << (number % 64)))
}

/// A descriptor of a device.
#[derive(Debug)]
pub struct Held<T: AsRawFd>(T);

impl<T: AsRawFd> Held<T> {
    pub fn new(fd: T) -> Held<T> {
        if let Some((word, bit)) = bit(fd.as_raw_fd()) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Held(fd)
    }
}

impl<T: AsRawFd> Drop for Held<T> {
    fn drop(&mut self) {
        // Before it is closed: from then on the number may be somebody else's.
        if let Some((word, bit)) = bit(self.0.as_raw_fd()) {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
    }
}

impl<T: AsRawFd> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: AsRawFd> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: AsRawFd> AsRawFd for Held<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Every number that a device holds means a socket that leads nowhere from now on. The numbers stay taken: what still
/// has them may close them, and will close nobody else's.
pub fn let_go_of_all() -> io::Result<()> {
    let nowhere = OwnedFd::from(UnixDatagram::unbound()?);
    for (at, word) in HELD.iter().enumerate() {
        let mut rest = word.load(Ordering::Relaxed);
        while rest != 0 {
            replace_number((at * 64) as RawFd + rest.trailing_zeros() as RawFd, &nowhere)?;
            rest &= rest - 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fd::pair;

    fn is_held(fd: RawFd) -> bool {
        bit(fd).is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    #[test]
    fn a_number_is_held_until_just_before_it_is_closed() {
        let [near, far] = pair().expect("socket pair");
        let number = near.as_raw_fd();
        let near = Held::new(near);
        assert!(is_held(number) && !is_held(far.as_raw_fd()));
        drop(near);
        // No other test of this process holds numbers that it did not make itself.
        assert!(!is_held(-1) && !is_held(RawFd::MAX));
    }

    #[test]
    fn c6_fork_a_child_lets_go_and_the_other_end_sees_it_only_when_the_parent_does_too() {
        let [near, far] = pair().expect("socket pair");
        let near = Held::new(near);
        let mut status = 0;
        // SAFETY: the child makes system calls only, and ends without running anybody's destructors.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let done = let_go_of_all().is_ok();
                libc::_exit(if done && libc::write(near.as_raw_fd(), b"x".as_ptr().cast(), 1) == -1 { 0 } else { 1 });
            }
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
        }
        assert_eq!(status, 0, "the child's copy still leads to the far end");
        // SAFETY: one readable byte.
        assert_eq!(unsafe { libc::write(near.as_raw_fd(), b"y".as_ptr().cast(), 1) }, 1);
        let mut byte = [0u8; 2];
        // SAFETY: two writable bytes.
        assert_eq!(unsafe { libc::read(far.as_raw_fd(), byte.as_mut_ptr().cast(), 2) }, 1);
        assert_eq!(byte[0], b'y', "the parent's copy is as it was");
    }
}
