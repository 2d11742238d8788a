use crate::fd::Held;
use crate::netlink;
use std::io;
use std::os::fd::OwnedFd;

pub use crate::netlink::drain;

/// Links too: routes that go with one are not always told of by themselves. The two last have no legacy name.
const ROUTES: u32 = (libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV4_RULE
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV6_ROUTE) as u32
    | group(RTNLGRP_IPV6_RULE)
    | group(RTNLGRP_NEXTHOP);
const RTNLGRP_IPV6_RULE: u32 = 19;
const RTNLGRP_NEXTHOP: u32 = 32;

const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

pub fn of_links() -> io::Result<Held<OwnedFd>> {
    netlink::open(libc::RTMGRP_LINK as u32)
}

pub fn of_routes() -> io::Result<Held<OwnedFd>> {
    netlink::open(ROUTES)
}
