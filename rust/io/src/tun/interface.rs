//! What the kernel says of an interface by name, and its MTU; the same calls on Linux and macOS.

use super::system::{SIOCGIFFLAGS, SIOCGIFMTU, SIOCSIFMTU};
use crate::fd;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

pub(super) fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    if name.len() >= request.ifr_name.len() || name.contains(['\0', '/']) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

pub(super) fn ioctl<T>(fd: RawFd, what: libc::c_ulong, argument: *mut T) -> io::Result<()> {
    // SAFETY: each caller passes the argument type that `what` asks for, alive over the call.
    if unsafe { libc::ioctl(fd, what as _, argument) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Any datagram socket can ask about interfaces; IPv4 or IPv6, whichever the kernel has.
fn asker() -> io::Result<OwnedFd> {
    fd::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)
        .or_else(|_| fd::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0))
        .or_else(|_| fd::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0))
}

pub fn index_of(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: a string that ends in NUL and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

pub fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let mut wanted = request(name)?;
    wanted.ifr_ifru.ifru_mtu = i32::try_from(mtu).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    ioctl(asker()?.as_raw_fd(), SIOCSIFMTU, &mut wanted)
}

/// (is it up, its MTU)
pub fn link_flags_and_mtu(name: &str) -> io::Result<(bool, u32)> {
    let asker = asker()?;
    let mut wanted = request(name)?;
    ioctl(asker.as_raw_fd(), SIOCGIFFLAGS, &mut wanted)?;
    // SAFETY: SIOCGIFFLAGS fills the flags.
    let up = libc::c_int::from(unsafe { wanted.ifr_ifru.ifru_flags }) & libc::IFF_UP != 0;
    let mut wanted = request(name)?;
    ioctl(asker.as_raw_fd(), SIOCGIFMTU, &mut wanted)?;
    // SAFETY: SIOCGIFMTU fills the MTU.
    Ok((up, unsafe { wanted.ifr_ifru.ifru_mtu } as u32))
}
