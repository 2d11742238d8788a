//! wgengine's pure core: packets, policy and tunnel state.
//!
//! Nothing here opens a socket, reads a clock, starts a thread or calls Python; `now` is an argument everywhere,
//! so the same input always gives the same output. The edge (`wgengine-io`) owns the file descriptors and the time.
//!
//! | room | promise |
//! |---|---|
//! | [`wire`] | layouts of messages, size-checked: WireGuard, TSMP, and the UAPI text |
//! | [`packet`] | IP packets: parse, checksum, cut a super-packet into packets, join packets into a super-packet, make our own |
//! | [`policy`] | who owns an address: one longest-prefix table for the whole device |
//! | [`tunnel`] | one peer's tunnel: key pairs, handshakes, timers, staging; the trait that a Noise engine fulfils |
//! | [`observe`] | why a packet died, what happened, how much went by, which pings are under way |
//! | [`plan`] | what a caller wants changed: the only configuration input |
#![forbid(unsafe_code)]

pub mod observe;
pub mod packet;
pub mod plan;
pub mod policy;
pub mod time;
pub mod tunnel;
pub mod wire;
