//! The one place where an error becomes a Python exception. The classes are Python's own (`wgengine.errors`).

use pyo3::exceptions::PyOSError;
use pyo3::PyErr;
use std::io;
use wgengine_io::device::StartError;
use wgengine_io::pings::PingError;

pyo3::import_exception!(wgengine.errors, ConfigError);
pyo3::import_exception!(wgengine.errors, StateError);
pyo3::import_exception!(wgengine.errors, ClosedError);
pyo3::import_exception!(wgengine.errors, ForkedError);
pyo3::import_exception!(wgengine.errors, PrivilegeError);

/// What would help where a TUN may not be made.
#[cfg(target_os = "linux")]
const PRIVILEGE: &str =
    "no permission to make a TUN device. In a container add `--cap-add NET_ADMIN --device /dev/net/tun`; \
     as an ordinary user run in a namespace of your own: `unshare -Urn`";
#[cfg(target_os = "macos")]
const PRIVILEGE: &str = "no permission to make a utun device, which macOS grants to root only: use sudo";
#[cfg(target_os = "linux")]
const NO_TUN: &str = "/dev/net/tun is missing or useless here";
#[cfg(target_os = "macos")]
const NO_TUN: &str = "this system has no utun devices";

/// Keeps errno; `doing` says what was tried.
pub fn os(error: &io::Error, doing: &str) -> PyErr {
    match error.raw_os_error() {
        Some(errno) => {
            let text = format!("{doing}: {error}");
            let text = text.split(" (os error").next().unwrap_or(doing).to_owned();
            // OSError picks the subclass by errno (PermissionError, FileNotFoundError, ...).
            PyOSError::new_err((errno, text))
        }
        None => ConfigError::new_err(format!("{doing}: {error}")),
    }
}

/// Why a device called `name` did not start.
pub fn start(error: &StartError, name: &str) -> PyErr {
    match error {
        StartError::Tun(error) => tun(error, name),
        StartError::Uapi(error) => match error.raw_os_error() {
            Some(libc_errno::EADDRINUSE) => os(
                error,
                &format!("/var/run/wireguard/{name}.sock is in use: another program serves an interface of this name"),
            ),
            _ => os(error, &format!("UAPI socket /var/run/wireguard/{name}.sock")),
        },
        StartError::System(error) => os(error, "starting the device"),
    }
}

fn tun(error: &io::Error, name: &str) -> PyErr {
    match error.raw_os_error() {
        Some(libc_errno::EPERM | libc_errno::EACCES) => PrivilegeError::new_err(PRIVILEGE),
        Some(libc_errno::ENOENT | libc_errno::ENODEV | libc_errno::ENXIO) => {
            PrivilegeError::new_err(format!("{NO_TUN}: {PRIVILEGE}"))
        }
        Some(libc_errno::EBUSY) => os(error, &format!("interface {name} is in use by another program")),
        _ => os(error, &format!("interface {name}")),
    }
}

/// errno values, by name.
mod libc_errno {
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const ENXIO: i32 = 6;
    pub const EACCES: i32 = 13;
    pub const EBUSY: i32 = 16;
    pub const ENODEV: i32 = 19;
    #[cfg(target_os = "linux")]
    pub const EADDRINUSE: i32 = 98;
    #[cfg(not(target_os = "linux"))]
    pub const EADDRINUSE: i32 = 48;
}

/// Why nothing was sent to `destination`.
pub fn ping(why: PingError, source: &str, destination: &str) -> PyErr {
    match why {
        PingError::Families => ConfigError::new_err(format!(
            "source {source}: write an address of the same family as the destination {destination}"
        )),
        PingError::NoPeer => StateError::new_err(format!("no peer's allowed IPs hold {destination}")),
        PingError::TooMany => StateError::new_err("1024 pings are under way: wait until some have ended"),
        PingError::QueueFull => StateError::new_err("512 packets wait to be sent already: wait a moment"),
    }
}

pub fn forked() -> PyErr {
    ForkedError::new_err("this device belongs to the parent process; make one of your own after the fork")
}

pub fn closed() -> PyErr {
    ClosedError::new_err("the device is closed")
}
