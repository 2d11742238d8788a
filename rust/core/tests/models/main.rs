//! The fast code against slow, obvious models of it.

mod allowed;
mod buckets;
mod coalesce;
mod packets;
mod segment;
