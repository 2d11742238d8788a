//! What a thread of ours leaves on its stack when it ends: nothing. A key that was moved or handed down by value has left
//! copies there, and the C library keeps the stacks of ended threads for new ones.

use std::hint::black_box;

/// Deeper than our threads go: the largest things on the way are a packet buffer and one boringtun engine, of 11 KiB.
const DEPTH: usize = 256 << 10;

/// Overwrites what calls that have returned to our caller have left below it.
#[inline(never)]
pub fn wipe() {
    let mut used = [0u8; DEPTH];
    black_box(&mut used);
}
