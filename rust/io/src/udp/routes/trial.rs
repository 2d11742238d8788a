//! Whether a source serves, found out with sockets alone: what any BSD can be asked.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use wgengine_core::tunnel::endpoint::Endpoint;

/// Is it an address of ours, and on the interface by which the kernel would send to the endpoint?
pub fn serves(endpoint: &Endpoint) -> bool {
    let Some(source) = &endpoint.source else { return true };
    if matches!(endpoint.address, SocketAddr::V6(to) if to.scope_id() != 0) {
        // The address itself says by which interface.
        return true;
    }
    let address = match (source.ipv4(), source.ipv6()) {
        (Some(address), _) => IpAddr::V4(address),
        (_, address) => IpAddr::V6(address.unwrap_or(Ipv6Addr::UNSPECIFIED)),
    };
    let ours =
        UdpSocket::bind((address, 0)).map_or_else(|error| error.kind() != io::ErrorKind::AddrNotAvailable, |_| true);
    ours && match chosen(endpoint.address) {
        Ok(chosen) => chosen == address || interface_of(chosen).is_none_or(|index| index == source.interface()),
        // Without a way out it is not the source that is at fault.
        Err(_) => true,
    }
}

/// The address of ours that the kernel would send from, left alone.
fn chosen(to: SocketAddr) -> io::Result<IpAddr> {
    let any = if to.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// The index of the interface that has this address.
fn interface_of(address: IpAddr) -> Option<u32> {
    let mut first: *mut libc::ifaddrs = core::ptr::null_mut();
    // SAFETY: `first` is a valid place for the list's head.
    if unsafe { libc::getifaddrs(&mut first) } < 0 {
        return None;
    }
    let mut next = first;
    let mut found = None;
    // SAFETY: the list is the library's until it is freed, and each entry is followed by the next or by null.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: an entry's address is null or a socket address of its family's size.
        if unsafe { ip_of(entry.ifa_addr) } == Some(address) {
            // SAFETY: an entry has a name that ends in NUL.
            let index = unsafe { libc::if_nametoindex(CStr::from_ptr(entry.ifa_name).as_ptr()) };
            found = Some(index).filter(|index| *index != 0);
            break;
        }
        next = entry.ifa_next;
    }
    // SAFETY: the list's head, once.
    unsafe { libc::freeifaddrs(first) };
    found
}

/// # Safety
/// `address` is null, or points to a socket address of its family's size.
unsafe fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller's promise.
    let family = libc::c_int::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: the family says what it is; it may lie unaligned.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgengine_core::tunnel::endpoint::Source;

    fn endpoint(address: &str, source: &str, interface: u32) -> Endpoint {
        let source = Source::new(source.parse().expect("address"), interface);
        Endpoint { address: address.parse().expect("address"), source }
    }

    /// Loopback is interface 1 of a Linux network namespace and of macOS.
    #[test]
    fn n17_n19_a_trial_tells_whether_a_source_serves() {
        assert!(serves(&endpoint("127.0.0.1:1", "127.0.0.1", 1)));
        assert!(serves(&endpoint("[::1]:1", "::1", 1)));
        assert!(!serves(&endpoint("127.0.0.1:1", "192.0.2.77", 1)), "no address of ours");
        assert!(!serves(&endpoint("[::1]:1", "2001:db8::77", 1)), "no address of ours");
        assert!(serves(&endpoint("[fe80::1%7]:1", "fe80::2", 7)), "link-local: the address names the way");
    }

    #[test]
    fn interfaces_are_found_by_their_addresses() {
        assert_eq!(interface_of(IpAddr::V4(Ipv4Addr::LOCALHOST)), Some(1));
        assert_eq!(interface_of("192.0.2.77".parse().expect("address")), None);
    }
}
