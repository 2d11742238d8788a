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

/// What programs mean by monotonic time: it stands still while the machine sleeps.
#[cfg(target_os = "linux")]
const MONOTONIC: libc::clockid_t = libc::CLOCK_MONOTONIC;
#[cfg(not(target_os = "linux"))]
const MONOTONIC: libc::clockid_t = libc::CLOCK_UPTIME_RAW;

/// A tick in seconds of the monotonic clock. It may come out before that clock's zero, for what was long ago; sleep that
/// lay between counts as time.
pub fn monotonic() -> impl Fn(Tick) -> f64 {
    let time = read(MONOTONIC);
    let now = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    let here = tick();
    move |at| now - here.since(at).as_secs_f64()
}

pub fn now() -> Now {
    Now { tick: tick(), wall: wall() }
}
