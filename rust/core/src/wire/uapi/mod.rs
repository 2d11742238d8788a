//! The cross-platform configuration protocol, as `wg` speaks it to userspace devices: text in, [`crate::plan::Plan`]
//! out; [`crate::observe::state::DeviceState`] in, text out.
//!
//! ```text
//! get=1⏎⏎                                →  private_key=…⏎ … public_key=…⏎ … errno=0⏎⏎
//! set=1⏎ private_key=…⏎ public_key=…⏎⏎   →  errno=0⏎⏎   or  errno=-22⏎⏎, and nothing has changed
//! ```
//!
//! | file | promise |
//! |---|---|
//! | [`frame`] | where a request ends in a stream of bytes |
//! | [`request`] | a request becomes a plan, whole or not at all |
//! | [`endpoint`] | `ip:port` and `[v6%scope]:port` |
//! | [`reply`] | what goes back |
//! | [`hex`] | keys in hex, without a branch or a look-up that depends on the key |

pub mod endpoint;
pub mod frame;
pub mod hex;
pub mod reply;
pub mod request;

pub use frame::{frame, Frame};
pub use reply::{errno_reply, get_reply};
pub use request::{parse, parse_set, Refusal, Request};
/// Text and bytes that hold keys: wiped when dropped.
pub use zeroize::Zeroizing;

/// Something in the request has a value that cannot be.
pub const EINVAL: i32 = 22;
/// The request is not in the shape of the protocol. The protocol's numbers are the host's, and this one differs.
pub const EPROTO: i32 = if cfg!(target_vendor = "apple") { 100 } else { 71 };
