//! Which packets may follow each other in one super-packet: the rules of the kernel's own GRO, so that cutting the
//! super-packet gives the same packets back.
//!
//! Same addresses, ports, TTL, TOS, DF, flow label, window, acknowledgement and options; TCP sequence numbers without
//! a gap; equal payload sizes, of which only the last may be shorter; FIN and PSH on the last only. Everything else
//! that is special about a packet keeps it alone: fragments, IPv4 options, IPv6 extension headers, no payload, SYN,
//! RST, URG, CWR, a UDP datagram without checksum.
//!
//! IPv4 identification: without DF it must count up by one, as cutting makes it do. With DF it says nothing, as such
//! a packet is never reassembled (RFC 6864, 4.1), so any value will do; senders use zero, a constant or a counter.

use super::checksum::Sum;
use super::parse::{protocol, IPV4_HEADER, IPV6_HEADER};
use super::transport::{
    ACK, ECE, FIN_PSH, TCP_DATA_OFFSET, TCP_FLAGS, TCP_HEADER, UDP_CHECKSUM, UDP_HEADER, UDP_LENGTH,
};

/// Longest header that can be shared: IPv6 and TCP with all its options.
pub(super) const MAX_HEADER: usize = IPV6_HEADER + 60;

const DF: u8 = 0x40;

/// What a packet that could be joined with others looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub tcp: bool,
    pub ipv6: bool,
    /// Where the transport header starts.
    pub transport: usize,
    /// Length of IP and transport header.
    pub header: usize,
    /// Bytes behind the headers; never 0.
    pub payload: usize,
    /// FIN or PSH: nothing may follow.
    pub ends: bool,
}

impl Shape {
    /// `None`: this packet stays alone.
    pub fn of(packet: &[u8]) -> Option<Shape> {
        let ipv6 = packet.first()? >> 4 == 6;
        let (transport, next) = if ipv6 {
            let ip = packet.first_chunk::<IPV6_HEADER>()?;
            let declared = IPV6_HEADER + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            (declared == packet.len()).then_some((IPV6_HEADER, ip[6]))?
        } else {
            let ip = packet.first_chunk::<IPV4_HEADER>()?;
            let declared = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            let whole = ip[0] == 0x45 && ip[6] & !DF == 0 && ip[7] == 0;
            (whole && declared == packet.len()).then_some((IPV4_HEADER, ip[9]))?
        };
        let segment = &packet[transport..];
        let (length, ends) = match next {
            protocol::TCP => tcp(segment)?,
            protocol::UDP => (udp(segment)?, false),
            _ => return None,
        };
        let payload = segment.len().checked_sub(length).filter(|payload| *payload > 0)?;
        let tcp = next == protocol::TCP;
        Some(Shape { tcp, ipv6, transport, header: transport + length, payload, ends })
    }

    /// Whether the IPv4 header's and the transport's checksum are right. A packet in which they are not must reach
    /// the kernel as it is, as joining would give it a right one.
    pub fn is_intact(&self, packet: &[u8]) -> bool {
        let (ip, segment) = packet.split_at(self.transport);
        (self.ipv6 || Sum::new().bytes(ip).is_intact())
            && self.pseudo_header(ip, segment.len()).bytes(segment).is_intact()
    }

    /// The pseudo-header's sum for a segment of `length` bytes behind the IP header `ip`.
    pub fn pseudo_header(&self, ip: &[u8], length: usize) -> Sum {
        let addresses = if self.ipv6 { &ip[8..40] } else { &ip[12..20] };
        Sum::pseudo_header(addresses, if self.tcp { protocol::TCP } else { protocol::UDP }, length)
    }

    /// Whether the packet `next`, of this shape, may follow `count` packets with `bytes` of payload in all, the first
    /// of which has the shape `run` and the header `first`. Payload sizes are not compared here.
    pub fn follows(&self, next: &[u8], run: &Shape, first: &[u8], count: usize, bytes: usize) -> bool {
        if (self.tcp, self.ipv6, self.header) != (run.tcp, run.ipv6, run.header) || next.len() < self.header {
            return false;
        }
        let same = |from: usize, to: usize| next[from..to] == first[from..to];
        let ip = if self.ipv6 {
            same(0, 4) && same(6, 40)
        } else {
            let id = |p: &[u8]| u16::from_be_bytes([p[4], p[5]]);
            let counts_up = id(next) == id(first).wrapping_add(count as u16);
            same(0, 2) && same(6, 10) && same(12, 20) && (first[6] & DF != 0 || counts_up)
        };
        let t = self.transport;
        if !self.tcp {
            return ip && same(t, t + 4);
        }
        let sequence = |p: &[u8]| u32::from_be_bytes([p[t + 4], p[t + 5], p[t + 6], p[t + 7]]);
        ip && same(t, t + 4)
            && sequence(next) == sequence(first).wrapping_add(bytes as u32)
            && same(t + 8, t + 13)
            && (next[t + TCP_FLAGS] ^ first[t + TCP_FLAGS]) & !FIN_PSH == 0
            && same(t + 14, t + 16)
            && same(t + 18, self.header)
    }
}

/// Length of the TCP header, and whether the segment ends a run.
fn tcp(segment: &[u8]) -> Option<(usize, bool)> {
    let header = segment.first_chunk::<TCP_HEADER>()?;
    let (length, flags) = (usize::from(header[TCP_DATA_OFFSET] >> 4) * 4, header[TCP_FLAGS]);
    let plain = flags & ACK != 0 && flags & !(ACK | ECE | FIN_PSH) == 0;
    (plain && length >= TCP_HEADER).then_some((length, flags & FIN_PSH != 0))
}

/// Length of the UDP header.
fn udp(segment: &[u8]) -> Option<usize> {
    let header = segment.first_chunk::<UDP_HEADER>()?;
    let declared = usize::from(u16::from_be_bytes([header[UDP_LENGTH], header[UDP_LENGTH + 1]]));
    (declared == segment.len() && header[UDP_CHECKSUM..] != [0, 0]).then_some(UDP_HEADER)
}
