//! Where a peer is, and which of our own addresses it knows us by: an answer that leaves from another one would be
//! taken for a stranger's by whatever stands in between.

use core::num::NonZeroU32;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One of our own addresses, as a datagram named it, and the interface that the datagram came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// IPv4 as a mapped address, which keeps an endpoint's source at 20 bytes.
    address: Ipv6Addr,
    interface: NonZeroU32,
}

impl Source {
    /// `None` for interface 0, which is none.
    pub fn new(address: IpAddr, interface: u32) -> Option<Source> {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        Some(Source { address, interface: NonZeroU32::new(interface)? })
    }

    pub fn interface(&self) -> u32 {
        self.interface.get()
    }

    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.address.to_ipv4_mapped()
    }

    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.ipv4().is_none().then_some(self.address)
    }
}

/// Where a peer is, and the source that it is answered from; without one the kernel chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub source: Option<Source>,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint { address, source: None }
    }
}

/// Whether a learnt source still serves: asked once for each state of the host's routes, which has a number.
#[derive(Default)]
pub(super) struct Checked(Option<(u32, bool)>);

impl Checked {
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }

    pub(super) fn answer(&mut self, routes: u32, ask: impl FnOnce() -> bool) -> bool {
        match self.0 {
            Some((known, serves)) if known == routes => serves,
            _ => self.0.insert((routes, ask())).1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_of_one_family_and_small() {
        let four = Source::new(IpAddr::from([192, 0, 2, 1]), 3).expect("an interface");
        assert_eq!((four.ipv4(), four.ipv6(), four.interface()), (Some([192, 0, 2, 1].into()), None, 3));
        let six: Ipv6Addr = "fe80::1".parse().expect("address");
        let source = Source::new(six.into(), 3).expect("an interface");
        assert_eq!((source.ipv4(), source.ipv6()), (None, Some(six)));
        assert_eq!(Source::new(six.into(), 0), None);
        assert!(size_of::<Option<Source>>() <= 20);
    }

    #[test]
    fn what_was_checked_holds_until_the_routes_change() {
        let mut checked = Checked::default();
        assert!(!checked.answer(1, || false));
        assert!(!checked.answer(1, || unreachable!("asked already")));
        assert!(checked.answer(2, || true));
        checked.forget();
        assert!(!checked.answer(2, || false));
    }
}
