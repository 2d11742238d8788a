//! Joining packets, against a slow model of GRO on packets as they were built; and back again with `segment`.

use crate::packets::*;
use proptest::prelude::*;
use wgengine_core::packet::coalesce::{Coalescer, Commit};
use wgengine_core::packet::segment::{Segments, MAX_PADDING};

/// A packet as it comes out of the tunnel.
#[derive(Clone, Debug)]
struct Arrival {
    packet: Packet,
    bytes: Vec<u8>,
    /// Its checksum is wrong.
    damaged: bool,
    /// It has none.
    unsummed: bool,
}

impl Arrival {
    fn of(packet: Packet) -> Arrival {
        Arrival { bytes: packet.bytes(), packet, damaged: false, unsummed: false }
    }
}

/// Whether `next` joins the packets of `run`.
fn joins(run: &[&Arrival], next: &Arrival, tso: bool, uso: bool, verify: bool) -> bool {
    let (first, last) = (&run[0].packet, &run[run.len() - 1].packet);
    let packet = &next.packet;
    let allowed = if packet.tcp { tso } else { uso };
    let intact = !verify || (!run[0].damaged && !next.damaged);
    let summed = !run[0].unsummed && !next.unsummed;
    let plain = [first, packet]
        .iter()
        .all(|p| p.extra.is_empty() && !p.payload.is_empty() && (!p.tcp || (p.flags & !(PSH | FIN | ECE) == ACK)));
    // Equal but for what may differ.
    let comparable = |p: &Packet| Packet {
        id: if p.ipv6 || p.df { 0 } else { p.id },
        flags: if p.tcp { p.flags & !(PSH | FIN) } else { 0 },
        flow_label: if p.ipv6 { p.flow_label } else { 0 },
        df: p.df && !p.ipv6,
        seq: if p.tcp { p.seq } else { 0 },
        ack: if p.tcp { p.ack } else { 0 },
        window: if p.tcp { p.window } else { 0 },
        payload: Vec::new(),
        ..p.clone()
    };
    let before: usize = run.iter().map(|a| a.packet.payload.len()).sum();
    let mut expected = comparable(first);
    if !first.ipv6 && !first.df {
        expected.id = expected.id.wrapping_add(run.len() as u16);
    }
    if first.tcp {
        expected.seq = expected.seq.wrapping_add(before as u32);
    }
    let size = first.payload.len();
    allowed
        && intact
        && summed
        && plain
        && size >= first.header()
        && last.payload.len() == size
        && packet.payload.len() <= size
        && (!first.tcp || last.flags & (PSH | FIN) == 0)
        && comparable(packet) == expected
        && first.header() + before + packet.payload.len() <= 65_535
        && (packet.tcp || run.len() < 64)
}

/// The super-packet that a run of packets makes.
fn merged(run: &[&Arrival]) -> Packet {
    let mut packet = run[0].packet.clone();
    packet.payload = run.iter().flat_map(|a| a.packet.payload.clone()).collect();
    if packet.tcp {
        packet.flags |= run[run.len() - 1].packet.flags & (PSH | FIN);
    }
    packet
}

/// Checks one block against the packets that it must stand for, as a whole and cut again.
fn check_block(block: &[u8], run: &[&Arrival]) {
    let first = &run[0].packet;
    if run.len() == 1 {
        assert_eq!(&block[..10], &[0; 10], "a packet that stays alone says nothing");
        assert_eq!(&block[10..], &run[0].bytes[..], "a packet that stays alone is not touched");
        return;
    }
    let kind = match (first.tcp, first.ipv6) {
        (true, false) => 1,
        (true, true) => 4,
        (false, _) => 5,
    };
    let offset = if first.tcp { 16 } else { 6 };
    let mut header = vnet(1, kind, first.payload.len() as u16, first.transport(), offset);
    header[2..4].copy_from_slice(&(first.header() as u16).to_ne_bytes());
    assert_eq!(&block[..10], &header[..]);
    if run.iter().all(|a| !a.damaged) {
        assert_eq!(&block[10..], &merged(run).bytes_with(Check::Partial)[..]);
        let mut room = [block, &[0x5a; MAX_PADDING]].concat();
        let segments = Segments::new(&mut room, block.len()).expect("our own block");
        check_cut(segments, run);
    }
}

