//! IP packets: parse, checksum, cut a super-packet into packets, join packets into a super-packet.
//!
//! ```text
//! out:  TUN read  [vnet | header | payload 0 | payload 1 | …]  → segment  → one packet after another, in place
//! in:   one packet after another, in place → coalesce → TUN write [vnet | header | payload 0 | payload 1 | …]
//! ```
//!
//! Nothing here allocates per packet, and no input makes it panic.

pub mod checksum;
pub mod coalesce;
pub mod parse;
mod run;
pub mod segment;
mod transport;
pub mod vnet;
