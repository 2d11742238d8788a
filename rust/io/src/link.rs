//! Watches our interface: up or down, its MTU, and whether it is still there (rtnetlink's link group).

use crate::shared::Shared;
use crate::tun::{self, Tun};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use wgengine_core::observe::event::Event;

/// Told of link changes by the kernel; what changed is then read afresh.
#[derive(Debug)]
pub struct Watch {
    netlink: OwnedFd,
}

impl Watch {
    /// `None` where there is no interface to watch: a socket pair, or a TUN of another network namespace.
    pub fn new(tun: &Tun) -> Option<Watch> {
        if tun.ifindex == 0 {
            return None;
        }
        Some(Watch { netlink: subscribe().ok()? })
    }

    /// Take in what the kernel told, if anything.
    pub fn look(&self, shared: &Shared) {
        let mut told = false;
        let mut buffer = [0u8; 8192];
        loop {
            let (fd, at, len) = (self.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len());
            // SAFETY: `buffer` is writable for its whole length.
            let n = unsafe { libc::recv(fd, at, len, libc::MSG_DONTWAIT) };
            let overrun = n < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS);
            told |= n > 0 || overrun;
            if n <= 0 && !overrun {
                break;
            }
        }
        if told {
            self.read(shared);
        }
    }

    /// What the interface is now.
    pub fn read(&self, shared: &Shared) {
        // Gone or renamed: the data threads see the former at the TUN itself.
        let Ok((up, mtu)) = tun::link_flags_and_mtu(&shared.tun.name) else { return };
        let mtu_changed = shared.mtu.swap(mtu, Ordering::Relaxed) != mtu;
        if mtu_changed {
            // Without it super-packets may need two sends: slower, not wrong.
            let _ = tun::bound_super_packets(shared.tun.ifindex, mtu);
        }
        let turned = up != shared.is_up();
        if turned || mtu_changed {
            shared.ring.push(Event::LinkChanged { up, mtu });
        }
        match (turned, up) {
            (true, true) => shared.link_up(),
            (true, false) => shared.link_down(),
            (false, _) => {}
        }
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.netlink.as_raw_fd()
    }
}

fn subscribe() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made.
    let netlink = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zero is a valid sockaddr_nl.
    let mut address: libc::sockaddr_nl = unsafe { core::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = libc::RTMGRP_LINK as u32;
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` outlives the call and its length is given.
    if unsafe { libc::bind(netlink.as_raw_fd(), (&raw const address).cast(), len) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(netlink)
}
