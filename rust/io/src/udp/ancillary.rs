//! Control messages: what stands beside a datagram. The size that a batch is cut by or was joined by, and which of our
//! own addresses it leaves from or came to.

use super::system::{local, JOINED};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wgengine_core::tunnel::endpoint::Source;

/// Room for the control messages of one message.
#[derive(Clone, Copy, Default)]
pub struct Ancillary([u64; 8]);

const fn space<T>() -> usize {
    // SAFETY: CMSG_SPACE is arithmetic.
    unsafe { libc::CMSG_SPACE(size_of::<T>() as u32) as usize }
}

const _: () = assert!(space::<libc::c_int>() + space::<libc::in6_pktinfo>() <= size_of::<Ancillary>());

/// What came beside a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// The size that the kernel joined datagrams by.
    pub size: Option<usize>,
    /// Our address that the datagram named.
    pub source: Option<Source>,
}

impl Ancillary {
    /// Let the kernel write here what comes beside a received datagram.
    pub fn receive(&mut self, header: &mut libc::msghdr) {
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = size_of::<Ancillary>() as _;
    }

    /// Send the datagrams of `header` from `source`.
    pub fn source(&mut self, header: &mut libc::msghdr, source: &Source) {
        match source.ipv4() {
            Some(address) => self.put(header, libc::IPPROTO_IP, libc::IP_PKTINFO, pktinfo4(address)),
            None => {
                let info = pktinfo6(source.ipv6().unwrap_or(Ipv6Addr::UNSPECIFIED), source.interface());
                self.put(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
        }
    }

    /// Write one message behind those that `header` has.
    pub fn put<T: Copy>(&mut self, header: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) {
        let used: usize = header.msg_controllen as _;
        debug_assert!(used + space::<T>() <= size_of::<Ancillary>());
        // SAFETY: the largest messages fit together (asserted above), `used` is a sum of CMSG_SPACEs and so aligned for
        // a header, and all zero is a valid one (musl's has padding).
        unsafe {
            let control: *mut libc::cmsghdr = self.0.as_mut_ptr().cast::<u8>().add(used).cast();
            control.write(core::mem::zeroed());
            (*control).cmsg_level = level;
            (*control).cmsg_type = kind;
            (*control).cmsg_len = libc::CMSG_LEN(size_of::<T>() as u32) as _;
            libc::CMSG_DATA(control).cast::<T>().write_unaligned(value);
        }
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = (used + space::<T>()) as _;
    }
}

/// The way out is the routes' choice: only the address is ours.
fn pktinfo4(address: Ipv4Addr) -> libc::in_pktinfo {
    let none = libc::in_addr { s_addr: 0 };
    libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr { s_addr: u32::from(address).to_be() },
        ipi_addr: none,
    }
}

/// The same; but a link-local address means nothing without its link.
fn pktinfo6(address: Ipv6Addr, interface: u32) -> libc::in6_pktinfo {
    let interface = if address.is_unicast_link_local() { interface } else { 0 };
    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: address.octets() }, ipi6_ifindex: interface as _ }
}

/// What the kernel wrote beside a received datagram.
pub fn arrived(header: &libc::msghdr) -> Arrived {
    let mut arrived = Arrived::default();
    // SAFETY: the kernel wrote `msg_controllen` bytes of control messages, which CMSG_* walk; each kind has its type.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            let data = libc::CMSG_DATA(control);
            match ((*control).cmsg_level, (*control).cmsg_type) {
                kind if JOINED == Some(kind) => {
                    let size = data.cast::<libc::c_int>().read_unaligned();
                    arrived.size = usize::try_from(size).ok().filter(|size| *size > 0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    let address = Ipv4Addr::from(u32::from_be(local(&info).s_addr));
                    arrived.source = Source::new(IpAddr::V4(address), info.ipi_ifindex as u32);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    arrived.source = Source::new(IpAddr::V6(address), info.ipi6_ifindex as u32);
                }
                _ => {}
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    arrived
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Write what `write` writes, and read it again.
    fn written(write: impl Fn(&mut Ancillary, &mut libc::msghdr)) -> (usize, Vec<(i32, i32, usize)>, Arrived) {
        let mut ancillary = Ancillary::default();
        // SAFETY: all zero is a valid msghdr.
        let mut header: libc::msghdr = unsafe { core::mem::zeroed() };
        write(&mut ancillary, &mut header);
        let mut kinds = Vec::new();
        // SAFETY: `write` wrote `msg_controllen` bytes of control messages, which CMSG_* walk.
        unsafe {
            let mut control = libc::CMSG_FIRSTHDR(&header);
            while !control.is_null() {
                kinds.push(((*control).cmsg_level, (*control).cmsg_type, (*control).cmsg_len as usize));
                control = libc::CMSG_NXTHDR(&header, control);
            }
        }
        (header.msg_controllen as usize, kinds, arrived(&header))
    }

    #[test]
    fn n18_a_size_and_a_source_stand_side_by_side() {
        // SAFETY: CMSG_LEN is arithmetic.
        let len = |bytes| unsafe { libc::CMSG_LEN(bytes) } as usize;
        let four = Source::new(IpAddr::from([192, 0, 2, 7]), 3).expect("an interface");
        let six = Source::new("2001:db8::7".parse().expect("address"), 3).expect("an interface");
        let size = (libc::IPPROTO_UDP, 103, len(2));
        let source4 = (libc::IPPROTO_IP, libc::IP_PKTINFO, len(12));
        let source6 = (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, len(20));
        for (source, kind, room) in
            [(four, source4, space::<libc::in_pktinfo>()), (six, source6, space::<libc::in6_pktinfo>())]
        {
            let alone = written(|ancillary, header| ancillary.source(header, &source));
            assert_eq!((alone.0, alone.1), (room, vec![kind]));
            let beside = written(|ancillary, header| {
                ancillary.put(header, libc::IPPROTO_UDP, 103, 1452u16);
                ancillary.source(header, &source);
            });
            assert_eq!((beside.0, beside.1), (space::<u16>() + room, vec![size, kind]));
        }
    }

    #[test]
    fn n18_only_a_link_local_source_names_an_interface() {
        let named = |text: &str| {
            let source = Source::new(text.parse().expect("address"), 3).expect("an interface");
            let read = written(|ancillary, header| ancillary.source(header, &source)).2.source;
            (source, read)
        };
        let (source, read) = named("fe80::7");
        assert_eq!(read, Some(source));
        // A source without an interface reads as none: the interface was left to the routes.
        assert_eq!(named("2001:db8::7").1, None);
        assert_eq!(named("192.0.2.7").1, None);
    }
}
