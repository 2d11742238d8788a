//! Who owns an address.

pub mod allowed;
mod trie;
