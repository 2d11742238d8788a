//! Packets in, super-packets out, cut again: the same packets in the same order, whatever they were.

use crate::bytes::{pseudo_header, slow_sum, Bytes};
use std::collections::VecDeque;
use wgengine_core::packet::coalesce::{Coalescer, Commit};
use wgengine_core::packet::segment::{Segments, MAX_PADDING};
use wgengine_core::packet::vnet;

/// At the edges of what may be joined; some fifty of the longest are more than one length field can tell.
const PAYLOADS: [usize; 8] = [0, 1, 59, 60, 61, 100, 300, 1380];

pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let flags = bytes.byte();
    let (tso, uso, verify) = (flags & 1 == 0, flags & 2 == 0, flags & 4 == 0);
    let mut coalescer = Coalescer::new(tso, uso);
    coalescer.set_verify(verify);
    let mut flow = Flow::default();
    let mut waiting = VecDeque::new();
    while !bytes.is_empty() {
        let packet = match bytes.byte() {
            0xff => {
                coalescer.set_offloads(bytes.flag(), bytes.flag());
                continue;
            }
            0xfe => {
                coalescer.slot(bytes.word().into());
                coalescer.discard();
                continue;
            }
            0xfd => {
                drain(&mut coalescer, &mut waiting, verify);
                continue;
            }
            0xfc => {
                let length = usize::from(bytes.byte());
                bytes.take(length).to_vec()
            }
            kind => flow.packet(kind, &mut bytes),
        };
        give(&mut coalescer, &packet, &mut waiting, verify);
    }
    drain(&mut coalescer, &mut waiting, verify);
    assert!(coalescer.is_empty() && waiting.is_empty());
}

/// One packet, as the inbound path gives it.
fn give(coalescer: &mut Coalescer, packet: &[u8], waiting: &mut VecDeque<Vec<u8>>, verify: bool) {
    let room = packet.len() + 16;
    if coalescer.slot(room).is_none() {
        drain(coalescer, waiting, verify);
    }
    let slot = coalescer.slot(room).expect("an empty block has room for every datagram");
    slot[..packet.len()].copy_from_slice(packet);
    slot[packet.len()..].fill(0xa5);
    let commit = coalescer.commit(packet.len());
    if commit == Commit::FlushFirst {
        take(coalescer, waiting, verify);
    }
    waiting.push_back(packet.to_vec());
}

fn drain(coalescer: &mut Coalescer, waiting: &mut VecDeque<Vec<u8>>, verify: bool) {
    while take(coalescer, waiting, verify) {}
}

fn take(coalescer: &mut Coalescer, waiting: &mut VecDeque<Vec<u8>>, verify: bool) -> bool {
    let Some((block, count)) = coalescer.take() else { return false };
    let block = block.to_vec();
    let packets: Vec<_> = waiting.drain(..count).collect();
    if let [alone] = &packets[..] {
        assert!(block[..vnet::LEN] == [0; vnet::LEN] && block[vnet::LEN..] == alone[..], "alone and as it was");
        return true;
    }
    let mut room = [&block[..], &[0; MAX_PADDING]].concat();
    same(Segments::new(&mut room, block.len()).expect("our own block"), &packets, verify);
    same(coalescer.recut().expect("taken just now"), &packets, verify);
    true
}

fn same(mut cut: Segments<'_>, packets: &[Vec<u8>], verify: bool) {
    assert_eq!(cut.count(), packets.len());
    for packet in packets {
        let (again, _) = cut.next(|length| length).expect("as many as went in");
        assert!(told(again, verify) == told(packet, verify), "a packet has changed on its way");
    }
}

/// What a packet says, less what says nothing: the identification where DF is set (RFC 6864, 4.1), and whether a zero
/// sum is written as zeros or ones. Checksums that nobody verifies are made right.
fn told(packet: &[u8], verify: bool) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let v4 = packet[0] >> 4 == 4;
    let (transport, protocol) = if v4 { (20, packet[9]) } else { (40, packet[6]) };
    if v4 {
        let header_intact = slow_sum(&[&packet[..20]]) == 0xffff;
        packet[10..12].fill(0);
        if verify {
            packet.push(u8::from(header_intact));
        }
        if packet[6] & 0x40 != 0 {
            packet[4..6].fill(0);
        }
    }
    let end = packet.len() - usize::from(v4 && verify);
    let pseudo = pseudo_header(&packet, protocol, end - transport);
    let intact = slow_sum(&[&pseudo, &packet[transport..end]]) == 0xffff;
    let at = transport + if protocol == 6 { 16 } else { 6 };
    packet[at..at + 2].fill(0);
    if verify {
        packet.push(u8::from(intact));
    }
    packet
}

