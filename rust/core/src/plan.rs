//! What a caller wants changed on a device: the one configuration input, for Python, UAPI and tests alike.
//!
//! A plan is applied as one step: what can fail (the port, the mark) is tried first, and a failure changes nothing.

use std::net::{IpAddr, SocketAddr};
use zeroize::Zeroize;

/// A Curve25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey(pub [u8; 32]);

impl core::fmt::Debug for PublicKey {
    /// The short form that logs use: the first four bytes in hex.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "PublicKey({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// 32 secret bytes: a private key or a pre-shared key. Wiped on drop, never printed, no `==`.
#[derive(Clone, Zeroize)]
#[zeroize(drop)]
pub struct Secret(pub [u8; 32]);

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Secret {
    /// Equality in constant time.
    pub fn same(&self, other: &Secret) -> bool {
        use subtle::ConstantTimeEq;
        self.0.ct_eq(&other.0).into()
    }

    /// All zero means "none" to WireGuard, for private and pre-shared keys alike.
    pub fn is_zero(&self) -> bool {
        use subtle::ConstantTimeEq;
        self.0.ct_eq(&[0u8; 32]).into()
    }
}

/// An address range: `addr` has no bits set below `len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    addr: IpAddr,
    len: u8,
}

impl Prefix {
    /// Host bits are cleared; `None` when `len` exceeds the family's width.
    pub fn new(addr: IpAddr, len: u8) -> Option<Prefix> {
        let addr = match addr {
            IpAddr::V4(a) if len <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                IpAddr::V4((u32::from(a) & mask).into())
            }
            IpAddr::V6(a) if len <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                IpAddr::V6((u128::from(a) & mask).into())
            }
            _ => return None,
        };
        Some(Prefix { addr, len })
    }

    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    #[allow(clippy::len_without_is_empty)] // a prefix length, not a number of things
    pub fn len(&self) -> u8 {
        self.len
    }

    pub fn is_default(&self) -> bool {
        self.len == 0
    }
}

impl core::fmt::Display for Prefix {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// One change to a peer's allowed IPs, in the order given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedChange {
    /// The prefix goes to this peer, taken from whoever has it.
    Add(Prefix),
    /// The prefix is taken from this peer; nothing happens when the peer does not have it.
    Remove(Prefix),
}

/// What changes on one peer. `None` and `false` leave things as they are.
#[derive(Clone, Debug)]
pub struct PeerPlan {
    pub public_key: PublicKey,
    /// Take the peer away; everything else is ignored.
    pub remove: bool,
    /// Change the peer only if it exists.
    pub update_only: bool,
    /// All zero: no pre-shared key.
    pub preshared_key: Option<Secret>,
    pub endpoint: Option<SocketAddr>,
    /// Seconds; 0 is off.
    pub persistent_keepalive: Option<u16>,
    /// End all sessions and attempts: the next packet shakes hands. Nothing to a peer that has none.
    pub reset_session: bool,
    /// Trim the peer, so that it sends nothing by itself until there is traffic; or wake it.
    pub trimmed: Option<bool>,
    /// Forget all allowed IPs first.
    pub replace_allowed_ips: bool,
    pub allowed_ips: Vec<AllowedChange>,
}

impl PeerPlan {
    pub fn new(public_key: PublicKey) -> PeerPlan {
        PeerPlan {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            reset_session: false,
            trimmed: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }
}

/// What changes on the device. `None` and `false` leave things as they are.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// All zero: no private key.
    pub private_key: Option<Secret>,
    /// 0 lets the kernel choose.
    pub listen_port: Option<u16>,
    /// 0 is off.
    pub fwmark: Option<u32>,
    /// Take all peers away first, but for those that the plan names again: their sessions live on.
    pub replace_peers: bool,
    pub peers: Vec<PeerPlan>,
}
