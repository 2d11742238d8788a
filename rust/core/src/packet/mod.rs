//! IP packets: parse, checksum, cut a super-packet into packets, join packets into a super-packet; make and read the few
//! that the engine sends in its own name.
//!
//! ```text
//! out:  TUN read  [vnet | header | payload 0 | payload 1 | …]  → segment  → one packet after another, in place
//! in:   one packet after another, in place → coalesce → TUN write [vnet | header | payload 0 | payload 1 | …]
//! ```
//!
//! Nothing here allocates per packet, and no input makes it panic.

pub mod build;
pub mod checksum;
pub mod coalesce;
pub mod icmp;
pub mod parse;
mod run;
pub mod segment;
mod transport;
pub mod vnet;