/// Makes packets that follow each other, and some that do not.
#[derive(Default)]
struct Flow {
    sequence: u32,
    identification: u16,
}

impl Flow {
    /// `kind`: family, transport, payload length, DF; then what is odd about it.
    fn packet(&mut self, kind: u8, bytes: &mut Bytes<'_>) -> Vec<u8> {
        let (v6, tcp, df) = (kind & 1 != 0, kind & 2 != 0, kind & 4 != 0);
        let payload = PAYLOADS[usize::from(kind >> 3) % PAYLOADS.len()];
        let odd = bytes.byte();
        if odd & 0x80 != 0 {
            self.sequence = self.sequence.wrapping_add(bytes.byte().into());
            self.identification = self.identification.wrapping_add(bytes.byte().into());
        }
        let options = if odd & 0x40 != 0 { usize::from(bytes.byte() % 11) * 4 } else { 0 };
        let flags = if odd & 0x20 != 0 { bytes.byte() } else { 0x10 };
        let mut packet = self.built(v6, tcp, df, payload, options, flags);
        self.sequence = self.sequence.wrapping_add(payload as u32);
        self.identification = self.identification.wrapping_add(1);
        if odd & 0x10 != 0 {
            let at = usize::from(bytes.word()) % packet.len();
            packet[at] ^= bytes.byte();
            if odd & 8 != 0 {
                sum(&mut packet, v6, tcp);
            }
        }
        if odd & 4 != 0 {
            packet.truncate(usize::from(bytes.word()) % (packet.len() + 1));
        }
        packet
    }

    fn built(&self, v6: bool, tcp: bool, df: bool, payload: usize, options: usize, flags: u8) -> Vec<u8> {
        let header = if tcp { 20 + options } else { 8 };
        let length = header + payload;
        let protocol = if tcp { 6 } else { 17 };
        let mut packet = if v6 {
            let mut ip = vec![0x60, 0, 0, 0, (length >> 8) as u8, length as u8, protocol, 64];
            ip.extend([0x22; 32]);
            ip
        } else {
            let total = (20 + length) as u16;
            let [a, b] = total.to_be_bytes();
            let [c, d] = self.identification.to_be_bytes();
            vec![0x45, 0, a, b, c, d, if df { 0x40 } else { 0 }, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
        };
        packet.extend([0x30, 0x39, 0, 80]);
        if tcp {
            packet.extend(self.sequence.to_be_bytes());
            packet.extend([0, 0, 0, 9, (header * 4) as u8, flags, 1, 0, 0, 0, 0, 0]);
            packet.extend(std::iter::repeat_n(1, options));
        } else {
            packet.extend((length as u16).to_be_bytes());
            packet.extend([0, 0]);
        }
        packet.extend((0..payload).map(|at| (at as u8).wrapping_add(self.sequence as u8)));
        sum(&mut packet, v6, tcp);
        packet
    }
}

/// Writes both checksums.
fn sum(packet: &mut [u8], v6: bool, tcp: bool) {
    let transport = if v6 { 40 } else { 20 };
    if !v6 {
        packet[10..12].fill(0);
        let sum = !slow_sum(&[&packet[..20]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    let at = transport + if tcp { 16 } else { 6 };
    packet[at..at + 2].fill(0);
    // What a flipped bit says about version does not matter here.
    let addresses = if v6 { packet[8..40].to_vec() } else { packet[12..20].to_vec() };
    let length = ((packet.len() - transport) as u32).to_be_bytes();
    let pseudo = [&addresses[..], &length, &[0, 0, 0, if tcp { 6 } else { 17 }]].concat();
    let sum = match !slow_sum(&[&pseudo, &packet[transport..]]) {
        0 => 0xffff,
        sum => sum,
    };
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}
