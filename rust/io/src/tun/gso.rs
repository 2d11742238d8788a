//! Asks the kernel for super-packets that fit one UDP send: one read, one send, and one write at the far end.
//!
//! A send takes 65,507 bytes. Of an MTU of 1420 that is 45 sealed packets, but an unbounded TCP super-packet has 47: the
//! two left over would cost a send and a write of their own. The bound is on bytes, not on segments,
//! so that UDP blocks of many small datagrams stay whole.

use crate::udp::batch::{MAX_BYTES, MAX_SEGMENTS};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use wgengine_core::wire::wireguard::DATA_OVERHEAD;

const IFLA_GSO_MAX_SIZE: u16 = 41;
/// IPv4 and TCP headers with timestamps: what each packet of a super-packet carries besides its payload.
const HEADERS: usize = 52;
/// What the kernel keeps of the bound for headers of its own (MAX_TCP_HEADER, 320 bytes and less on 64-bit machines).
const RESERVE: usize = 400;

/// The longest super-packet whose sealed packets fit one send.
fn longest(mtu: usize) -> usize {
    let packets = (MAX_BYTES / (mtu + DATA_OVERHEAD)).clamp(1, MAX_SEGMENTS);
    (packets * mtu.saturating_sub(HEADERS) + RESERVE).min(65_536)
}

/// Set the bound on our interface. Not having it costs speed only.
pub fn bound(ifindex: u32, mtu: u32) -> io::Result<()> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made.
    let netlink = unsafe { OwnedFd::from_raw_fd(fd) };
    let request = request(ifindex, longest(mtu as usize) as u32);
    // SAFETY: `request` is readable for its length.
    let sent = unsafe { libc::send(netlink.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = [0u8; 256];
    // SAFETY: `answer` is writable for its length.
    let n = unsafe { libc::recv(netlink.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    // nlmsghdr, then the negative errno of an NLMSG_ERROR: 0 acknowledges.
    match usize::try_from(n) {
        Ok(n) if n >= 20 => match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        },
        _ => Err(io::Error::last_os_error()),
    }
}

/// RTM_NEWLINK for one interface with one attribute: nlmsghdr, ifinfomsg, rtattr, u32.
fn request(ifindex: u32, size: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(40);
    message.extend_from_slice(&40u32.to_ne_bytes());
    message.extend_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
    message.extend_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&ifindex.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(&8u16.to_ne_bytes());
    message.extend_from_slice(&IFLA_GSO_MAX_SIZE.to_ne_bytes());
    message.extend_from_slice(&size.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_super_packet_fits_one_send_at_every_mtu() {
        for mtu in 576..=65_000 {
            for reserve in [192, 320] {
                let mss = mtu - HEADERS;
                let packets = ((longest(mtu) - reserve) / mss).max(1);
                assert!(
                    packets * (mtu + DATA_OVERHEAD) <= MAX_BYTES && packets <= MAX_SEGMENTS,
                    "MTU {mtu}: {packets}"
                );
            }
        }
        assert_eq!((longest(1420) - 321) / (1420 - HEADERS), 45);
    }
}
