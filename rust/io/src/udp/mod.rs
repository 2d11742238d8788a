//! The outer end: a UDP socket a family and shard, with segmentation (UDP_SEGMENT) and coalescing (UDP_GRO).

pub mod address;
pub mod batch;
pub mod receive;

use address::Raw;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// As much as one busy tunnel can have under way; the kernel may grant less.
const BUFFER: libc::c_int = 7 << 20;

const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: &SocketAddr) -> Family {
        if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }
}

/// A bound socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Bind to `port` on all addresses of the family; 0 lets the kernel choose. `shared` joins a port that we hold already.
    pub fn bind(family: Family, port: u16, mark: u32, shared: bool) -> io::Result<Socket> {
        let domain = if family == Family::V4 { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::socket(domain, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made.
        let socket = Socket { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        if family == Family::V6 {
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        if mark != 0 {
            socket.set_mark(mark)?;
        }
        for (forced, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            if socket.set(libc::SOL_SOCKET, forced, BUFFER).is_err() {
                // Without the privilege the kernel's own limit holds; a smaller buffer still works.
                let _ = socket.set(libc::SOL_SOCKET, plain, BUFFER);
            }
        }
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

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: `value` outlives the call and its length is given.
        if unsafe { libc::setsockopt(self.as_raw_fd(), level, option, (&raw const value).cast(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Others of ours may bind the same port from now on. Set after an exclusive bind: whoever else holds the port made
    /// that bind fail, also with SO_REUSEPORT.
    pub fn share(&self) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)
    }

    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_MARK, mark as libc::c_int)
    }

    /// Let runs of equal datagrams arrive as one block.
    pub fn set_gro(&self, on: bool) -> io::Result<()> {
        self.set(libc::SOL_UDP, UDP_GRO, libc::c_int::from(on))
    }

    /// Does the kernel know UDP_SEGMENT (Linux 4.18)?
    pub fn can_segment(&self) -> bool {
        let (mut value, mut len) = (0 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
        // SAFETY: both out-pointers are valid for the call.
        unsafe {
            libc::getsockopt(self.as_raw_fd(), libc::SOL_UDP, UDP_SEGMENT, (&raw mut value).cast(), &mut len) == 0
        }
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

    /// One datagram, for handshakes and keepalives.
    pub fn send(&self, to: &SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let (raw, len) = Raw::from_address(to);
        let (at, n) = (datagram.as_ptr().cast(), datagram.len());
        // SAFETY: `datagram` and `raw` are readable for the lengths given.
        if unsafe { libc::sendto(self.as_raw_fd(), at, n, libc::MSG_NOSIGNAL, raw.as_ptr(), len) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The sockets of one device: a pair of families for each shard, all on one port.
#[derive(Debug, Default)]
pub struct Sockets {
    pub port: u16,
    pub v4: Vec<Socket>,
    pub v6: Vec<Socket>,
}

/// Ports that a kernel-chosen IPv4 port may clash with on IPv6 before we give up.
const TRIES: usize = 10;

impl Sockets {
    /// Bind every shard's pair. A family that the host lacks is left out (case 54); a port in use is an error.
    pub fn bind(port: u16, mark: u32, shards: usize) -> io::Result<Sockets> {
        let mut last = io::Error::from_raw_os_error(libc::EADDRINUSE);
        for _ in 0..if port == 0 { TRIES } else { 1 } {
            match Sockets::bind_pair(port, mark) {
                Ok(mut sockets) => {
                    if shards > 1 {
                        sockets.v4.iter().chain(&sockets.v6).try_for_each(Socket::share)?;
                    }
                    for _ in 1..shards {
                        if !sockets.v4.is_empty() {
                            sockets.v4.push(Socket::bind(Family::V4, sockets.port, mark, true)?);
                        }
                        if !sockets.v6.is_empty() {
                            sockets.v6.push(Socket::bind(Family::V6, sockets.port, mark, true)?);
                        }
                    }
                    return Ok(sockets);
                }
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn bind_pair(port: u16, mark: u32) -> io::Result<Sockets> {
        let lacking = |error: &io::Error| {
            matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPFNOSUPPORT))
        };
        let v4 = match Socket::bind(Family::V4, port, mark, false) {
            Ok(socket) => Some(socket),
            Err(error) if lacking(&error) => None,
            Err(error) => return Err(error),
        };
        let chosen = v4.as_ref().map_or(Ok(port), Socket::port)?;
        let v6 = match Socket::bind(Family::V6, chosen, mark, false) {
            Ok(socket) => Some(socket),
            Err(error) if lacking(&error) && v4.is_some() => None,
            Err(error) => return Err(error),
        };
        let port = match (&v4, &v6) {
            (None, Some(v6)) => v6.port()?,
            _ => chosen,
        };
        Ok(Sockets { port, v4: v4.into_iter().collect(), v6: v6.into_iter().collect() })
    }

    pub fn all(&self) -> impl Iterator<Item = &Socket> {
        self.v4.iter().chain(&self.v6)
    }

    /// The shard's socket for an address of this family, if the host has such sockets.
    pub fn of(&self, family: Family, shard: usize) -> Option<&Socket> {
        match family {
            Family::V4 => self.v4.get(shard),
            Family::V6 => self.v6.get(shard),
        }
    }
}
