//! rtnetlink is asked by which way a datagram would leave.

use crate::fd::Held;
use crate::{changes, netlink};
use parking_lot::Mutex;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use wgengine_core::tunnel::endpoint::{Endpoint, Source};

const HEADER_LEN: usize = 16;
const ROUTE_LEN: usize = 12;
const RTA_MARK: u16 = 16;
const RTA_IP_PROTO: u16 = 27;
const RTA_SPORT: u16 = 28;
const RTA_DPORT: u16 = 29;

/// The routes of the network namespace that the sockets are in.
#[derive(Debug, Default)]
pub struct Routes {
    changes: Option<Held<OwnedFd>>,
    /// A socket for questions, and the number of the last one.
    questions: Option<Mutex<(Held<OwnedFd>, u32)>>,
    port: u16,
    mark: AtomicU32,
}

impl Routes {
    /// For sockets on this port. A host without rtnetlink is asked nothing: sources last until a send is refused.
    pub fn new(port: u16, mark: u32) -> Routes {
        Routes {
            changes: changes::of_routes().ok(),
            questions: netlink::open(0).ok().map(|netlink| Mutex::new((netlink, 0))),
            port,
            mark: AtomicU32::new(mark),
        }
    }

    /// Readable when something changed.
    pub fn changes(&self) -> Option<RawFd> {
        self.changes.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Take in what changed. True: something did.
    pub fn look(&self) -> bool {
        self.changes.as_ref().is_some_and(|told| changes::drain(told))
    }

    pub fn set_mark(&self, mark: u32) {
        self.mark.store(mark, Ordering::Relaxed);
    }

    /// May the endpoint be answered from its source? Yes as well where nobody can tell.
    pub fn serves(&self, endpoint: &Endpoint) -> bool {
        let Some(source) = &endpoint.source else { return true };
        if matches!(endpoint.address, SocketAddr::V6(to) if to.scope_id() != 0) {
            // The address itself says by which interface.
            return true;
        }
        let Ok(way) = self.ask(&self.way_to(&endpoint.address, source)) else { return true };
        let same_way = way.is_some_and(|route| route.interface == source.interface());
        // Asked for a way from an IPv4 address, the kernel looks whether it is ours; not so from an IPv6 one.
        same_way && source.ipv6().is_none_or(|address| self.is_ours(address))
    }

    fn is_ours(&self, address: Ipv6Addr) -> bool {
        match self.ask(&Question::new(address.into())) {
            Ok(route) => route.is_some_and(|route| matches!(route.kind, libc::RTN_LOCAL | libc::RTN_ANYCAST)),
            Err(_) => true,
        }
    }

    /// The question by which way our datagrams to `to` leave from `source`.
    fn way_to(&self, to: &SocketAddr, source: &Source) -> Question {
        let mut question = Question::new(to.ip());
        match (source.ipv4(), source.ipv6()) {
            (Some(address), _) => question.put(libc::RTA_SRC, &address.octets()),
            (_, Some(address)) => question.put(libc::RTA_SRC, &address.octets()),
            _ => {}
        }
        question.put(RTA_MARK, &self.mark.load(Ordering::Relaxed).to_ne_bytes());
        // Rules and the choice among several next hops may look at these.
        question.put(RTA_IP_PROTO, &[libc::IPPROTO_UDP as u8]);
        question.put(RTA_SPORT, &self.port.to_be_bytes());
        question.put(RTA_DPORT, &to.port().to_be_bytes());
        question
    }

    /// The kernel answers at once. `None`: there is no such route.
    fn ask(&self, question: &Question) -> io::Result<Option<Route>> {
        let Some(questions) = &self.questions else { return Err(io::ErrorKind::Unsupported.into()) };
        let (netlink, number) = &mut *questions.lock();
        *number = number.wrapping_add(1);
        netlink::send(netlink, &question.numbered(*number))?;
        let mut buffer = [0u8; 1024];
        loop {
            let answer = netlink::receive(netlink, &mut buffer)?;
            if answer.get(8..12) == Some(&number.to_ne_bytes()[..]) {
                return Ok(Route::parse(answer));
            }
        }
    }
}

/// RTM_GETROUTE: a header, a route, attributes.
#[derive(Clone, Debug)]
struct Question {
    bytes: Vec<u8>,
}

impl Question {
    fn new(to: IpAddr) -> Question {
        let (family, bits) = if to.is_ipv4() { (libc::AF_INET, 32) } else { (libc::AF_INET6, 128) };
        let mut bytes = vec![0; HEADER_LEN + ROUTE_LEN];
        bytes[4..6].copy_from_slice(&libc::RTM_GETROUTE.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
        bytes[HEADER_LEN] = family as u8;
        bytes[HEADER_LEN + 1] = bits;
        let mut question = Question { bytes };
        match to {
            IpAddr::V4(to) => question.put(libc::RTA_DST, &to.octets()),
            IpAddr::V6(to) => question.put(libc::RTA_DST, &to.octets()),
        }
        question
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        if kind == libc::RTA_SRC {
            self.bytes[HEADER_LEN + 2] = 8 * value.len() as u8;
        }
        self.bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn numbered(&self, number: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let len = bytes.len() as u32;
        bytes[0..4].copy_from_slice(&len.to_ne_bytes());
        bytes[8..12].copy_from_slice(&number.to_ne_bytes());
        bytes
    }
}

/// What the kernel said of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    kind: u8,
    interface: u32,
}

impl Route {
    /// `None` for an error in a route's place.
    fn parse(answer: &[u8]) -> Option<Route> {
        let two = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
        if two(4)? != libc::RTM_NEWROUTE {
            return None;
        }
        let kind = *answer.get(HEADER_LEN + 7)?;
        let mut at = HEADER_LEN + ROUTE_LEN;
        while let Some(len) = two(at).map(usize::from).filter(|len| *len >= 4) {
            if two(at + 2)? == libc::RTA_OIF {
                let interface = u32::from_ne_bytes(answer.get(at + 4..at + 8)?.try_into().ok()?);
                return Some(Route { kind, interface });
            }
            at += len.next_multiple_of(4);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, source: &str, interface: u32) -> Endpoint {
        let source = Source::new(source.parse().expect("address"), interface);
        Endpoint { address: address.parse().expect("address"), source }
    }

    /// Loopback is interface 1 of every network namespace.
    #[test]
    fn n17_n19_a_source_serves_while_it_is_ours_and_leaves_by_its_interface() {
        let routes = Routes::new(51820, 0);
        assert!(routes.serves(&endpoint("127.0.0.1:1", "127.0.0.1", 1)));
        assert!(routes.serves(&endpoint("127.0.0.1:1", "127.0.0.9", 1)));
        assert!(!routes.serves(&endpoint("127.0.0.1:1", "127.0.0.1", 2)), "the way out is another interface's");
        assert!(!routes.serves(&endpoint("127.0.0.1:1", "192.0.2.77", 1)), "no address of ours");
        assert!(routes.serves(&endpoint("[::1]:1", "::1", 1)));
        assert!(!routes.serves(&endpoint("[::1]:1", "::1", 2)));
        assert!(!routes.serves(&endpoint("[::1]:1", "2001:db8::77", 1)));
        assert!(routes.serves(&endpoint("[fe80::1%7]:1", "fe80::2", 7)), "link-local: the address names the way");
    }

    #[test]
    fn what_is_no_route_is_none() {
        assert_eq!(Route::parse(&[]), None);
        let mut answer = vec![0; HEADER_LEN + ROUTE_LEN];
        answer[4..6].copy_from_slice(&libc::RTM_NEWROUTE.to_ne_bytes());
        assert_eq!(Route::parse(&answer), None, "no interface");
        let mut question = Question { bytes: answer };
        question.put(libc::RTA_PRIORITY, &[1]);
        question.put(libc::RTA_OIF, &7u32.to_ne_bytes());
        assert_eq!(Route::parse(&question.bytes), Some(Route { kind: 0, interface: 7 }));
        for len in 0..question.bytes.len() {
            assert_eq!(Route::parse(&question.bytes[..len]), None, "cut at {len}");
        }
        question.bytes[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());
        assert_eq!(Route::parse(&question.bytes), None);
    }
}
