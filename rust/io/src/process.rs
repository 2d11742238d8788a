//! The process around the devices: which one it is, whether a fork made it, and what it keeps out of core files.

use crate::fd;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between this process and the one in which this was 0, as far as we were told.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Who started something. A fork's child has all of its parent's memory, but neither its threads nor a right to the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Tells of forks that nobody told us of.
    id: u32,
    /// Tells two processes apart that have one number: a PID namespace counts from 1 again.
    forks: u32,
}

impl Process {
    pub fn current() -> Process {
        Process { id: std::process::id(), forks: FORKS.load(Ordering::Relaxed) }
    }

    pub fn is_current(self) -> bool {
        self == Process::current()
    }
}

/// To be called in a fork's child, once: lets go of the parent's interfaces, ports and socket files.
pub fn forked() -> io::Result<()> {
    FORKS.fetch_add(1, Ordering::Relaxed);
    fd::let_go_of_all()
}

/// No core file is written, and nobody but root looks into our memory. For a process of our own: a library does not
/// decide that for its host.
pub fn keep_secret() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` outlives the call.
    fd::check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) })?;
    // A limit does not hold for core files that are piped to a program; this does, and ptrace asks for it too.
    #[cfg(target_os = "linux")]
    // SAFETY: this command of prctl takes a number.
    fd::check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })?;
    Ok(())
}

/// The calling thread's nice value; 0 leaves it as it is. Without the privilege it runs as everything else does.
pub fn set_nice_of_thread(nice: i32) {
    // Elsewhere a nice value is the whole process's.
    #[cfg(target_os = "linux")]
    if nice != 0 {
        // SAFETY: setpriority takes numbers; 0 is the calling thread.
        let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c6_fork_a_child_is_another_process_even_under_the_same_number() {
        let here = Process::current();
        assert!(here.is_current());
        assert!(!Process { id: here.id + 1, ..here }.is_current());
        assert!(!Process { forks: here.forks + 1, ..here }.is_current());
    }
}
