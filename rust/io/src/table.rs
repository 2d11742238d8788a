//! The peers of a device, who owns an address, and which session index is whose.
//!
//! Lock order: a peer's lock may be held when a lock of this table is taken, never the other way round. So whoever
//! changes the table collects the peers it concerns, lets go, and locks them afterwards.

use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use wgengine_core::plan::{AllowedChange, Prefix, PublicKey};
use wgengine_core::policy::allowed::Allowed;
use wgengine_core::time::Tick;
use wgengine_core::tunnel::noise::Timestamp;
use wgengine_core::tunnel::peer::Peer;
use wgengine_core::tunnel::staging::Budget;
use wgengine_noise::Boring;

/// A peer in the table, under its one lock.
pub struct PeerCell {
    pub id: u32,
    pub key: PublicKey,
    pub peer: Mutex<Peer<Boring>>,
    /// When the control thread looks at it next; [`u64::MAX`]: not at all.
    armed: AtomicU64,
}

impl PeerCell {
    /// Does the control thread have to be told that `next` comes before what it knows?
    pub fn arm(&self, next: Option<Tick>) -> bool {
        let Some(Tick(next)) = next else { return false };
        next < self.armed.load(Ordering::Relaxed) && next < self.armed.fetch_min(next, Ordering::Relaxed)
    }

