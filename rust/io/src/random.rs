//! Random numbers, by the kernel's generator.

use crate::clock;
use std::time::Duration;
use wgengine_core::tunnel::timers::REKEY_TIMEOUT_JITTER;

/// A number nobody can guess.
pub fn number() -> u32 {
    // The kernel's generator fails only before it is seeded, early at boot; then time is as good as anything.
    getrandom::u32().unwrap_or_else(|_| clock::tick().0 as u32)
}

/// Bytes nobody can guess. `false`, and nothing is written, where the kernel gives none.
pub fn fill(bytes: &mut [u8]) -> bool {
    getrandom::fill(bytes).is_ok()
}

/// How much later than asked for a handshake is tried again.
pub fn jitter() -> Duration {
    Duration::from_nanos(u64::from(number()) % REKEY_TIMEOUT_JITTER.as_nanos() as u64)
}
