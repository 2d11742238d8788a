//! The fast code against slow, obvious models of it.

mod allowed;
mod coalesce;
mod packets;
mod segment;