/// Byte for byte, but for the identification where DF makes it say nothing.
fn check_cut(mut segments: Segments<'_>, run: &[&Arrival]) {
    assert_eq!(segments.count(), run.len());
    for (i, arrival) in run.iter().enumerate() {
        let (bytes, _) = segments.next(|length| length).expect("a packet");
        let mut expected = arrival.packet.clone();
        if expected.df {
            expected.id = run[0].packet.id.wrapping_add(i as u16);
        }
        assert_eq!(bytes, &expected.bytes()[..], "packet {i} of {}", run.len());
    }
}

/// What the caller does around the packets.
#[derive(Clone, Copy, Debug)]
struct Manner {
    tso: bool,
    uso: bool,
    verify: bool,
    /// Every so many packets one is opened and thrown away, and one slot is left without an answer.
    discards: usize,
    /// Whether the kernel refuses super-packets.
    refuses: bool,
}

/// Sends all arrivals through a coalescer, expects of each commit what the model says, and checks every block.
/// Returns how many blocks there were.
fn run_through(arrivals: &[Arrival], manner: Manner) -> usize {
    let Manner { tso, uso, verify, discards, refuses } = manner;
    let mut coalescer = Coalescer::new(tso, uso);
    coalescer.set_verify(verify);
    let mut run: Vec<&Arrival> = Vec::new();
    let (mut blocks, mut out) = (0, 0);
    fn flush(coalescer: &mut Coalescer, run: &mut Vec<&Arrival>, refuses: bool) -> usize {
        let (block, count) = coalescer.take().expect("something was built");
        assert_eq!(count, run.len());
        check_block(block, run);
        if refuses && run.iter().all(|a| !a.damaged) {
            check_cut(coalescer.recut().expect("just taken"), run);
            assert!(coalescer.recut().is_err(), "only once");
        }
        run.drain(..).count()
    }
    for (i, arrival) in arrivals.iter().enumerate() {
        // What a decrypted datagram takes: padding and tag.
        let room = arrival.bytes.len().next_multiple_of(16) + 16;
        if discards > 0 && i % discards == 0 {
            if let Some(slot) = coalescer.slot(900) {
                slot.fill(0xdd);
                coalescer.discard();
            }
            if let Some(slot) = coalescer.slot(200) {
                slot.fill(0xdd);
            }
        }
        if coalescer.slot(room).is_none() {
            blocks += 1;
            out += flush(&mut coalescer, &mut run, refuses);
        }
        let slot = coalescer.slot(room).expect("an empty block has room");
        slot.fill(0xcc);
        slot[..arrival.bytes.len()].copy_from_slice(&arrival.bytes);
        let expected = match &run[..] {
            [] => Commit::Started,
            run if joins(run, arrival, tso, uso, verify) => Commit::Joined,
            _ => Commit::FlushFirst,
        };
        assert_eq!(coalescer.commit(arrival.bytes.len()), expected, "packet {i}");
        if expected == Commit::FlushFirst {
            assert_eq!(coalescer.slot(1), None, "no slot before the flush");
            blocks += 1;
            out += flush(&mut coalescer, &mut run, refuses);
            if i % 2 == 0 {
                assert_eq!(coalescer.commit(arrival.bytes.len()), Commit::Started);
            }
        }
        run.push(arrival);
    }
    while !run.is_empty() {
        blocks += 1;
        out += flush(&mut coalescer, &mut run, refuses);
    }
    assert!(coalescer.is_empty() && coalescer.take().is_none());
    assert_eq!(out, arrivals.len(), "every packet comes out exactly once");
    blocks
}

const PLAIN: Manner = Manner { tso: true, uso: true, verify: true, discards: 0, refuses: false };

fn sample(ipv6: bool, tcp: bool, payload: usize) -> Packet {
    Packet {
        ipv6,
        tcp,
        hosts: (1, 2),
        ports: (443, 40_000),
        tos: 0,
        ttl: 63,
        df: false,
        id: 0xfffe,
        flow_label: 77,
        seq: 0xffff_f000,
        ack: 5,
        flags: ACK,
        reserved: 0,
        window: 500,
        options: if tcp { noise(9, 12) } else { Vec::new() },
        extra: Vec::new(),
        payload: noise(4, payload),
    }
}

/// `count` packets of `size` payload bytes that belong together.
fn stream(ipv6: bool, tcp: bool, size: usize, count: usize) -> Vec<Packet> {
    let whole = Packet { payload: noise(8, size * count), ..sample(ipv6, tcp, 0) };
    (0..count)
        .map(|i| Packet {
            id: whole.id.wrapping_add(i as u16),
            seq: whole.seq.wrapping_add((i * size) as u32),
            payload: whole.payload[i * size..(i + 1) * size].to_vec(),
            ..whole.clone()
        })
        .collect()
}

