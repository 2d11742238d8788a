//! The UAPI socket, with a made-up device behind it: the socket file, its clients good and bad, and the real `wg`.
// The helpers of a test may take a value for granted too, as clippy.toml lets the tests themselves.
#![allow(clippy::unwrap_used)]

mod clients;
mod fake;
mod junk;
mod socket_file;
mod wg;
