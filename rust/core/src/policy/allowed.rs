//! Who owns an address: one longest-prefix table for the whole device, IPv4 and IPv6.
//!
//! A prefix has one owner at a time (whitepaper 2). Each owner's prefixes hang on a list through the table, so taking
//! an owner away costs what it owns, not what everybody owns, and its prefixes can be told in the order given.

use super::trie::{Trie, NONE};
use crate::plan::Prefix;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// One prefix and whose it is.
#[derive(Clone, Copy)]
struct Entry<P> {
    prefix: Prefix,
    owner: P,
    /// Neighbours in the owner's list; of a freed entry, `next` is the next freed one.
    before: u32,
    next: u32,
    /// Named by the [`Allowed::replace`] that is running.
    named: bool,
}

/// An owner's prefixes: first and last entry.
#[derive(Clone, Copy)]
struct List {
    first: u32,
    last: u32,
}

/// The table. `P` names an owner: a small number.
pub struct Allowed<P> {
    v4: Trie<u32>,
    v6: Trie<u128>,
    entries: Vec<Entry<P>>,
    /// The first freed entry.
    free: u32,
    owners: HashMap<P, List>,
    len: usize,
}

impl<P: Copy + Eq + Hash> Allowed<P> {
    pub fn new() -> Allowed<P> {
        Allowed { v4: Trie::new(), v6: Trie::new(), entries: Vec::new(), free: NONE, owners: HashMap::new(), len: 0 }
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The owner of the longest prefix that holds `addr`.
    pub fn lookup(&self, addr: IpAddr) -> Option<P> {
        let entry = match addr {
            IpAddr::V4(addr) => self.v4.lookup(addr.into()),
            IpAddr::V6(addr) => self.v6.lookup(addr.into()),
        }?;
        Some(self.entries[entry as usize].owner)
    }

    /// Gives `prefix` to `owner`, and returns who had it before. A prefix that `owner` has already becomes its newest.
    pub fn insert(&mut self, prefix: Prefix, owner: P) -> Option<P> {
        if let Some(entry) = self.find(prefix) {
            let before = self.entries[entry as usize].owner;
            self.unlink(entry);
            self.link(entry, owner);
            return (before != owner).then_some(before);
        }
        let entry = self.allocate(prefix, owner);
        match prefix.addr() {
            IpAddr::V4(addr) => self.v4.insert(addr.into(), prefix.len(), entry),
            IpAddr::V6(addr) => self.v6.insert(addr.into(), prefix.len(), entry),
        };
        self.link(entry, owner);
        self.len += 1;
        None
    }

    /// Takes `prefix` from `owner`; `false`, and nothing happens, when it does not have it.
    pub fn remove(&mut self, prefix: Prefix, owner: P) -> bool {
        match self.find(prefix) {
            Some(entry) if self.entries[entry as usize].owner == owner => {
                self.free(entry);
                true
            }
            _ => false,
        }
    }

    /// Takes everything from `owner`.
    pub fn remove_owner(&mut self, owner: P) {
        while let Some(list) = self.owners.get(&owner) {
            self.free(list.first);
        }
    }

    /// Makes `prefixes` all that `owner` has, in this order. What it keeps is its own at every moment.
    pub fn replace(&mut self, owner: P, prefixes: impl IntoIterator<Item = Prefix>) {
        for prefix in prefixes {
            self.insert(prefix, owner);
            let newest = self.owners[&owner].last;
            self.entries[newest as usize].named = true;
        }
        // What was named went to the end of the list, so what was not is at its start.
        while let Some(list) = self.owners.get(&owner) {
            if self.entries[list.first as usize].named {
                break;
            }
            self.free(list.first);
        }
        let mut at = self.owners.get(&owner).map_or(NONE, |list| list.first);
        while let Some(entry) = self.entries.get_mut(at as usize) {
            entry.named = false;
            at = entry.next;
        }
    }

    /// What `owner` has, in the order in which it was given.
    pub fn of(&self, owner: P) -> impl Iterator<Item = Prefix> + '_ {
        let first = self.owners.get(&owner).map_or(NONE, |list| list.first);
        let entry = |at: u32| self.entries.get(at as usize);
        std::iter::successors(entry(first), move |now| entry(now.next)).map(|entry| entry.prefix)
    }