fn arrivals(packets: Vec<Packet>) -> Vec<Arrival> {
    packets.into_iter().map(Arrival::of).collect()
}

const KINDS: [(bool, bool); 4] = [(false, true), (true, true), (false, false), (true, false)];

#[test]
fn a_stream_becomes_super_packets() {
    for (ipv6, tcp) in KINDS {
        // 48 segments of 1348 bytes fit into 65,535; 64 datagrams is the most.
        assert_eq!(run_through(&arrivals(stream(ipv6, tcp, 1348, 96)), PLAIN), 2, "{ipv6} {tcp}");
        assert_eq!(run_through(&arrivals(stream(ipv6, tcp, 500, 128)), PLAIN), if tcp { 1 } else { 2 });
    }
}

#[test]
fn without_offloads_every_packet_stays_alone() {
    for (ipv6, tcp) in KINDS {
        let packets = arrivals(stream(ipv6, tcp, 1348, 9));
        assert_eq!(run_through(&packets, Manner { tso: false, uso: false, ..PLAIN }), 9);
        assert_eq!(run_through(&packets, Manner { uso: false, ..PLAIN }), if tcp { 1 } else { 9 });
        assert_eq!(run_through(&packets, Manner { tso: false, ..PLAIN }), if tcp { 9 } else { 1 });
    }
}

/// Each change to the third of five packets, and how many blocks that makes.
#[test]
fn what_differs_does_not_join() {
    type Change = fn(&mut Packet);
    let tcp: [(&str, usize, Change); 17] = [
        ("nothing", 1, |_| {}),
        ("PSH ends", 2, |p| p.flags |= PSH),
        ("FIN ends", 2, |p| p.flags |= FIN),
        ("SYN", 3, |p| p.flags |= SYN),
        ("RST", 3, |p| p.flags |= RST),
        ("URG", 3, |p| p.flags |= URG),
        ("CWR", 3, |p| p.flags |= CWR),
        ("ECE", 3, |p| p.flags |= ECE),
        ("no ACK", 3, |p| p.flags &= !ACK),
        ("acknowledgement", 3, |p| p.ack += 1),
        ("AccECN", 3, |p| p.reserved ^= 1),
        ("window", 3, |p| p.window += 1),
        ("gap", 3, |p| p.seq = p.seq.wrapping_add(1)),
        ("shorter options", 3, |p| p.options.truncate(8)),
        ("other options", 3, |p| p.options[3] ^= 1),
        ("no payload", 3, |p| p.payload.clear()),
        ("shorter ends", 2, |p| p.payload.truncate(700)),
    ];
    let both: [(&str, usize, Change); 7] = [
        ("port", 3, |p| p.ports.1 += 1),
        ("address", 3, |p| p.hosts.0 += 1),
        ("TTL", 3, |p| p.ttl -= 1),
        ("congestion experienced", 3, |p| p.tos |= 3),
        ("longer", 3, |p| p.payload.push(0)),
        ("options or extension header", 3, |p| p.extra = if p.ipv6 { vec![0; 6] } else { vec![1; 4] }),
        ("no payload", 3, |p| p.payload.clear()),
    ];
    let ipv4: [(&str, usize, Change); 2] = [("DF", 3, |p| p.df = true), ("identification", 3, |p| p.id ^= 0x100)];
    for (ipv6, is_tcp) in KINDS {
        let changes = both.iter().chain(if is_tcp { &tcp[..] } else { &[] }).chain(if ipv6 { &[] } else { &ipv4[..] });
        for (name, blocks, change) in changes {
            let mut packets = stream(ipv6, is_tcp, 1000, 5);
            change(&mut packets[2]);
            assert_eq!(run_through(&arrivals(packets), PLAIN), *blocks, "{name}, IPv6 {ipv6}, TCP {is_tcp}");
        }
    }
}

#[test]
fn with_df_the_identification_says_nothing() {
    let packets = stream(false, true, 1000, 6).into_iter().enumerate();
    let fixed = packets.map(|(i, p)| Packet { df: true, id: [0, 7, 7, 8, 1, 0][i], ..p }).collect();
    assert_eq!(run_through(&arrivals(fixed), Manner { refuses: true, ..PLAIN }), 1);
}

