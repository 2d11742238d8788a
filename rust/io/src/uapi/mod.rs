//! The configuration socket: what `wg` connects to, `/var/run/wireguard/NAME.sock`.
//!
//! One thread, `wg-uapi`, serves all clients with poll(2). It knows nothing of a device: it hands [`Plan`]s to a
//! [`Handler`] and shows the state that the handler gives.
//!
//! | file | promise |
//! |---|---|
//! | [`listen`] | makes the socket file: ours alone, never another instance's |
//! | [`file`] | knows our socket file again, and tells when somebody removes it |
//! | [`client`] | one connection: bytes in, one request at a time, bytes out, ten seconds for each |
//! | [`server`] | the thread: accepts, polls, drops who is late |

pub mod client;
pub mod file;
pub mod listen;
pub mod server;

pub use listen::{listen, listen_in, socket_path, DIRECTORY};
pub use server::Server;
pub use wgengine_core::wire::uapi::Refusal;

use std::ffi::CString;
use wgengine_core::observe::state::DeviceState;
use wgengine_core::plan::Plan;
use wgengine_core::wire::uapi::{errno_reply, get_reply, parse, Request, Zeroizing};

/// The device behind the socket.
pub trait Handler: Send + Sync {
    fn get(&self) -> DeviceState;

    /// Applies all of the plan or nothing of it; the error is an errno, positive.
    fn set(&self, plan: Plan) -> Result<(), i32>;

    /// Hears why a request was not taken: the protocol itself has room for a number only.
    fn refused(&self, refusal: &Refusal) {
        let _ = refusal;
    }
}

/// Answers one whole request, from `get=1` or `set=1` to the empty line, which may be missing.
pub fn answer(handler: &dyn Handler, request: &str) -> Zeroizing<String> {
    match parse(request, &interface_index) {
        Ok(Request::Get) => get_reply(&handler.get()),
        Ok(Request::Set(plan)) => {
            let errno = handler.set(plan).err().unwrap_or(0);
            Zeroizing::new(errno_reply(-errno.abs()))
        }
        Err(refusal) => {
            handler.refused(&refusal);
            Zeroizing::new(errno_reply(refusal.errno))
        }
    }
}

/// The index of a network interface, for scopes as in `[fe80::1%eth0]:51820`, which `wg` writes by name.
fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a string that ends in NUL and outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}
