//! Why a packet died, what happened, how much went by.

pub mod drop;
pub mod event;
pub mod state;