#[test]
fn a_damaged_packet_reaches_the_kernel_as_it_is() {
    for (ipv6, tcp) in KINDS {
        for at in 0..4 {
            let mut packets = arrivals(stream(ipv6, tcp, 1000, 4));
            let packet = &mut packets[at];
            *packet.bytes.last_mut().expect("bytes") ^= 1;
            packet.damaged = true;
            let blocks = [2, 3, 3, 2][at];
            assert_eq!(run_through(&packets, PLAIN), blocks, "damaged {at}, IPv6 {ipv6}, TCP {tcp}");
            assert_eq!(run_through(&packets, Manner { verify: false, ..PLAIN }), 1);
        }
    }
}

#[test]
fn a_damaged_ipv4_header_is_not_mended() {
    let mut packets = arrivals(stream(false, true, 1000, 4));
    packets[1].bytes[10] ^= 1;
    packets[1].damaged = true;
    assert_eq!(run_through(&packets, PLAIN), 3);
}

#[test]
fn a_datagram_without_checksum_does_not_get_one() {
    let mut packets = arrivals(stream(false, false, 1000, 4));
    let packet = &mut packets[1];
    packet.bytes = packet.packet.bytes_with(Check::None);
    packet.unsummed = true;
    assert_eq!(run_through(&packets, PLAIN), 3);
    assert_eq!(run_through(&packets, Manner { verify: false, ..PLAIN }), 3);
}

#[test]
fn fragments_stay_alone() {
    for word in [0x2000u16, 0x0001, 0x2001] {
        let mut coalescer = Coalescer::new(true, true);
        coalescer.set_verify(false);
        for (i, packet) in stream(false, false, 1000, 4).iter().enumerate() {
            let mut bytes = packet.bytes();
            bytes[6..8].copy_from_slice(&word.to_be_bytes());
            coalescer.slot(1100).expect("room")[..bytes.len()].copy_from_slice(&bytes);
            let expected = if i == 0 { Commit::Started } else { Commit::FlushFirst };
            assert_eq!(coalescer.commit(bytes.len()), expected);
            if i > 0 {
                assert_eq!(coalescer.take().map(|(block, count)| (block.len(), count)), Some((1038, 1)));
            }
        }
    }
}

/// Flags that keep a packet alone even if all packets have them.
#[test]
fn special_segments_stay_alone() {
    for ipv6 in [false, true] {
        for flags in [0, ACK | SYN, ACK | RST, ACK | URG, ACK | CWR, ACK | PSH, ACK | FIN] {
            let packets = stream(ipv6, true, 1000, 4).into_iter().map(|p| Packet { flags, ..p }).collect();
            assert_eq!(run_through(&arrivals(packets), PLAIN), 4, "flags {flags:#x}");
        }
        let packets = stream(ipv6, true, 1000, 4).into_iter().map(|p| Packet { flags: ACK | ECE, ..p }).collect();
        assert_eq!(run_through(&arrivals(packets), PLAIN), 1, "ECE says how the path is, as long as it stays");
    }
}

/// A packet with less payload than header is not worth joining, and could not lie where the next one is opened.
#[test]
fn small_packets_stay_alone() {
    for (ipv6, tcp) in KINDS {
        let header = sample(ipv6, tcp, 0).header();
        assert_eq!(run_through(&arrivals(stream(ipv6, tcp, header - 1, 5)), PLAIN), 5);
        assert_eq!(run_through(&arrivals(stream(ipv6, tcp, header, 5)), PLAIN), 1);
    }
}

#[test]
fn only_what_was_taken_last_can_be_cut_again() {
    let mut coalescer = Coalescer::new(true, true);
    let bytes = sample(false, true, 100).bytes();
    let fill = |coalescer: &mut Coalescer| {
        coalescer.slot(200).expect("room")[..bytes.len()].copy_from_slice(&bytes);
        coalescer.commit(bytes.len())
    };
    assert_eq!(fill(&mut coalescer), Commit::Started);
    assert!(coalescer.recut().is_err(), "not taken yet");
    assert_eq!(fill(&mut coalescer), Commit::FlushFirst);
    assert!(coalescer.take().is_some());
    assert_eq!(coalescer.commit(0), Commit::Started);
    assert!(coalescer.recut().is_err(), "the kept packet lies there now");
    assert!(coalescer.take().is_some() && coalescer.slot(200).is_some());
    assert!(coalescer.recut().is_err(), "a slot lies there now");
}

