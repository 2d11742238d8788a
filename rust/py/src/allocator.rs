//! Wipes what is freed. Keys are wiped where we drop them, but boringtun keeps copies of preshared keys and session keys
//! that it does not wipe, and a value that was moved to the heap or a vector that has grown leaves copies too. Packets
//! are moved without any allocation, so this costs them nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;

/// The system's allocator, wiping. Growing in place is left to chance: `realloc` is the default one, which frees the old
/// place through `dealloc`.
struct Wiping;

#[global_allocator]
static WIPING: Wiping = Wiping;

// SAFETY: all memory comes from `System` and goes back to it, with the layout that the caller promises to be the same.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back a block of this size that nobody uses any more.
        unsafe {
            place.write_bytes(0, layout.size());
            // Else the compiler would leave out a write that nobody reads.
            System.dealloc(black_box(place), layout);
        }
    }
}
