//! `send-numbered` and `receive-numbered`: UDP packets that bear their number, so that none can be lost, repeated or
//! overtaken unseen.

use crate::arguments::Arguments;
use crate::pace::Pace;
use crate::report::Report;
use crate::socket::{Inbox, Outgoing, Socket, BATCH};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

/// number, then how many there were in all (0: there will be more)
const HEADER: usize = 16;
/// In place of a number: the end.
const END: u64 = u64::MAX;
/// The end is told more than once: it may be lost as well.
const ENDS: usize = 10;
/// A number beyond is not from our sender.
const MOST: u64 = 1 << 28;

fn header(number: u64, total: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&number.to_be_bytes());
    header[8..].copy_from_slice(&total.to_be_bytes());
    header
}

/// `send-numbered --to ADDRESS:PORT --rate N --seconds S --length BYTES`
pub fn send(mut arguments: Arguments) -> Result<String, String> {
    let to = arguments.address("to")?;
    let (rate, lasts) = (arguments.number("rate", 20_000)?, arguments.seconds("seconds", 10.0)?);
    let length = (arguments.number("length", 200)? as usize).clamp(HEADER, 1400);
    arguments.end()?;
    let fault = |why: std::io::Error| format!("{to}: {why}");
    let socket = Socket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).map_err(fault)?;
    let mut pace = Pace::new(rate, lasts);
    let mut packets = vec![vec![0; length]; BATCH];
    let mut number = 0;
    while let Some(due) = pace.due(BATCH) {
        for packet in &mut packets[..due] {
            packet[..HEADER].copy_from_slice(&header(number, 0));
            number += 1;
        }
        let batch: Vec<Outgoing<'_>> = packets[..due].iter().map(|bytes| Outgoing { bytes, from: None }).collect();
        let mut rest = &batch[..];
        while !rest.is_empty() {
            rest = &rest[socket.send(to, rest).map_err(fault)?..];
        }
    }
    let seconds = pace.elapsed().as_secs_f64();
    for _ in 0..ENDS {
        std::thread::sleep(Duration::from_millis(30));
        socket.send(to, &[Outgoing { bytes: &header(END, number), from: None }]).map_err(fault)?;
    }
    let report = Report::default().word("load", "send-numbered").count("sent", number).decimal("seconds", seconds);
    Ok(report.decimal("rate", number as f64 / seconds).text())
}

/// What has come of the numbers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    bits: Vec<u64>,
    received: u64,
    duplicates: u64,
    /// They came after a higher number.
    reordered: u64,
    /// By how much at most.
    depth: u64,
    next: u64,
    total: Option<u64>,
}

impl Seen {
    fn take(&mut self, packet: &[u8]) {
        let Some(header) = packet.get(..HEADER) else { return };
        let word = |at: usize| header[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let (number, total) = (word(0), word(8));
        if number == END {
            self.total = Some(total);
        }
        if number >= MOST {
            return;
        }
        let (at, bit) = ((number / 64) as usize, 1 << (number % 64));
        if at >= self.bits.len() {
            self.bits.resize(at + 1, 0);
        }
        if self.bits[at] & bit != 0 {
            self.duplicates += 1;
            return;
        }
        self.bits[at] |= bit;
        self.received += 1;
        if number < self.next {
            self.reordered += 1;
            self.depth = self.depth.max(self.next - 1 - number);
        }
        self.next = self.next.max(number + 1);
    }
}

/// `receive-numbered --at ADDRESS:PORT --seconds S`: until the end is told, or the time is over.
pub fn receive(mut arguments: Arguments) -> Result<String, String> {
    let (at, most) = (arguments.address("at")?, arguments.seconds("seconds", 60.0)?);
    arguments.end()?;
    let fault = |why: std::io::Error| format!("{at}: {why}");
    let socket = Socket::bind(at).map_err(fault)?;
    socket.large_buffer().map_err(fault)?;
    let (mut inbox, mut seen, began) = (Inbox::default(), Seen::default(), Instant::now());
    while began.elapsed() < most && seen.total.is_none() {
        socket.wait(Duration::from_millis(100)).map_err(fault)?;
        while socket.receive(&mut inbox).map_err(fault)? > 0 {
            inbox.datagrams().for_each(|packet| seen.take(packet));
        }
    }
    let total = seen.total.unwrap_or(seen.next);
    let report = Report::default().word("load", "receive-numbered").count("sent", total);
    let report = report.count("received", seen.received).count("lost", total - seen.received.min(total));
    let report = report.count("duplicates", seen.duplicates).count("reordered", seen.reordered);
    Ok(report.count("depth", seen.depth).count("ended", u64::from(seen.total.is_some())).text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_twice_or_late_is_counted_as_such() {
        let mut seen = Seen::default();
        for number in [0, 1, 4, 2, 2, 5, 70] {
            seen.take(&header(number, 0));
        }
        seen.take(&header(END, 80));
        seen.take(&header(END - 1, 0));
        seen.take(&[0; HEADER - 1]);
        assert_eq!((seen.received, seen.duplicates, seen.reordered, seen.depth), (6, 1, 1, 2));
        assert_eq!((seen.next, seen.total), (71, Some(80)));
    }
}