    fn find(&self, prefix: Prefix) -> Option<u32> {
        match prefix.addr() {
            IpAddr::V4(addr) => self.v4.get(addr.into(), prefix.len()),
            IpAddr::V6(addr) => self.v6.get(addr.into(), prefix.len()),
        }
    }

    fn allocate(&mut self, prefix: Prefix, owner: P) -> u32 {
        let entry = Entry { prefix, owner, before: NONE, next: NONE, named: false };
        if let Some(slot) = self.entries.get_mut(self.free as usize) {
            return std::mem::replace(&mut self.free, std::mem::replace(slot, entry).next);
        }
        self.entries.push(entry);
        (self.entries.len() - 1) as u32
    }

    fn free(&mut self, entry: u32) {
        let Entry { prefix, .. } = self.entries[entry as usize];
        match prefix.addr() {
            IpAddr::V4(addr) => self.v4.remove(addr.into(), prefix.len()),
            IpAddr::V6(addr) => self.v6.remove(addr.into(), prefix.len()),
        };
        self.unlink(entry);
        self.entries[entry as usize].next = self.free;
        self.free = entry;
        self.len -= 1;
    }

    /// Puts an entry that is in no list at the end of `owner`'s.
    fn link(&mut self, entry: u32, owner: P) {
        let list = self.owners.entry(owner).or_insert(List { first: entry, last: NONE });
        let before = std::mem::replace(&mut list.last, entry);
        if let Some(before) = self.entries.get_mut(before as usize) {
            before.next = entry;
        }
        let linked = &mut self.entries[entry as usize];
        (linked.owner, linked.before, linked.next) = (owner, before, NONE);
    }

    /// Takes an entry out of its owner's list; an owner without prefixes is forgotten.
    fn unlink(&mut self, entry: u32) {
        let Entry { owner, before, next, .. } = self.entries[entry as usize];
        if let Some(entry) = self.entries.get_mut(before as usize) {
            entry.next = next;
        }
        if let Some(entry) = self.entries.get_mut(next as usize) {
            entry.before = before;
        }
        if before != NONE && next != NONE {
            return;
        }
        if before == NONE && next == NONE {
            self.owners.remove(&owner);
        } else if let Some(list) = self.owners.get_mut(&owner) {
            if before == NONE {
                list.first = next;
            } else {
                list.last = before;
            }
        }
    }
}

impl<P: Copy + Eq + Hash> Default for Allowed<P> {
    fn default() -> Allowed<P> {
        Allowed::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    /// Prefix number `n` of many: of both families and of many lengths.
    fn prefix(n: u32) -> Prefix {
        let mixed = n.wrapping_mul(0x9e37_79b1);
        let (addr, len) = match n % 3 {
            0 => (IpAddr::V4(Ipv4Addr::from(mixed)), 32),
            1 => (IpAddr::V4(Ipv4Addr::from(mixed)), 8 + mixed % 24),
            _ => (IpAddr::V6(Ipv6Addr::from(u128::from(mixed) << 80)), 16 + mixed % 112),
        };
        Prefix::new(addr, len as u8).expect("a length that fits")
    }

    /// A million changes, the table never holding more than a thousand prefixes, need no more memory than the first
    /// thousand did.
    #[test]
    fn i2_churn_does_not_grow_the_table() {
        const HELD: u32 = 1000;
        let mut table = Allowed::new();
        for n in 0..500_000 {
            table.insert(prefix(n), n % 7);
            if n >= HELD {
                let old = prefix(n - HELD);
                let owner = table.find(old).map(|entry| table.entries[entry as usize].owner);
                if let Some(owner) = owner {
                    assert!(table.remove(old, owner));
                }
            }
        }
        let held = HELD as usize + 1;
        assert!(table.len() <= held && table.entries.len() <= held);
        assert!(table.v4.capacity() < 2 * held && table.v6.capacity() < 2 * held);
        for owner in 0..7 {
            table.remove_owner(owner);
        }
        assert!(table.is_empty() && table.owners.is_empty());
        let nodes = (table.v4.capacity(), table.v6.capacity(), table.entries.len());
        for n in 0..HELD {
            table.insert(prefix(n), n % 7);
        }
        assert_eq!(
            (table.v4.capacity(), table.v6.capacity(), table.entries.len()),
            nodes,
            "what was freed serves again"
        );
    }
}
