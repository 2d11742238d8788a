//! The host's routes: told when they or its addresses change, and asked whether a learnt source still serves.
//!
//! A source serves while it is an address of ours and what leaves from it leaves by the interface that the peer's
//! datagrams come in by. That is the kernel's own rule for WireGuard: a better way out, by another interface, wins over
//! a source that was learnt before (N19), and an address that is gone is not sent from (N17).

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod system;
#[cfg(any(target_os = "macos", test))]
mod trial;

pub use system::Routes;
