//! Why a packet died, what happened, how much went by, how far away a peer is.

pub mod drop;
pub mod event;
pub mod pings;
pub mod state;
