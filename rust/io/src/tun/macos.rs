//! macOS: a utun, whose packets stand alone behind four bytes that name their family.

use super::interface::{index_of, ioctl, link_flags_and_mtu, set_mtu};
use super::{Tun, DEFAULT_MTU};
use crate::fd::{self, check, nonblocking};
use crate::offloads::Offloads;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use wgengine_core::packet::vnet;

// net/if_utun.h and sys/sockio.h
const UTUN_CONTROL: &[u8] = b"com.apple.net.utun_control";
pub(super) const SIOCGIFFLAGS: libc::c_ulong = 0xc020_6911;
pub(super) const SIOCGIFMTU: libc::c_ulong = 0xc020_6933;
pub(super) const SIOCSIFMTU: libc::c_ulong = 0x8020_6934;

/// Room for the family in front of a packet: the last bytes of the virtio header that macOS does not have.
const FAMILY_LEN: usize = 4;

/// utunN is unit N + 1; unit 0 is whichever is free.
fn unit(name: &str) -> io::Result<u32> {
    let number = if name.is_empty() { Some("") } else { name.strip_prefix("utun") };
    match number {
        Some("") => Some(0),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().and_then(|number: u32| number.checked_add(1))
        }
        _ => None,
    }
    .ok_or_else(|| {
        let hint = "write utun and a number, as in utun7, or utun alone for the next one that is free";
        io::Error::new(io::ErrorKind::InvalidInput, hint)
    })
}

/// A new utun with MTU 1420. It has one queue, however many are wanted, and no offloads.
pub fn create(name: &str, _queues: usize, offloads: &Offloads) -> io::Result<Tun> {
    let unit = unit(name)?;
    let utun = fd::socket(libc::PF_SYSTEM, libc::SOCK_DGRAM, libc::SYSPROTO_CONTROL)?;
    // SAFETY: all zero is a valid ctl_info.
    let mut control: libc::ctl_info = unsafe { core::mem::zeroed() };
    for (to, from) in control.ctl_name.iter_mut().zip(UTUN_CONTROL) {
        *to = *from as libc::c_char;
    }
    ioctl(utun.as_raw_fd(), libc::CTLIOCGINFO, &mut control)?;
    let address = libc::sockaddr_ctl {
        sc_len: size_of::<libc::sockaddr_ctl>() as libc::c_uchar,
        sc_family: libc::AF_SYSTEM as libc::c_uchar,
        ss_sysaddr: libc::AF_SYS_CONTROL as u16,
        sc_id: control.ctl_id,
        sc_unit: unit,
        sc_reserved: [0; 5],
    };
    // SAFETY: `address` outlives the call and its length is given.
    check(unsafe {
        let len = size_of_val(&address) as libc::socklen_t;
        libc::connect(utun.as_raw_fd(), (&raw const address).cast(), len)
    })?;
    let tun = take(utun, offloads)?;
    if link_flags_and_mtu(&tun.name)?.1 != DEFAULT_MTU {
        set_mtu(&tun.name, DEFAULT_MTU)?;
    }
    Ok(tun)
}

/// A utun that somebody else made, or a socket pair's end that speaks like one with the virtio header.
pub fn adopt(fd: BorrowedFd<'_>, offloads: &Offloads) -> io::Result<Tun> {
    let fd = fd.try_clone_to_owned()?;
    match name_of(&fd) {
        Ok(_) => take(fd, offloads),
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Err(error),
        Err(_) => {
            nonblocking(&fd)?;
            Ok(Tun::new("memory".into(), 0, vec![fd]))
        }
    }
}

fn take(utun: OwnedFd, offloads: &Offloads) -> io::Result<Tun> {
    nonblocking(&utun)?;
    offloads.tun_tso.store(false, Relaxed);
    offloads.tun_uso.store(false, Relaxed);
    let name = name_of(&utun)?;
    let ifindex = index_of(&name).unwrap_or(0);
    Ok(Tun::new(name, ifindex, vec![utun]).without_header())
}

/// What the interface is called; an error when it is gone.
pub fn current_name(tun: &Tun) -> io::Result<String> {
    name_of(&tun.queues[0])
}

fn name_of(utun: &OwnedFd) -> io::Result<String> {
    let mut name = [0u8; libc::IFNAMSIZ];
    let mut len = name.len() as libc::socklen_t;
    let (level, option) = (libc::SYSPROTO_CONTROL, libc::UTUN_OPT_IFNAME);
    // SAFETY: `name` has room for `len` bytes.
    check(unsafe { libc::getsockopt(utun.as_raw_fd(), level, option, name.as_mut_ptr().cast(), &mut len) })?;
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// A utun has no super-packets that could be bounded.
pub fn bound_super_packets(_ifindex: u32, _mtu: u32) -> io::Result<()> {
    Ok(())
}

/// Nor any that could be switched.
pub fn set_offload(_tun: &Tun, _offloads: &Offloads) -> io::Result<()> {
    Ok(())
}

impl Tun {
    /// One packet, virtio header first; 0 at the end.
    pub fn read(&self, queue: usize, block: &mut [u8]) -> io::Result<usize> {
        let absent = if self.bare { vnet::LEN - FAMILY_LEN } else { 0 };
        let room = &mut block[absent..];
        // SAFETY: `room` is writable for its whole length.
        let n = unsafe { libc::read(self.fd(queue), room.as_mut_ptr().cast(), room.len()) };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        if self.bare {
            block[..vnet::LEN].fill(0);
        }
        Ok(if n == 0 { 0 } else { absent + n })
    }

    /// Write one packet, virtio header first.
    pub fn write(&self, queue: usize, block: &[u8]) -> io::Result<()> {
        let (header, packet) = block.split_at(vnet::LEN);
        let family = family_of(packet);
        let head = if self.bare { &family[..] } else { header };
        // The kernel only reads what a write's iovec points to.
        let parts =
            [head, packet].map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
        // SAFETY: both parts are readable for their lengths.
        let n = unsafe { libc::writev(self.fd(queue), parts.as_ptr(), parts.len() as libc::c_int) };
        match n {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The family of a packet, in network order.
fn family_of(packet: &[u8]) -> [u8; FAMILY_LEN] {
    let family = if packet.first().is_some_and(|byte| byte >> 4 == 6) { libc::AF_INET6 } else { libc::AF_INET };
    (family as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_units_and_others_are_told_what_to_write() {
        let units = ["", "utun", "utun0", "utun7"].map(|name| unit(name).ok());
        assert_eq!(units, [Some(0), Some(0), Some(1), Some(8)]);
        for name in ["wg0", "utun-1", "utunx", "utun4294967295", "utun99999999999"] {
            let error = unit(name).expect_err(name);
            assert!(error.to_string().contains("utun7"), "{name}: {error}");
        }
    }

    #[test]
    fn a_packet_is_written_behind_its_family() {
        assert_eq!(family_of(&[0x45, 0]), [0, 0, 0, 2]);
        assert_eq!(family_of(&[0x60, 0]), [0, 0, 0, 30]);
    }
}
