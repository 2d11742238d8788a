//! Packets built field by field, with checksums summed byte by byte: what the models are made of.

use proptest::prelude::*;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;
pub const URG: u8 = 0x20;
pub const ECE: u8 = 0x40;
pub const CWR: u8 = 0x80;

/// Everything that a TCP or UDP packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub ipv6: bool,
    pub tcp: bool,
    /// Last byte of source and destination address.
    pub hosts: (u8, u8),
    pub ports: (u16, u16),
    pub tos: u8,
    pub ttl: u8,
    pub df: bool,
    pub id: u16,
    pub flow_label: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    /// The four bits beside the data offset: reserved, or AccECN's AE.
    pub reserved: u8,
    pub window: u16,
    /// TCP options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv4 options, a multiple of four bytes; or the body of an IPv6 destination options header, six bytes and a
    /// multiple of eight. Empty: none.
    pub extra: Vec<u8>,
    pub payload: Vec<u8>,
}

/// How a packet's checksum is filled in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Full,
    /// The pseudo-header's sum only.
    Partial,
    /// UDP without one.
    None,
}

impl Packet {
    pub fn protocol(&self) -> u8 {
        if self.tcp {
            6
        } else {
            17
        }
    }

    /// Where the transport header starts.
    pub fn transport(&self) -> usize {
        let extension = if self.ipv6 && !self.extra.is_empty() { 2 } else { 0 };
        (if self.ipv6 { 40 } else { 20 }) + extension + self.extra.len()
    }

    /// Length of IP and transport header.
    pub fn header(&self) -> usize {
        self.transport() + if self.tcp { 20 + self.options.len() } else { 8 }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_with(Check::Full)
    }

    pub fn bytes_with(&self, check: Check) -> Vec<u8> {
        let segment = self.segment(check);
        let mut packet = if self.ipv6 { self.ipv6_header(segment.len()) } else { self.ipv4_header(segment.len()) };
        packet.extend(segment);
        packet
    }

    fn addresses(&self) -> (Vec<u8>, Vec<u8>) {
        let address = |host: u8| {
            if self.ipv6 {
                [&[0xfd, 0x7a, 0x11, 0x5c][..], &[0; 11], &[host]].concat()
            } else {
                vec![100, 64, 0, host]
            }
        };
        (address(self.hosts.0), address(self.hosts.1))
    }

