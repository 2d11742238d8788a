//! The clocks: one that counts through sleep for deciding, the wall clock for showing.

use wgengine_core::time::{Now, Tick, Wall};

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; a clock that the kernel lacks leaves it at zero.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time
}

#[cfg(target_os = "linux")]
const STEADY: libc::clockid_t = libc::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const STEADY: libc::clockid_t = libc::CLOCK_MONOTONIC;

/// Nanoseconds since boot, sleep included.
pub fn tick() -> Tick {
    let time = read(STEADY);
    Tick(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Time since 1970; zero for a clock that stands before it.
pub fn wall() -> Wall {
    let time = read(libc::CLOCK_REALTIME);
    Wall { secs: u64::try_from(time.tv_sec).unwrap_or(0), nanos: time.tv_nsec as u32 }
}

pub fn now() -> Now {
    Now { tick: tick(), wall: wall() }
}
