//! What the fuzz targets do with their bytes. Each takes any bytes at all and panics where the code under it breaks a
//! promise: against a model that is slow and obvious, never against a second look at the same code.
//!
//! `cargo fuzz` calls these (`fuzz/` at the root), and `cargo test` replays the corpus with them (`tests/corpus.rs`).

mod bytes;
pub mod checksum;
pub mod coalesce;
pub mod gate;
pub mod inner;
pub mod noise;
pub mod parse;
pub mod segment;
pub mod tsmp;
pub mod tunnel;
pub mod uapi_frame;
pub mod uapi_request;
pub mod uapi_text;
pub mod wireguard;

pub use bytes::Bytes;

/// A fuzz target.
pub type Run = fn(&[u8]);

/// Every target by the name of its corpus.
pub const TARGETS: &[(&str, Run)] = &[
    ("checksum", checksum::run),
    ("coalesce", coalesce::run),
    ("gate", gate::run),
    ("inner", inner::run),
    ("noise", noise::run),
    ("parse", parse::run),
    ("segment", segment::run),
    ("tsmp", tsmp::run),
    ("tunnel", tunnel::run),
    ("uapi_frame", uapi_frame::run),
    ("uapi_request", uapi_request::run),
    ("uapi_text", uapi_text::run),
    ("wireguard", wireguard::run),
];
