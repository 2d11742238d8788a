//! wgengine's impure edge: the TUN, the UDP sockets, the UAPI socket, and the threads that move packets between them.
//!
//! | room | what it does |
//! |---|---|
//! | [`device`] | a WireGuard device: what a plan changes, what a state shows, how it starts and ends |
//! | [`table`] | the peers, who owns an address, which session index is whose |
//! | [`shard`] | the loop of a data thread: out of the TUN into UDP, out of UDP into the TUN |
//! | [`shared`] | what all threads of a device share |
//! | [`control`], [`inbox`] | the thread for handshakes and timers, and where work for it is left |
//! | [`injection`], [`hooks`], [`pings`] | packets of the engine's own, into the tunnel and out of it |
//! | [`familiar`] | addresses where peers were: under a flood they get their cookies first |
//! | [`tun`], [`udp`] | the two ends, with their offloads |
//! | [`link`], [`changes`] | watches our interface: up, down, MTU, gone; how the kernel tells of changes |
//! | [`uapi`] | serves the configuration socket |
//! | [`fd`], [`poller`] | what differs between Linux and macOS: making descriptors, waiting for them |
//! | [`process`] | the process around the devices: whether a fork made it, what it keeps out of core files |
//! | [`stack`] | leaves nothing on the stack of a thread that ends |
//! | [`ring`], [`counters`], [`clock`], [`random`], [`wake`] | events upwards, counts, time, chance, waking a thread |

pub mod changes;
pub mod clock;
pub mod control;
pub mod counters;
pub mod device;
pub mod familiar;
pub mod fd;
pub mod hooks;
pub mod inbox;
pub mod injection;
pub mod link;
#[cfg(target_os = "linux")]
pub mod netlink;
pub mod offloads;
pub mod pings;
pub mod poller;
pub mod process;
pub mod random;
pub mod ring;
pub mod shard;
pub mod shared;
pub mod stack;
pub mod table;
pub mod tun;
pub mod uapi;
pub mod udp;
pub mod wake;

pub use device::{Device, Options};
