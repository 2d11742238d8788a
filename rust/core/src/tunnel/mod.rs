//! One peer's tunnel: when to shake hands, which key pair to use, what to stage, when to give up.
//!
//! A Noise engine supplies the cryptography of one handshake and the session that comes of it ([`noise`]); every rule
//! about *when* is here, after the kernel's timers and key pair rotation, so that it can be tested with a made-up clock.

pub mod activity;
pub mod admission;
pub mod backlog;
pub mod buckets;
pub mod checker;
pub mod cookie;
pub mod deadlines;
pub mod endpoint;
pub mod handshake;
pub mod keypairs;
pub mod noise;
pub mod peer;
pub mod staging;
pub mod timers;
