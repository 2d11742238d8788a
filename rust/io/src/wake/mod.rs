//! Wakes a thread that waits for descriptors: an eventfd on Linux, a pipe on macOS.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod system;

pub use system::Wake;
