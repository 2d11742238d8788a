//! One bound socket.

use super::address::Raw;
use super::ancillary::Ancillary;
use super::system::{RECEIVE_PKTINFO, REPORTED};
use super::Family;
use crate::fd::{self, Held};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use wgengine_core::tunnel::endpoint::Endpoint;

/// As much as one busy tunnel can have under way; the kernel may grant less.
pub(super) const BUFFER: libc::c_int = 7 << 20;

/// A bound socket.
#[derive(Debug)]
pub struct Socket {
    fd: Held<OwnedFd>,
}

impl Socket {
    /// Bind to `port` on all addresses of the family; 0 lets the kernel choose. `shared` joins a port that we hold already.
    pub fn bind(family: Family, port: u16, mark: u32, shared: bool) -> io::Result<Socket> {
        let domain = if family == Family::V4 { libc::AF_INET } else { libc::AF_INET6 };
        let socket = Socket { fd: Held::new(fd::socket(domain, libc::SOCK_DGRAM, 0)?) };
        if family == Family::V6 {
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        let (level, arrived_at) = match family {
            Family::V4 => (libc::IPPROTO_IP, RECEIVE_PKTINFO),
            Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        };
        // Without it the kernel chooses where answers leave from, which is right on most hosts.
        let _ = socket.set(level, arrived_at, 1);
        if mark != 0 {
            socket.set_mark(mark)?;
        }
        socket.enlarge(BUFFER);
        if shared {
            socket.share()?;
        }
        let any: SocketAddr = match family {
            Family::V4 => (std::net::Ipv4Addr::UNSPECIFIED, port).into(),
            Family::V6 => (std::net::Ipv6Addr::UNSPECIFIED, port).into(),
        };
        let (raw, len) = Raw::from_address(&any);
        // SAFETY: `raw` holds a socket address of `len` bytes.
        if unsafe { libc::bind(socket.as_raw_fd(), raw.as_ptr(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(socket)
    }

    pub(super) fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        fd::set_option(&self.fd, level, option, value)
    }

    /// Others of ours may bind the same port from now on. Set after an exclusive bind: whoever else holds the port made
    /// that bind fail, also with SO_REUSEPORT.
    pub fn share(&self) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
    }

    pub fn port(&self) -> io::Result<u16> {
        let mut raw = Raw::default();
        let mut len = Raw::CAPACITY;
        // SAFETY: `raw` has room for `len` bytes.
        if unsafe { libc::getsockname(self.as_raw_fd(), raw.as_mut_ptr(), &mut len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(raw.address().map_or(0, |address| address.port()))
    }

    /// The bytes that the kernel granted of those asked for, to receive and to send.
    pub fn granted(&self) -> io::Result<[u64; 2]> {
        let mut granted = [0; 2];
        for (option, granted) in [libc::SO_RCVBUF, libc::SO_SNDBUF].into_iter().zip(&mut granted) {
            let (mut value, mut len) = (0 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
            // SAFETY: both out-pointers are valid for the call.
            let failed = unsafe {
                libc::getsockopt(self.as_raw_fd(), libc::SOL_SOCKET, option, (&raw mut value).cast(), &mut len) < 0
            };
            if failed {
                return Err(io::Error::last_os_error());
            }
            *granted = value.max(0) as u64 / REPORTED;
        }
        Ok(granted)
    }

    /// One datagram, for handshakes and keepalives; without its source where the kernel refuses that one.
    pub fn send(&self, to: &Endpoint, datagram: &[u8]) -> io::Result<()> {
        match self.send_from(to, datagram) {
            Err(error) if refuses_source(to, &error) => self.send_from(&to.address.into(), datagram),
            outcome => outcome,
        }
    }

    fn send_from(&self, to: &Endpoint, datagram: &[u8]) -> io::Result<()> {
        let (mut name, name_len) = Raw::from_address(&to.address);
        // The kernel only reads what a send's iovec points to.
        let mut part = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
        let mut ancillary = Ancillary::default();
        // SAFETY: all zero is a valid msghdr.
        let mut header: libc::msghdr = unsafe { core::mem::zeroed() };
        header.msg_name = name.as_mut_ptr().cast();
        header.msg_namelen = name_len;
        header.msg_iov = &mut part;
        header.msg_iovlen = 1;
        if let Some(source) = &to.source {
            ancillary.source(&mut header, source);
        }
        // SAFETY: the header points to memory that outlives the call, with its true lengths.
        if unsafe { libc::sendmsg(self.as_raw_fd(), &header, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// May the kernel have refused this for its source alone: an address that is gone, or that its link is gone with?
pub(super) fn refuses_source(to: &Endpoint, error: &io::Error) -> bool {
    to.source.is_some()
        && matches!(
            error.raw_os_error(),
            Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH | libc::EHOSTUNREACH | libc::ENODEV)
        )
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
