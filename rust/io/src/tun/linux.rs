//! Linux: /dev/net/tun with a virtio header, so that one read or write carries up to 64 KiB.

use super::interface::{index_of, ioctl, link_flags_and_mtu, request, set_mtu};
use super::{Tun, DEFAULT_MTU};
use crate::fd::{nonblocking, owned};
use crate::offloads::Offloads;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::Relaxed;
use wgengine_core::packet::vnet;

pub use super::gso::bound as bound_super_packets;
pub(super) use libc::{SIOCGIFFLAGS, SIOCGIFMTU, SIOCSIFMTU};

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;

const F_CSUM: libc::c_uint = 0x01;
const F_TSO4: libc::c_uint = 0x02;
const F_TSO6: libc::c_uint = 0x04;
const F_USO4: libc::c_uint = 0x20;
const F_USO6: libc::c_uint = 0x40;

const VNET_HEADER_LEN: libc::c_int = 10;

fn name_of(request: &libc::ifreq) -> String {
    // SAFETY: the kernel ends the name with a zero byte within the array, which was zero before.
    unsafe { CStr::from_ptr(request.ifr_name.as_ptr()) }.to_string_lossy().into_owned()
}

fn open() -> io::Result<OwnedFd> {
    // SAFETY: a constant path; the result is a fresh descriptor.
    unsafe { owned(libc::open(c"/dev/net/tun".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC | libc::O_NONBLOCK)) }
}

/// A new TUN of `queues` queues, MTU 1420.
pub fn create(name: &str, queues: usize, offloads: &Offloads) -> io::Result<Tun> {
    let mut flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if queues > 1 {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    let mut name = if name.is_empty() { "wg%d".to_owned() } else { name.to_owned() };
    let mut fds = Vec::with_capacity(queues);
    for _ in 0..queues {
        let fd = open()?;
        let mut wanted = request(&name)?;
        wanted.ifr_ifru.ifru_flags = flags as libc::c_short;
        ioctl(fd.as_raw_fd(), TUNSETIFF, &mut wanted)?;
        name = name_of(&wanted);
        header_size(fd.as_raw_fd())?;
        probe(fd.as_raw_fd(), offloads);
        fds.push(fd);
    }
    let ifindex = index_of(&name)?;
    // A persistent TUN that was prepared for us may be right already, and not ours to change.
    if link_flags_and_mtu(&name)?.1 != DEFAULT_MTU {
        set_mtu(&name, DEFAULT_MTU)?;
    }
    Ok(Tun::new(name, ifindex, fds))
}

/// A TUN that somebody else made, or a socket pair's end that speaks like one with the virtio header.
pub fn adopt(fd: BorrowedFd<'_>, offloads: &Offloads) -> io::Result<Tun> {
    let fd = fd.try_clone_to_owned()?;
    let mut known = request("")?;
    if let Err(error) = ioctl(fd.as_raw_fd(), TUNGETIFF, &mut known) {
        return if error.raw_os_error() == Some(libc::ENOTTY) {
            nonblocking(&fd)?;
            Ok(Tun::new("memory".into(), 0, vec![fd]))
        } else {
            Err(error)
        };
    }
    // SAFETY: TUNGETIFF fills the flags.
    let flags = libc::c_int::from(unsafe { known.ifr_ifru.ifru_flags });
    if flags & libc::IFF_NO_PI == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it was opened without IFF_NO_PI; open it with that flag",
        ));
    }
    nonblocking(&fd)?;
    let name = name_of(&known);
    // The interface may live in another network namespace; then nothing of it can be watched here.
    let ifindex = index_of(&name).unwrap_or(0);
    if flags & libc::IFF_VNET_HDR == 0 {
        offloads.tun_tso.store(false, Relaxed);
        offloads.tun_uso.store(false, Relaxed);
        return Ok(Tun::new(name, ifindex, vec![fd]).without_header());
    }
    header_size(fd.as_raw_fd())?;
    probe(fd.as_raw_fd(), offloads);
    Ok(Tun::new(name, ifindex, vec![fd]))
}

/// What the interface is called now; an error when it is gone.
pub fn current_name(tun: &Tun) -> io::Result<String> {
    let mut known = request("")?;
    ioctl(tun.fd(0), TUNGETIFF, &mut known)?;
    Ok(name_of(&known))
}

fn header_size(fd: RawFd) -> io::Result<()> {
    let mut size = VNET_HEADER_LEN;
    ioctl(fd, TUNSETVNETHDRSZ, &mut size)
}

/// Take what the kernel grants: USO is of Linux 6.2, and is granted only beside TSO.
fn probe(fd: RawFd, offloads: &Offloads) {
    let tso = F_CSUM | F_TSO4 | F_TSO6;
    if Offloads::on(&offloads.tun_uso) && offload(fd, tso | F_USO4 | F_USO6).is_err() {
        offloads.tun_uso.store(false, Relaxed);
    }
    if Offloads::on(&offloads.tun_tso) && !Offloads::on(&offloads.tun_uso) && offload(fd, tso).is_err() {
        offloads.tun_tso.store(false, Relaxed);
    }
    if !Offloads::on(&offloads.tun_tso) {
        offloads.tun_uso.store(false, Relaxed);
        // Single packets with full checksums: every kernel grants that.
        let _ = offload(fd, 0);
    }
}

fn offload(fd: RawFd, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its flags by value.
    if unsafe { libc::ioctl(fd, TUNSETOFFLOAD as _, libc::c_ulong::from(flags)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Make the kernel hand us what `offloads` says from now on.
pub fn set_offload(tun: &Tun, offloads: &Offloads) -> io::Result<()> {
    let mut flags = 0;
    if Offloads::on(&offloads.tun_tso) {
        flags |= F_CSUM | F_TSO4 | F_TSO6;
        if Offloads::on(&offloads.tun_uso) {
            flags |= F_USO4 | F_USO6;
        }
    }
    if tun.ifindex == 0 || tun.bare {
        return Ok(());
    }
    (0..tun.queues()).try_for_each(|queue| offload(tun.fd(queue), flags))
}

impl Tun {
    /// Bytes of virtio header that the kernel neither gives nor takes.
    fn absent(&self) -> usize {
        if self.bare {
            vnet::LEN
        } else {
            0
        }
    }

    /// One packet or super-packet, virtio header first; 0 at the end.
    pub fn read(&self, queue: usize, block: &mut [u8]) -> io::Result<usize> {
        let absent = self.absent();
        block[..absent].fill(0);
        let room = &mut block[absent..];
        // SAFETY: `room` is writable for its whole length.
        let n = unsafe { libc::read(self.fd(queue), room.as_mut_ptr().cast(), room.len()) };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        Ok(if n == 0 { 0 } else { absent + n })
    }

    /// Write one packet or super-packet, virtio header first.
    pub fn write(&self, queue: usize, block: &[u8]) -> io::Result<()> {
        let block = &block[self.absent()..];
        // SAFETY: `block` is readable for its whole length.
        let n = unsafe { libc::write(self.fd(queue), block.as_ptr().cast(), block.len()) };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