#[test]
fn what_is_no_packet_passes_untouched() {
    let mut coalescer = Coalescer::new(true, true);
    for bytes in [vec![0u8; 1], vec![0x45; 19], vec![0x60; 39], vec![0xff; 65_491]] {
        for _ in 0..2 {
            let slot = coalescer.slot(bytes.len() + 16).expect("room");
            slot[..bytes.len()].copy_from_slice(&bytes);
            assert_eq!(coalescer.commit(bytes.len()), Commit::Started);
            let (block, count) = coalescer.take().expect("a block");
            assert_eq!((&block[10..], count), (&bytes[..], 1));
        }
    }
    assert!(coalescer.slot(100_000).is_none() && coalescer.slot(usize::MAX).is_none());
    assert_eq!(coalescer.commit(5), Commit::Joined, "no slot, no packet");
    assert!(coalescer.take().is_none() && coalescer.recut().is_err());
}

#[test]
fn offloads_can_go_half_way() {
    let mut coalescer = Coalescer::new(true, true);
    let packets = arrivals(stream(false, true, 1000, 5));
    for (i, arrival) in packets.iter().enumerate() {
        if i == 3 {
            coalescer.set_offloads(false, true);
        }
        let slot = coalescer.slot(arrival.bytes.len() + 16).expect("room");
        slot[..arrival.bytes.len()].copy_from_slice(&arrival.bytes);
        let expected = [Commit::Started, Commit::Joined, Commit::Joined, Commit::FlushFirst, Commit::FlushFirst][i];
        assert_eq!(coalescer.commit(arrival.bytes.len()), expected);
        if expected == Commit::FlushFirst {
            let (block, _) = coalescer.take().expect("a block");
            let run: Vec<&Arrival> = if i == 3 { packets[..3].iter().collect() } else { vec![&packets[3]] };
            check_block(block, &run);
        }
    }
}

/// What one step of the mixed traffic does to the packet that its flow would send.
#[derive(Clone, Copy, Debug)]
enum Twist {
    No,
    Flags(u8),
    Size(usize),
    Damage,
    Skip,
    Tos,
    Extra,
}

fn twist() -> impl Strategy<Value = Twist> {
    prop_oneof![
        30 => Just(Twist::No),
        1 => prop_oneof![Just(PSH), Just(FIN), Just(ECE), Just(CWR), Just(SYN), Just(RST)].prop_map(Twist::Flags),
        1 => (0usize..1500).prop_map(Twist::Size),
        1 => Just(Twist::Damage),
        1 => Just(Twist::Skip),
        1 => Just(Twist::Tos),
        1 => Just(Twist::Extra),
    ]
}

proptest! {
    #[test]
    fn joins_what_the_model_joins_and_nothing_is_lost(
        mut flows in prop::collection::vec((headers(false), 1usize..1400), 1..4),
        steps in prop::collection::vec((0usize..3, 1usize..60, twist()), 1..40),
        offloads in any::<(bool, bool)>(),
        verify in prop::bool::weighted(0.8),
        discards in 0usize..4,
        refuses in any::<bool>(),
    ) {
        let mut sent = Vec::new();
        for (flow, _) in &mut flows {
            flow.flags = ACK;
        }
        for (flow, count, twist) in steps {
            let which = flow % flows.len();
            let (flow, size) = &mut flows[which];
            for i in 0..count {
                let mut packet = Packet { payload: noise(sent.len() as u64, *size), ..flow.clone() };
                let mut damaged = false;
                if i == count / 2 {
                    match twist {
                        Twist::No => {}
                        Twist::Flags(flags) => packet.flags |= flags,
                        Twist::Size(size) => packet.payload = noise(7, size),
                        Twist::Damage => damaged = true,
                        Twist::Skip => packet.seq = packet.seq.wrapping_add(1),
                        Twist::Tos => packet.tos ^= 3,
                        Twist::Extra => packet.extra = if packet.ipv6 { vec![0; 6] } else { vec![1; 4] },
                    }
                }
                let mut bytes = packet.bytes();
                if damaged {
                    let at = packet.transport() + if packet.tcp { 17 } else { 7 };
                    bytes[at] ^= 0x20;
                }
                flow.id = packet.id.wrapping_add(1);
                flow.seq = packet.seq.wrapping_add(packet.payload.len() as u32);
                sent.push(Arrival { packet, bytes, damaged, unsummed: false });
            }
        }
        let (tso, uso) = offloads;
        run_through(&sent, Manner { tso: tso || uso, uso, verify, discards, refuses });
    }
}
