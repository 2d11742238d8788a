//! `spray --to ADDRESS:PORT --count N`: UDP packets to N addresses from this one on, around and around.

use crate::arguments::Arguments;
use crate::pace::Pace;
use crate::report::Report;
use crate::socket::{Outgoing, Socket, BATCH};
use std::net::{Ipv4Addr, SocketAddrV4};

pub fn run(mut arguments: Arguments) -> Result<String, String> {
    let (to, count) = (arguments.address("to")?, arguments.number("count", 1)?.max(1));
    let (rate, lasts) = (arguments.number("rate", 10_000)?, arguments.seconds("seconds", 3.0)?);
    let bytes = vec![0; (arguments.number("length", 64)? as usize).min(1400)];
    arguments.end()?;
    let fault = |why: std::io::Error| format!("{to}: {why}");
    let socket = Socket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).map_err(fault)?;
    let (mut pace, mut sent, mut refused, mut next) = (Pace::new(rate, lasts), 0u64, 0u64, 0u64);
    while let Some(due) = pace.due(BATCH) {
        for _ in 0..due {
            let address = Ipv4Addr::from(u32::from(*to.ip()).wrapping_add((next % count) as u32));
            next += 1;
            match socket.send(SocketAddrV4::new(address, to.port()), &[Outgoing { bytes: &bytes, from: None }]) {
                Ok(_) => sent += 1,
                // A queue of the kernel is full: what a sender sees where nobody takes its packets.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => refused += 1,
                Err(error) => return Err(fault(error)),
            }
        }
    }
    let report = Report::default().word("load", "spray").count("sent", sent).count("refused", refused);
    Ok(report.decimal("seconds", pace.elapsed().as_secs_f64()).text())
}
