//! What the packet path's pure parts cost: `cargo run --release -p wgengine-core --example pace`.
//!
//! Nanoseconds per packet of 1420 bytes (or per look-up), the best of several rounds: the rest is the machine's noise.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;
use wgengine_core::packet::checksum::Sum;
use wgengine_core::packet::coalesce::{Coalescer, Commit};
use wgengine_core::packet::parse::source_and_length;
use wgengine_core::packet::segment::{Segments, MAX_PADDING};
use wgengine_core::packet::vnet::{VnetHeader, F_NEEDS_CSUM, GSO_TCPV4};
use wgengine_core::plan::Prefix;
use wgengine_core::policy::allowed::Allowed;

const ROUNDS: usize = 9;
const HEADER: usize = 52;
const PAYLOAD: usize = 1368;
const SEGMENTS: usize = 45;

/// Nanoseconds for one of the `count` things that `work` does.
fn pace(name: &str, count: usize, mut work: impl FnMut()) {
    let best = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_nanos() as f64 / count as f64
        })
        .fold(f64::MAX, f64::min);
    println!("{name:<44} {best:>8.1} ns");
}

/// A TCP packet with timestamps, 192.0.2.1 to 198.51.100.7, its checksums right.
fn packet(id: u16, seq: u32, payload: usize) -> Vec<u8> {
    let length = (HEADER + payload) as u16;
    let mut ip = vec![0x45, 0];
    ip.extend(length.to_be_bytes());
    ip.extend(id.to_be_bytes());
    ip.extend([0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7]);
    let sum = Sum::new().bytes(&ip).checksum();
    ip[10..12].copy_from_slice(&sum);
    let mut tcp = vec![0x01, 0xbb, 0x9c, 0x40];
    tcp.extend(seq.to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0x80, 0x10, 1, 0xf4, 0, 0, 0, 0, 1, 1, 8, 10]);
    tcp.extend([0, 0, 0, 9, 0, 0, 0, 8]);
    tcp.extend((0..payload).map(|i| (i * 7) as u8));
    let sum = Sum::pseudo_header(&ip[12..20], 6, tcp.len()).bytes(&tcp).checksum();
    tcp[16..18].copy_from_slice(&sum);
    [ip, tcp].concat()
}

fn checksum() {
    const TURNS: usize = 200_000;
    let bytes = packet(0, 0, PAYLOAD);
    pace("checksum, 1400 bytes", TURNS, || {
        for _ in 0..TURNS {
            black_box(Sum::new().bytes(black_box(&bytes[..1400])));
        }
    });
}

fn segment() {
    const TURNS: usize = 2000;
    let vnet = VnetHeader {
        flags: F_NEEDS_CSUM,
        gso_type: GSO_TCPV4,
        hdr_len: HEADER as u16,
        gso_size: PAYLOAD as u16,
        csum_start: 20,
        csum_offset: 16,
    };
    let read = [&vnet.to_bytes()[..], &packet(0, 0, PAYLOAD * SEGMENTS)].concat();
    let mut buf = vec![0; read.len() + MAX_PADDING];
    pace("copy of a super-packet (in the next figure)", TURNS * SEGMENTS, || {
        for _ in 0..TURNS {
            buf[..read.len()].copy_from_slice(black_box(&read));
            black_box(&buf);
        }
    });
    pace("segment, copy included", TURNS * SEGMENTS, || {
        for _ in 0..TURNS {
            buf[..read.len()].copy_from_slice(black_box(&read));
            let Ok(mut segments) = Segments::new(&mut buf, read.len()) else { return };
            while let Some(packet) = segments.next(|length| length.next_multiple_of(16).min(1420)) {
                black_box(packet);
            }
        }
    });
}

fn coalesce() {
    const TURNS: usize = 2000;
    let stream: Vec<Vec<u8>> = (0..SEGMENTS).map(|i| packet(i as u16, (i * PAYLOAD) as u32, PAYLOAD)).collect();
    let mixed: Vec<Vec<u8>> = (0..SEGMENTS).map(|i| packet(i as u16, i as u32, PAYLOAD)).collect();
    pace("copy of 45 packets (in the next figures)", TURNS * SEGMENTS, || {
        let mut block = vec![0; 65_536];
        for _ in 0..TURNS {
            for (i, packet) in stream.iter().enumerate() {
                block[i * PAYLOAD..][..packet.len()].copy_from_slice(black_box(packet));
            }
            black_box(&block);
        }
    });
    for (name, verify, packets) in [
        ("coalesce, joined, copy included", true, &stream),
        ("coalesce, joined, unverified, copy included", false, &stream),
        ("coalesce, none joined, copy included", true, &mixed),
    ] {
        let mut coalescer = Coalescer::new(true, true);
        coalescer.set_verify(verify);
        pace(name, TURNS * SEGMENTS, || {
            for _ in 0..TURNS {
                for packet in packets {
                    let Some(slot) = coalescer.slot(packet.len() + 32) else { return };
                    slot[..packet.len()].copy_from_slice(black_box(packet));
                    if coalescer.commit(packet.len()) == Commit::FlushFirst {
                        black_box(coalescer.take());
                    }
                }
                while let Some(block) = coalescer.take() {
                    black_box(block);
                }
            }
        });
    }
}

fn lookup() {
    const TURNS: usize = 1_000_000;
    let mut state = 1u32;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    // Host routes as a large tailnet has them (100.64.0.0/10), and prefixes all over the Internet's table.
    let hosts = |n: u32| Prefix::new(IpAddr::V4(Ipv4Addr::from(0x6440_0000 | n << 2)), 32);
    let spread = |n: u32| Prefix::new(IpAddr::V4(Ipv4Addr::from(n.wrapping_mul(0x9e37_79b1))), 24);
    let filled = |count: u32, prefix: &dyn Fn(u32) -> Option<Prefix>| {
        let mut table = Allowed::new();
        for n in 0..count {
            if let Some(prefix) = prefix(n) {
                table.insert(prefix, n % 1000);
            }
        }
        table
    };
    pace("insert, 130,560 host routes, each", 130_560, || {
        black_box(filled(130_560, &hosts).len());
    });
    for (name, count, table, start, bits) in [
        ("lookup among 2", 2, filled(2, &hosts), 0x6440_0000, 3),
        ("lookup among 1,000 host routes", 1000, filled(1000, &hosts), 0x6440_0000, 12),
        ("lookup among 100,000 host routes", 100_000, filled(100_000, &hosts), 0x6440_0000, 18),
        ("lookup among 100,000 scattered /24", 100_000, filled(100_000, &spread), 0, 32),
    ] {
        black_box(count);
        let mask = u32::MAX >> (32 - bits);
        let addrs: Vec<IpAddr> = (0..4096).map(|_| IpAddr::V4(Ipv4Addr::from(start | random() & mask))).collect();
        pace(name, TURNS, || {
            for turn in 0..TURNS {
                black_box(table.lookup(addrs[turn & 4095]));
            }
        });
    }
}

fn source() {
    const TURNS: usize = 1_000_000;
    let bytes = packet(0, 0, PAYLOAD);
    pace("source and length", TURNS, || {
        for _ in 0..TURNS {
            black_box(source_and_length(black_box(&bytes)).is_ok());
        }
    });
}

fn main() {
    checksum();
    segment();
    coalesce();
    source();
    lookup();
}