    fn ipv4_header(&self, segment: usize) -> Vec<u8> {
        let length = 20 + self.extra.len();
        let (source, destination) = self.addresses();
        let mut header = vec![0x40 | (length / 4) as u8, self.tos];
        header.extend(((length + segment) as u16).to_be_bytes());
        header.extend(self.id.to_be_bytes());
        header.extend([if self.df { 0x40 } else { 0 }, 0, self.ttl, self.protocol(), 0, 0]);
        header.extend(source);
        header.extend(destination);
        header.extend(&self.extra);
        let sum = !slow_sum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn ipv6_header(&self, segment: usize) -> Vec<u8> {
        let extension = self.transport() - 40;
        let (source, destination) = self.addresses();
        let mut header = vec![0x60 | self.tos >> 4, self.tos << 4];
        header.extend(self.flow_label.to_be_bytes());
        header.extend(((extension + segment) as u16).to_be_bytes());
        header.extend([if extension > 0 { 60 } else { self.protocol() }, self.ttl]);
        header.extend(source);
        header.extend(destination);
        if extension > 0 {
            header.extend([self.protocol(), (extension / 8 - 1) as u8]);
            header.extend(&self.extra);
        }
        header
    }

    fn segment(&self, check: Check) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(self.ports.0.to_be_bytes());
        segment.extend(self.ports.1.to_be_bytes());
        if self.tcp {
            segment.extend(self.seq.to_be_bytes());
            segment.extend(self.ack.to_be_bytes());
            segment.extend([((20 + self.options.len()) * 4) as u8 | self.reserved, self.flags]);
            segment.extend(self.window.to_be_bytes());
            segment.extend([0; 4]);
            segment.extend(&self.options);
        } else {
            segment.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            segment.extend([0; 2]);
        }
        segment.extend(&self.payload);
        let (source, destination) = self.addresses();
        let mut summed = [source, destination].concat();
        summed.extend((segment.len() as u32).to_be_bytes());
        summed.extend([0, 0, 0, self.protocol()]);
        let sum = match check {
            Check::Partial => slow_sum(&summed),
            Check::Full => {
                summed.extend(&segment);
                match !slow_sum(&summed) {
                    0 if !self.tcp => 0xffff,
                    sum => sum,
                }
            }
            Check::None => 0,
        };
        let at = if self.tcp { 16 } else { 6 };
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    /// The same packet with two bytes at the payload's even offset `at` chosen so that its checksum comes out as zero.
    pub fn with_zero_checksum(mut self, at: usize) -> Packet {
        self.payload[at..at + 2].fill(0);
        let bytes = self.bytes();
        let sum = self.transport() + if self.tcp { 16 } else { 6 };
        self.payload[at..at + 2].copy_from_slice(&bytes[sum..sum + 2]);
        self
    }

    /// What a super-packet stands for: the payload in pieces of `size`, each a packet of its own.
    pub fn split(&self, size: usize) -> Vec<Packet> {
        let pieces: Vec<Vec<u8>> = self.payload.chunks(size).map(<[u8]>::to_vec).collect();
        let last = pieces.len() - 1;
        let piece = |(i, payload): (usize, Vec<u8>)| {
            let mut packet = Packet { payload, ..self.clone() };
            packet.id = self.id.wrapping_add(i as u16);
            packet.seq = self.seq.wrapping_add((i * size) as u32);
            if i < last {
                packet.flags &= !(FIN | PSH);
            }
            if i > 0 {
                packet.flags &= !CWR;
            }
            packet
        };
        pieces.into_iter().enumerate().map(piece).collect()
    }
}

/// The one's-complement sum, two bytes at a time.
pub fn slow_sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0u16, |sum, pair| {
        let word = u16::from(pair[0]) << 8 | u16::from(pair.get(1).copied().unwrap_or(0));
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// Bytes that differ from place to place and from seed to seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(byte).collect()
}

/// The vnet header, field by field.
pub fn vnet(flags: u8, gso_type: u8, gso_size: u16, csum_start: usize, csum_offset: u16) -> Vec<u8> {
    let mut header = vec![flags, gso_type, 0, 0];
    header.extend(gso_size.to_ne_bytes());
    header.extend((csum_start as u16).to_ne_bytes());
    header.extend(csum_offset.to_ne_bytes());
    header
}

/// Any headers, no payload; `with_extra`: IPv4 options and IPv6 extension headers too.
pub fn headers(with_extra: bool) -> impl Strategy<Value = Packet> {
    let ip = (any::<bool>(), any::<(u8, u8)>(), any::<u8>(), any::<u8>(), any::<bool>(), any::<u16>(), any::<u16>());
    let tcp = (any::<bool>(), any::<u32>(), any::<u32>(), any::<u8>(), any::<u16>());
    let options = (0usize..=10).prop_map(|words| noise(words as u64, words * 4));
    let extra = prop_oneof![3 => Just(None), 1 => (0usize..=4).prop_map(Some)];
    (ip, any::<(u16, u16)>(), tcp, options, extra).prop_map(move |(ip, ports, tcp, options, extra)| {
        let (ipv6, hosts, tos, ttl, df, id, flow_label) = ip;
        let (tcp, seq, ack, flags, window) = tcp;
        let extra = match extra.filter(|_| with_extra) {
            None => Vec::new(),
            Some(units) if ipv6 => noise(7, 6 + units * 8),
            Some(units) => vec![1; units * 4], // IPv4's "no operation"
        };
        let (payload, options) = (Vec::new(), if tcp { options } else { Vec::new() });
        Packet {
            ipv6,
            tcp,
            hosts,
            ports,
            tos,
            ttl,
            df,
            id,
            flow_label,
            seq,
            ack,
            flags,
            reserved: 0,
            window,
            options,
            extra,
            payload,
        }
    })
}
