//! What came out of a tunnel: where it says it comes from, and where it ends.

use std::net::IpAddr;
use wgengine_core::observe::drop::Drop;
use wgengine_core::packet::parse::source_and_length;

pub fn run(data: &[u8]) {
    assert_eq!(source_and_length(data), model(data).ok_or(Drop::MalformedInner));
}

/// Field by field: version, header length, total length, and nothing that lies.
fn model(packet: &[u8]) -> Option<(IpAddr, usize)> {
    let be = |at: usize| usize::from(packet[at]) << 8 | usize::from(packet[at + 1]);
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => {
            let header = usize::from(packet[0] & 15) * 4;
            let source = <[u8; 4]>::try_from(&packet[12..16]).ok()?;
            (header >= 20 && be(2) >= header && be(2) <= packet.len()).then(|| (source.into(), be(2)))
        }
        6 if packet.len() >= 40 => {
            let source = <[u8; 16]>::try_from(&packet[8..24]).ok()?;
            (be(4) + 40 <= packet.len()).then(|| (source.into(), be(4) + 40))
        }
        _ => None,
    }
}