    /// Does the control thread have a note of it?
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Relaxed) != u64::MAX
    }

    /// The control thread is about to look at it, and will arm it anew.
    pub fn disarm(&self) {
        self.armed.store(u64::MAX, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Peers {
    by_key: HashMap<PublicKey, Arc<PeerCell>>,
    by_id: HashMap<u32, Arc<PeerCell>>,
    allowed: Allowed<u32>,
    next_id: u32,
    /// Newest initiation timestamps of keys that were removed: a peer that comes back must not accept an old one (C3 row 12).
    newest: HashMap<PublicKey, Timestamp>,
}

/// The device-wide table.
#[derive(Default)]
pub struct Table {
    peers: RwLock<Peers>,
    /// Counts changes of who owns what, so that data threads may remember an answer.
    generation: AtomicU64,
    indices: RwLock<HashMap<u32, Arc<PeerCell>>>,
    /// Peers that had traffic, and were not trimmed since: idle ones cost nobody anything.
    active: Mutex<HashMap<u32, Arc<PeerCell>>>,
    /// What all packets that wait for handshakes may take.
    budget: Arc<Budget>,
}

/// Removed keys whose newest timestamp is kept; beyond it the table forgets arbitrary ones rather than grow.
const NEWEST_KEPT: usize = 65_536;

impl Table {
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Who owns the address?
    pub fn owner(&self, address: IpAddr) -> Option<Arc<PeerCell>> {
        let peers = self.peers.read();
        peers.allowed.lookup(address).and_then(|id| peers.by_id.get(&id)).cloned()
    }

    pub fn by_key(&self, key: &PublicKey) -> Option<Arc<PeerCell>> {
        self.peers.read().by_key.get(key).cloned()
    }

    pub fn by_id(&self, id: u32) -> Option<Arc<PeerCell>> {
        self.peers.read().by_id.get(&id).cloned()
    }

    /// The peer's prefixes, in the order in which it got them.
    pub fn allowed(&self, cell: &PeerCell) -> Vec<Prefix> {
        self.peers.read().allowed.of(cell.id).collect()
    }

    /// All peers in the order in which they came, with their prefixes.
    pub fn list(&self) -> Vec<(Arc<PeerCell>, Vec<Prefix>)> {
        let peers = self.peers.read();
        let mut all: Vec<_> =
            peers.by_id.values().map(|cell| (cell.clone(), peers.allowed.of(cell.id).collect())).collect();
        all.sort_unstable_by_key(|(cell, _)| cell.id);
        all
    }

    /// All peers, in no order.
    pub fn cells(&self) -> Vec<Arc<PeerCell>> {
        self.peers.read().by_id.values().cloned().collect()
    }

    pub fn add(&self, key: PublicKey) -> Arc<PeerCell> {
        let mut peers = self.peers.write();
        if let Some(cell) = peers.by_key.get(&key) {
            return cell.clone();
        }
        // Numbers come round after four billion peers; one that is still in use is passed over.
        while peers.by_id.contains_key(&peers.next_id) {
            peers.next_id = peers.next_id.wrapping_add(1);
        }
        let id = peers.next_id;
        peers.next_id = peers.next_id.wrapping_add(1);
        let newest = peers.newest.remove(&key).unwrap_or_default();
        let peer = Mutex::new(Peer::new(key, newest, self.budget.clone()));
        let cell = Arc::new(PeerCell { id, key, peer, armed: AtomicU64::new(u64::MAX) });
        peers.by_key.insert(key, cell.clone());
        peers.by_id.insert(id, cell.clone());
        cell
    }

    /// Take a peer off the table; the caller ends its sessions with [`Table::retire`].
    pub fn remove(&self, key: &PublicKey) -> Option<Arc<PeerCell>> {
        let mut peers = self.peers.write();
        let cell = peers.by_key.remove(key)?;
        peers.by_id.remove(&cell.id);
        peers.allowed.remove_owner(cell.id);
        drop(peers);
        self.changed();
        Some(cell)
    }

    /// End a removed peer's sessions and keep its newest timestamp; how many packets were waiting.
    pub fn retire(&self, cell: &PeerCell) -> usize {
        let mut peer = cell.peer.lock();
        let waiting = peer.remove();
        let newest = peer.newest_timestamp();
        self.release(&mut peer);
        self.unlist(cell);
        drop(peer);
        if newest != Timestamp::default() {
            let mut peers = self.peers.write();
            if peers.newest.len() >= NEWEST_KEPT {
                let some = peers.newest.keys().next().copied();
                some.map(|key| peers.newest.remove(&key));
            }
            peers.newest.insert(cell.key, newest);
        }
        waiting
    }

    /// Change a peer's allowed IPs as one step, as the packet path sees it.
    pub fn change_allowed(&self, cell: &PeerCell, replace: bool, changes: &[AllowedChange]) {
        if !replace && changes.is_empty() {
            return;
        }
        let mut peers = self.peers.write();
        if replace {
            let kept = changes.iter().filter_map(|change| match change {
                AllowedChange::Add(prefix) => Some(*prefix),
                AllowedChange::Remove(_) => None,
            });
            peers.allowed.replace(cell.id, kept);
        }
        for change in changes {
            match change {
                AllowedChange::Add(_) if replace => {}
                AllowedChange::Add(prefix) => {
                    peers.allowed.insert(*prefix, cell.id);
                }
                AllowedChange::Remove(prefix) => {
                    peers.allowed.remove(*prefix, cell.id);
                }
            }
        }
        drop(peers);
        self.changed();
    }

    /// What waits for handshakes, of all peers.
    pub fn staged_bytes(&self) -> usize {
        self.budget.used()
    }

    // ---- peers with traffic --------------------------------------------------------------------------------------

    /// There was traffic with this peer; its lock is held.
    pub fn list_active(&self, cell: &Arc<PeerCell>, peer: &mut Peer<Boring>) {
        if peer.take_listing() {
            self.active.lock().insert(cell.id, cell.clone());
        }
    }

    /// It was trimmed or removed; its lock is held.
    pub fn unlist(&self, cell: &PeerCell) {
        self.active.lock().remove(&cell.id);
    }

    /// Peers that had traffic since they came or were trimmed, in no order.
    pub fn active(&self) -> Vec<Arc<PeerCell>> {
        self.active.lock().values().cloned().collect()
    }

    // ---- session indices -----------------------------------------------------------------------------------------

    /// Whose session or attempt answers to this index?
    pub fn by_index(&self, index: u32) -> Option<Arc<PeerCell>> {
        self.indices.read().get(&(index >> 8)).cloned()
    }

    pub fn knows_index(&self, index: u32) -> bool {
        self.indices.read().contains_key(&(index >> 8))
    }

    /// A random index of 24 bits that nobody else answers to.
    pub fn new_index(&self, cell: &Arc<PeerCell>) -> u32 {
        let mut indices = self.indices.write();
        loop {
            let index = crate::random::number() >> 8;
            if let std::collections::hash_map::Entry::Vacant(entry) = indices.entry(index) {
                entry.insert(cell.clone());
                return index;
            }
        }
    }

    /// Indices that the peer no longer answers to are free again.
    pub fn release(&self, peer: &mut Peer<Boring>) {
        if let Some(retired) = peer.take_retired() {
            self.release_indices(&retired);
        }
    }

    pub fn release_indices(&self, retired: &[u32]) {
        let mut indices = self.indices.write();
        for index in retired {
            indices.remove(index);
        }
    }
}
