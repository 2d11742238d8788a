//! Told of changes of links, addresses and routes, which are then read afresh: rtnetlink on Linux, a routing socket on
//! macOS.

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod system;

pub use system::{drain, of_links, of_routes};
