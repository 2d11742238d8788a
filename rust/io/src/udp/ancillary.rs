//! Control messages: what stands beside a datagram. The size that a batch is cut by or was joined by, and which of our
//! own addresses it leaves from or came to.

use super::{UDP_GRO, UDP_SEGMENT};
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

    /// Send the datagrams of `header` cut by `size` and from `source`, where these are given.
    pub fn send(&mut self, header: &mut libc::msghdr, size: Option<u16>, source: Option<&Source>) {
        let mut used = 0;
        if let Some(size) = size {
            used += self.put(used, libc::SOL_UDP, UDP_SEGMENT, size);
        }
        if let Some(source) = source {
            used += match (source.ipv4(), source.ipv6()) {
                (Some(address), _) => self.put(used, libc::IPPROTO_IP, libc::IP_PKTINFO, pktinfo4(address)),
                (None, address) => {
                    let address = address.unwrap_or(Ipv6Addr::UNSPECIFIED);
                    let info = pktinfo6(address, source.interface());
                    self.put(used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
                }
            };
        }
        if used > 0 {
            header.msg_control = self.0.as_mut_ptr().cast();
            header.msg_controllen = used as _;
        }
    }

    /// Write one message behind the `used` bytes; how many it takes.
    fn put<T: Copy>(&mut self, used: usize, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
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
        space::<T>()
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
                (libc::SOL_UDP, UDP_GRO) => {
                    let size = data.cast::<libc::c_int>().read_unaligned();
                    arrived.size = usize::try_from(size).ok().filter(|size| *size > 0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    let address = Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr));
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

    fn sent(size: Option<u16>, source: Option<Source>) -> (usize, Vec<(i32, i32, usize)>, Arrived) {
        let mut ancillary = Ancillary::default();
        // SAFETY: all zero is a valid msghdr.
        let mut header: libc::msghdr = unsafe { core::mem::zeroed() };
        ancillary.send(&mut header, size, source.as_ref());
        let mut kinds = Vec::new();
        // SAFETY: `send` wrote `msg_controllen` bytes of control messages, which CMSG_* walk.
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
        let four = Source::new(IpAddr::from([192, 0, 2, 7]), 3);
        let head = size_of::<libc::cmsghdr>();
        let size = (libc::SOL_UDP, UDP_SEGMENT, head + 2);
        let source4 = (libc::IPPROTO_IP, libc::IP_PKTINFO, head + 12);
        let source6 = (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, head + 20);
        assert_eq!(sent(None, None).1, []);
        assert_eq!(sent(Some(1452), None).1, [size]);
        assert_eq!(sent(None, four).1, [source4]);
        let (len, kinds, _) = sent(Some(1452), four);
        assert_eq!((len, kinds), (space::<u16>() + space::<libc::in_pktinfo>(), vec![size, source4]));
        let six = Source::new("2001:db8::7".parse().expect("address"), 3);
        let (len, kinds, _) = sent(Some(1452), six);
        assert_eq!((len, kinds), (space::<u16>() + space::<libc::in6_pktinfo>(), vec![size, source6]));
    }

    #[test]
    fn n18_only_a_link_local_source_names_an_interface() {
        let named = |text: &str| {
            let source = Source::new(text.parse().expect("address"), 3);
            (source, sent(None, source).2.source)
        };
        let (source, read) = named("fe80::7");
        assert_eq!(read, source);
        // A source without an interface reads as none: the interface was left to the routes.
        assert_eq!(named("2001:db8::7").1, None);
        assert_eq!(named("192.0.2.7").1, None);
    }
}
