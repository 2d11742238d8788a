//! Cut a TUN read into packets, in place and one at a time.
//!
//! ```text
//! read      [vnet | header | payload 0 | payload 1 | payload 2 ]
//! packet 0         [header | payload 0 |
//! packet 1                      [header | payload 1 |
//! packet 2                                  [header | payload 2 ]
//! ```
//!
//! Each packet's header is written straight in front of its payload, over the end of the payload before it, which has
//! been sealed by then. No payload byte moves. The zeros that pad a packet lie on the head of the next payload, whose
//! bytes wait aside until they are needed.

use super::checksum::Sum;
use super::parse::{protocol, Parsed, IPV6_HEADER};
use super::transport::{
    CWR, FIN_PSH, TCP_CHECKSUM, TCP_DATA_OFFSET, TCP_FLAGS, TCP_HEADER, TCP_SEQUENCE, UDP_CHECKSUM, UDP_HEADER,
    UDP_LENGTH,
};
use super::vnet::{self, VnetHeader};
use crate::observe::drop::Drop;
use std::net::IpAddr;

/// Padding bytes that a packet may need: plaintext is padded to a multiple of 16 (whitepaper 5.4.6).
pub const MAX_PADDING: usize = 15;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Handed out as it is.
    Whole,
    Tcp,
    Udp,
}

/// The packets of one TUN read: a lending iterator.
pub struct Segments<'a> {
    buf: &'a mut [u8],
    parsed: Parsed,
    kind: Kind,
    /// Bytes of IP and transport header, repeated in every packet.
    header: usize,
    /// Bytes of the read's payload.
    payload: usize,
    /// Payload bytes of every packet but the last.
    size: usize,
    count: usize,
    /// Packets handed out.
    done: usize,
    /// FIN and PSH, as the last packet has them.
    last_flags: u8,
    /// The pseudo-header's sum, without the length.
    pseudo: Sum,
    /// What lay where the zeros of the packet handed out last are.
    aside: [u8; MAX_PADDING],
    padded: std::ops::Range<usize>,
}

