//! Socket addresses as the kernel lays them out.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for an IPv4 or IPv6 socket address.
#[derive(Clone, Copy)]
#[repr(C)]
pub union Raw {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Default for Raw {
    fn default() -> Raw {
        // SAFETY: all zero is a valid value of both variants.
        unsafe { core::mem::zeroed() }
    }
}

impl Raw {
    pub const CAPACITY: libc::socklen_t = size_of::<Raw>() as libc::socklen_t;

    pub fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const *self).cast()
    }

    pub fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        (&raw mut *self).cast()
    }

    pub fn from_address(address: &SocketAddr) -> (Raw, libc::socklen_t) {
        let mut raw = Raw::default();
        match address {
            SocketAddr::V4(a) => {
                raw.v4.sin_family = libc::AF_INET as libc::sa_family_t;
                raw.v4.sin_port = a.port().to_be();
                raw.v4.sin_addr = libc::in_addr { s_addr: u32::from(*a.ip()).to_be() };
                (raw, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V6(a) => {
                raw.v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                raw.v6.sin6_port = a.port().to_be();
                raw.v6.sin6_flowinfo = a.flowinfo();
                raw.v6.sin6_addr = libc::in6_addr { s6_addr: a.ip().octets() };
                raw.v6.sin6_scope_id = a.scope_id();
                (raw, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
            }
        }
    }

    /// `None` when the kernel left it empty.
    pub fn address(&self) -> Option<SocketAddr> {
        // SAFETY: the family stands at the same place in both variants, and any bits are valid integers.
        let family = libc::c_int::from(unsafe { self.v4.sin_family });
        match family {
            libc::AF_INET => {
                // SAFETY: the family says that this variant was written.
                let a = unsafe { self.v4 };
                let ip = Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(a.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that this variant was written.
                let a = unsafe { self.v6 };
                let ip = Ipv6Addr::from(a.sin6_addr.s6_addr);
                let port = u16::from_be(a.sin6_port);
                Some(SocketAddrV6::new(ip, port, a.sin6_flowinfo, a.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_layout() {
        for text in ["192.0.2.1:51820", "[2001:db8::5]:1", "[fe80::1%3]:65535"] {
            let address: SocketAddr = text.parse().expect("address");
            assert_eq!(Raw::from_address(&address).0.address(), Some(address));
        }
        assert_eq!(Raw::default().address(), None);
    }
}
