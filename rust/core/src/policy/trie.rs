//! A binary trie over bit strings, with runs of single branches left out, in one vector.
//!
//! Every node stands for a prefix. A node without a value has two children, so there are fewer than twice as many
//! nodes as values; freed nodes are used again first, so coming and going does not grow the vector.

/// "No node", "no value".
pub(super) const NONE: u32 = u32::MAX;

/// The bits of an address, most significant first.
pub(super) trait Key: Copy {
    const WIDTH: u8;
    /// Bit number `index`, which is below `WIDTH`.
    fn bit(self, index: u8) -> usize;
    /// How many bits both start with.
    fn common(self, other: Self) -> u8;
    /// The first `len` bits, zeros behind them.
    fn truncated(self, len: u8) -> Self;
}

macro_rules! key {
    ($int:ty) => {
        impl Key for $int {
            const WIDTH: u8 = <$int>::BITS as u8;

            fn bit(self, index: u8) -> usize {
                (self >> (Self::WIDTH - 1 - index) & 1) as usize
            }

            fn common(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8
            }

            fn truncated(self, len: u8) -> Self {
                self & <$int>::MAX.checked_shl(u32::from(Self::WIDTH - len)).unwrap_or(0)
            }
        }
    };
}

key!(u32);
key!(u128);

#[derive(Clone, Copy)]
struct Node<K> {
    key: K,
    children: [u32; 2],
    value: u32,
    len: u8,
}

/// Prefixes, each with a value.
pub(super) struct Trie<K> {
    nodes: Vec<Node<K>>,
    root: u32,
    /// The first freed node; further ones through `children[0]`.
    free: u32,
}

/// Where the index of a node is written.
#[derive(Clone, Copy)]
enum Link {
    Root,
    Child(u32, usize),
}

impl<K: Key> Trie<K> {
    pub const fn new() -> Trie<K> {
        Trie { nodes: Vec::new(), root: NONE, free: NONE }
    }

    /// How many nodes there is memory for; for tests of churn.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.nodes.len()
    }

    /// The value of the longest prefix that `key` starts with.
    pub fn lookup(&self, key: K) -> Option<u32> {
        let (mut at, mut best) = (self.root, NONE);
        while let Some(node) = self.nodes.get(at as usize) {
            if node.key.common(key) < node.len {
                break;
            }
            if node.value != NONE {
                best = node.value;
            }
            if node.len == K::WIDTH {
                break;
            }
            at = node.children[key.bit(node.len)];
        }
        (best != NONE).then_some(best)
    }

    /// The value of exactly this prefix.
    pub fn get(&self, key: K, len: u8) -> Option<u32> {
        let mut at = self.root;
        while let Some(node) = self.nodes.get(at as usize) {
            if node.len > len || node.key.common(key) < node.len {
                return None;
            }
            if node.len == len {
                return (node.value != NONE).then_some(node.value);
            }
            at = node.children[key.bit(node.len)];
        }
        None
    }

    /// Gives a prefix a value, and returns the one it had. Bits of `key` behind `len` must be zero.
    pub fn insert(&mut self, key: K, len: u8, value: u32) -> Option<u32> {
        let mut link = Link::Root;
        loop {
            let at = self.follow(link);
            let Some(node) = self.nodes.get_mut(at as usize) else {
                let leaf = self.allocate(Node { key, children: [NONE; 2], value, len });
                self.set(link, leaf);
                return None;
            };
            let common = node.key.common(key).min(node.len).min(len);
            if common == node.len && common == len {
                let before = std::mem::replace(&mut node.value, value);
                return (before != NONE).then_some(before);
            }
            if common == node.len {
                link = Link::Child(at, key.bit(common));
                continue;
            }
            // The new prefix parts from the node's: it lies above it, or both lie below what they have in common.
            let below = node.key.bit(common);
            let mut above = Node { key: key.truncated(common), children: [NONE; 2], value: NONE, len: common };
            above.children[below] = at;
            if common == len {
                above.value = value;
            } else {
                above.children[1 - below] = self.allocate(Node { key, children: [NONE; 2], value, len });
            }
            let above = self.allocate(above);
            self.set(link, above);
            return None;
        }
    }

    /// Takes a prefix's value away and returns it.
    pub fn remove(&mut self, key: K, len: u8) -> Option<u32> {
        let (mut parent, mut link) = (None, Link::Root);
        let at = loop {
            let at = self.follow(link);
            let node = self.nodes.get(at as usize)?;
            if node.len > len || node.key.common(key) < node.len {
                return None;
            }
            if node.len == len {
                break at;
            }
            parent = Some((link, at));
            link = Link::Child(at, key.bit(node.len));
        };
        let node = &mut self.nodes[at as usize];
        let value = std::mem::replace(&mut node.value, NONE);
        if value == NONE {
            return None;
        }
        self.splice(link, at);
        if let Some((link, at)) = parent {
            self.splice(link, at);
        }
        Some(value)
    }

    /// Takes the node `at`, which hangs on `link`, out of the trie if it has neither a value nor two children.
    fn splice(&mut self, link: Link, at: u32) {
        let node = self.nodes[at as usize];
        let only = match node.children {
            [NONE, other] | [other, NONE] if node.value == NONE => other,
            _ => return,
        };
        self.set(link, only);
        self.nodes[at as usize].children[0] = self.free;
        self.free = at;
    }

    fn follow(&self, link: Link) -> u32 {
        match link {
            Link::Root => self.root,
            Link::Child(parent, side) => self.nodes[parent as usize].children[side],
        }
    }

    fn set(&mut self, link: Link, at: u32) {
        match link {
            Link::Root => self.root = at,
            Link::Child(parent, side) => self.nodes[parent as usize].children[side] = at,
        }
    }

    fn allocate(&mut self, node: Node<K>) -> u32 {
        if let Some(slot) = self.nodes.get_mut(self.free as usize) {
            return std::mem::replace(&mut self.free, std::mem::replace(slot, node).children[0]);
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }
}