impl<'a> Segments<'a> {
    /// `buf` starts with the `len` bytes read: the vnet header, and a packet or super-packet. At least
    /// [`MAX_PADDING`] bytes must follow them, for the last packet's padding. A whole packet whose checksum was left
    /// to us gets it here.
    pub fn new(buf: &'a mut [u8], len: usize) -> Result<Segments<'a>, Drop> {
        Segments::checked(buf, len).ok_or(Drop::MalformedPacket)
    }

    fn checked(buf: &'a mut [u8], len: usize) -> Option<Segments<'a>> {
        if len.checked_add(MAX_PADDING)? > buf.len() {
            return None;
        }
        let told = VnetHeader::read(&buf[..len])?;
        let packet = &mut buf[vnet::LEN..len];
        let parsed = Parsed::of(packet)?;
        let packet = &mut packet[..parsed.length];
        let kind = match (told.gso_type & !vnet::GSO_ECN, parsed.version, parsed.protocol) {
            (vnet::GSO_NONE, _, _) => Kind::Whole,
            (vnet::GSO_TCPV4, 4, protocol::TCP) | (vnet::GSO_TCPV6, 6, protocol::TCP) => Kind::Tcp,
            (vnet::GSO_UDP_L4, _, protocol::UDP) => Kind::Udp,
            _ => return None,
        };
        if kind == Kind::Whole {
            if told.flags & vnet::F_NEEDS_CSUM != 0 {
                complete_checksum(packet, &parsed, &told)?;
            }
            return Some(Segments::over(buf, parsed, kind, parsed.length, 0));
        }
        let header = super_header(packet, &parsed, &told, kind)?;
        Some(Segments::over(buf, parsed, kind, header, usize::from(told.gso_size)))
    }

    fn over(buf: &'a mut [u8], parsed: Parsed, kind: Kind, header: usize, size: usize) -> Segments<'a> {
        let packet = &buf[vnet::LEN..];
        let payload = parsed.length - header;
        let (mut last_flags, mut pseudo) = (0, Sum::new());
        if kind != Kind::Whole {
            let addresses = if parsed.version == 4 { &packet[12..20] } else { &packet[8..40] };
            pseudo = Sum::pseudo_header(addresses, parsed.protocol, 0);
        }
        if kind == Kind::Tcp {
            last_flags = packet[parsed.transport + TCP_FLAGS] & FIN_PSH;
        }
        let count = if payload == 0 { 1 } else { payload.div_ceil(size) };
        let (done, aside, padded) = (0, [0; MAX_PADDING], 0..0);
        Segments { buf, parsed, kind, header, payload, size, count, done, last_flags, pseudo, aside, padded }
    }

    /// What the read's header says; of a super-packet, `length` is that of the whole.
    pub fn parsed(&self) -> &Parsed {
        &self.parsed
    }

    pub fn source(&self) -> IpAddr {
        self.parsed.source
    }

    pub fn destination(&self) -> IpAddr {
        self.parsed.destination
    }

    /// How many packets the read stands for.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Length of the longest packet, before padding: every one but the last has it.
    pub fn longest(&self) -> usize {
        self.header + self.size.min(self.payload)
    }

    /// The next packet with its padding, and its length without. `pad` says how long a packet of a given length is to
    /// become; it can add [`MAX_PADDING`] bytes at most.
    #[allow(clippy::should_implement_trait)] // it lends: the packet lies where the next one's header will
    pub fn next(&mut self, pad: impl Fn(usize) -> usize) -> Option<(&[u8], usize)> {
        self.put_back();
        if self.done == self.count {
            return None;
        }
        let start = vnet::LEN + self.done * self.size;
        let length = self.header + self.size.min(self.payload - self.done * self.size);
        if self.kind != Kind::Whole {
            self.write_header(start, length);
        }
        self.done += 1;
        let end = start + pad(length).clamp(length, length + MAX_PADDING);
        self.set_aside(start + length..end);
        Some((&self.buf[start..end], length))
    }

    fn set_aside(&mut self, padded: std::ops::Range<usize>) {
        let bytes = &mut self.buf[padded.clone()];
        self.aside[..bytes.len()].copy_from_slice(bytes);
        bytes.fill(0);
        self.padded = padded;
    }

    fn put_back(&mut self) {
        let bytes = &mut self.buf[self.padded.clone()];
        bytes.copy_from_slice(&self.aside[..bytes.len()]);
        self.padded = 0..0;
    }

    /// Makes the header of the packet at `start`, `length` bytes long, out of the one before it.
    fn write_header(&mut self, start: usize, length: usize) {
        let first = self.done == 0;
        let last = self.done + 1 == self.count;
        if !first {
            let before = start - self.size;
            self.buf.copy_within(before..before + self.header, start);
        }
        let packet = &mut self.buf[start..start + length];
        let (ip, segment) = packet.split_at_mut(self.parsed.transport);
        if self.parsed.version == 4 {
            ip[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            if !first {
                add_be16(&mut ip[4..6], 1);
            }
            ip[10..12].fill(0);
            let sum = Sum::new().bytes(ip).checksum();
            ip[10..12].copy_from_slice(&sum);
        } else {
            ip[4..6].copy_from_slice(&((length - IPV6_HEADER) as u16).to_be_bytes());
        }
        let pseudo = self.pseudo.word(segment.len() as u16);
        if self.kind == Kind::Tcp {
            if first {
                segment[TCP_FLAGS] &= !FIN_PSH;
            } else {
                add_be32(&mut segment[TCP_SEQUENCE..TCP_SEQUENCE + 4], self.size as u32);
                // CWR answers one ECE: only the first may carry it (RFC 3168, 6.1.2).
                segment[TCP_FLAGS] &= !CWR;
            }
            if last {
                segment[TCP_FLAGS] |= self.last_flags;
            }
            segment[TCP_CHECKSUM..TCP_CHECKSUM + 2].fill(0);
            let sum = pseudo.bytes(segment).checksum();
            segment[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&sum);
        } else {
            let length = (segment.len() as u16).to_be_bytes();
            segment[UDP_LENGTH..UDP_LENGTH + 2].copy_from_slice(&length);
            segment[UDP_CHECKSUM..UDP_CHECKSUM + 2].fill(0);
            let sum = pseudo.bytes(segment).udp_checksum();
            segment[UDP_CHECKSUM..UDP_CHECKSUM + 2].copy_from_slice(&sum);
        }
    }
}

/// Checks a super-packet and returns the length of its headers. The kernel's own `hdr_len` is not asked.
fn super_header(packet: &[u8], parsed: &Parsed, told: &VnetHeader, kind: Kind) -> Option<usize> {
    if told.gso_size == 0 || parsed.fragment.is_some() {
        return None;
    }
    let transport = packet.get(parsed.transport..)?;
    let (least, header, checksum) = match kind {
        Kind::Tcp => (TCP_HEADER, usize::from(transport.get(TCP_DATA_OFFSET)? >> 4) * 4, TCP_CHECKSUM),
        _ => (UDP_HEADER, UDP_HEADER, UDP_CHECKSUM),
    };
    if header < least || header > transport.len() {
        return None;
    }
    let partial = told.flags & vnet::F_NEEDS_CSUM != 0;
    let at = (usize::from(told.csum_start), usize::from(told.csum_offset));
    if partial && at != (parsed.transport, checksum) {
        return None;
    }
    Some(parsed.transport + header)
}

/// Completes the checksum of a whole packet. It need not be the outermost transport's: the kernel leaves that of a
/// packet inside VXLAN or GRE to us as well. Like the kernel, a sum of zero is written as ones.
fn complete_checksum(packet: &mut [u8], parsed: &Parsed, told: &VnetHeader) -> Option<()> {
    let (start, offset) = (usize::from(told.csum_start), usize::from(told.csum_offset));
    if start < parsed.transport {
        return None;
    }
    let summed = packet.get_mut(start..)?;
    // The field holds the pseudo-header's sum, so it is a part of what is summed.
    summed.get(offset..offset + 2)?;
    let sum = Sum::new().bytes(summed).udp_checksum();
    summed[offset..offset + 2].copy_from_slice(&sum);
    Some(())
}

fn add_be16(field: &mut [u8], by: u16) {
    if let [a, b] = field {
        [*a, *b] = u16::from_be_bytes([*a, *b]).wrapping_add(by).to_be_bytes();
    }
}

fn add_be32(field: &mut [u8], by: u32) {
    if let [a, b, c, d] = field {
        [*a, *b, *c, *d] = u32::from_be_bytes([*a, *b, *c, *d]).wrapping_add(by).to_be_bytes();
    }
}
