//! A UDP socket that sends and receives many datagrams a call, from any source address.

use crate::arguments::Arguments;
use crate::report::Report;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Datagrams a call.
pub const BATCH: usize = 64;
/// Room for one datagram of a path of 1,500 bytes, or a tunnel of as much.
const ROOM: usize = 2048;
/// Bytes of the receive buffer, where the kernel allows it (SO_RCVBUFFORCE wants CAP_NET_ADMIN).
const BUFFER: libc::c_int = 32 << 20;

/// A datagram to send, and who is to have sent it; `None` is the socket's own address.
pub struct Outgoing<'a> {
    pub bytes: &'a [u8],
    pub from: Option<Ipv4Addr>,
}

/// The control message that chooses a source address (ip(7), IP_PKTINFO).
#[repr(C)]
#[derive(Clone, Copy)]
struct Source {
    header: libc::cmsghdr,
    info: libc::in_pktinfo,
}

impl Source {
    fn new(from: Ipv4Addr) -> Source {
        // SAFETY: both are plain numbers, for which zero is a value.
        let mut source: Source = unsafe { std::mem::zeroed() };
        source.header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<libc::in_pktinfo>()) as _;
        source.header.cmsg_level = libc::IPPROTO_IP;
        source.header.cmsg_type = libc::IP_PKTINFO;
        source.info.ipi_spec_dst.s_addr = u32::from_ne_bytes(from.octets());
        source
    }
}

fn sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    // SAFETY: plain numbers, for which zero is a value.
    let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    raw.sin_family = libc::AF_INET as _;
    raw.sin_port = address.port().to_be();
    raw.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
    raw
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Port 0 is any.
    pub fn bind(at: SocketAddrV4) -> io::Result<Socket> {
        // SAFETY: no pointer is passed.
        let fd = checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: a descriptor that was just made, and that nobody else owns.
        let socket = Socket { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        let raw = sockaddr(at);
        // SAFETY: `raw` is a whole sockaddr_in and lives through the call.
        checked(unsafe { libc::bind(fd, (&raw const raw).cast(), size_of_val(&raw) as _) })?;
        Ok(socket)
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let size = size_of_val(&value) as libc::socklen_t;
        // SAFETY: `value` is as long as `size` says and lives through the call.
        checked(unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, option, (&raw const value).cast(), size) })?;
        Ok(())
    }

    /// Source addresses that are not ours may be used from now on.
    pub fn any_source(&self) -> io::Result<()> {
        self.set(libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1)
    }

    pub fn large_buffer(&self) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)
    }

    /// Wait until something can be received, not for longer than `most`.
    pub fn wait(&self, most: Duration) -> io::Result<bool> {
        let mut entry = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which lives through the call.
        match checked(unsafe { libc::poll(&raw mut entry, 1, most.as_millis() as _) }) {
            Ok(ready) => Ok(ready > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Send up to [`BATCH`] datagrams; how many the kernel took.
    pub fn send(&self, to: SocketAddrV4, datagrams: &[Outgoing<'_>]) -> io::Result<usize> {
        let count = datagrams.len().min(BATCH);
        let mut to = sockaddr(to);
        let mut sources = [Source::new(Ipv4Addr::UNSPECIFIED); BATCH];
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        // SAFETY: plain numbers and pointers, for which zero is a value.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (at, datagram) in datagrams.iter().take(count).enumerate() {
            parts[at] =
                libc::iovec { iov_base: datagram.bytes.as_ptr().cast_mut().cast(), iov_len: datagram.bytes.len() };
            let header = &mut messages[at].msg_hdr;
            header.msg_name = (&raw mut to).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as _;
            header.msg_iov = &raw mut parts[at];
            header.msg_iovlen = 1;
            if let Some(from) = datagram.from {
                sources[at] = Source::new(from);
                header.msg_control = (&raw mut sources[at]).cast();
                header.msg_controllen = size_of::<Source>() as _;
            }
        }
        // SAFETY: the first `count` headers name an address, a part and a control message that live through the call;
        // what is sent is only read.
        let sent = checked(unsafe { libc::sendmmsg(self.fd.as_raw_fd(), messages.as_mut_ptr(), count as _, 0) })?;
        Ok(sent as usize)
    }

    /// What has arrived, without waiting; at most [`BATCH`] datagrams.
    pub fn receive(&self, inbox: &mut Inbox) -> io::Result<usize> {
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        // SAFETY: plain numbers and pointers, for which zero is a value.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (at, room) in inbox.rooms.iter_mut().enumerate() {
            parts[at] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            messages[at].msg_hdr.msg_iov = &raw mut parts[at];
            messages[at].msg_hdr.msg_iovlen = 1;
        }
        let (fd, headers) = (self.fd.as_raw_fd(), messages.as_mut_ptr());
        let no_wait = libc::MSG_DONTWAIT as _;
        // SAFETY: every header names a part of ROOM bytes of `inbox`, which is borrowed for the call; no timeout.
        match checked(unsafe { libc::recvmmsg(fd, headers, BATCH as _, no_wait, std::ptr::null_mut()) }) {
            Ok(count) => {
                inbox.count = count as usize;
                for (at, message) in messages.iter().take(inbox.count).enumerate() {
                    inbox.lengths[at] = (message.msg_len as usize).min(ROOM);
                }
                Ok(inbox.count)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                inbox.count = 0;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

/// Room for what one call receives.
pub struct Inbox {
    rooms: Vec<[u8; ROOM]>,
    lengths: [usize; BATCH],
    count: usize,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox { rooms: vec![[0; ROOM]; BATCH], lengths: [0; BATCH], count: 0 }
    }
}

impl Inbox {
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.rooms.iter().zip(self.lengths).take(self.count).map(|(room, length)| &room[..length])
    }
}

/// `sink --at ADDRESS:PORT --seconds S`: open, and unread: what a flood costs where nobody listens to it.
pub fn sink(mut arguments: Arguments) -> Result<String, String> {
    let (at, lasts) = (arguments.address("at")?, arguments.seconds("seconds", 10.0)?);
    arguments.end()?;
    let _open = Socket::bind(at).map_err(|why| format!("{at}: {why}"))?;
    let began = Instant::now();
    std::thread::sleep(lasts);
    Ok(Report::default().word("load", "sink").decimal("seconds", began.elapsed().as_secs_f64()).text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_go_from_the_address_that_is_asked_for_and_arrive_whole() {
        let here = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let std::net::SocketAddr::V4(to) = receiver.local_addr().unwrap() else { panic!("not IPv4") };
        let sender = Socket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let sources = [None, Some(Ipv4Addr::new(127, 0, 0, 7)), Some(Ipv4Addr::new(127, 1, 2, 3))];
        let batch = sources.map(|from| Outgoing { bytes: b"abc", from });
        assert_eq!(sender.send(to, &batch).unwrap(), 3);
        for from in sources {
            let mut room = [0; 16];
            let (length, source) = receiver.recv_from(&mut room).unwrap();
            assert_eq!((&room[..length], source.ip()), (&b"abc"[..], from.unwrap_or(*here.ip()).into()));
        }
    }

    #[test]
    fn what_arrived_is_received_at_once_and_nothing_is_waited_for() {
        let socket = Socket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut inbox = Inbox::default();
        assert_eq!(socket.receive(&mut inbox).unwrap(), 0);
        assert!(!socket.wait(Duration::from_millis(1)).unwrap());
    }
}
