//! The inner end: a TUN device, or in its place a socket pair that speaks the same super-packets.

#[cfg(target_os = "linux")]
mod gso;
mod interface;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod system;

use crate::fd::{self, Held};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

pub use interface::{index_of, link_flags_and_mtu, set_mtu};
pub use system::{adopt, bound_super_packets, create, current_name, set_offload};

/// The default MTU of a tunnel over a path of 1500 bytes and IPv6 (wg-quick's choice too).
pub const DEFAULT_MTU: u32 = 1420;

/// What may be under way in memory.
const MEMORY: libc::c_int = 4 << 20;

/// One end of the inner side: queues that carry a 10-byte virtio header and a packet or super-packet each time.
#[derive(Debug)]
pub struct Tun {
    pub name: String,
    /// 0 for a socket pair.
    pub ifindex: u32,
    queues: Vec<Held<OwnedFd>>,
    /// A TUN without the virtio header: packets come and go bare, one by one.
    bare: bool,
    /// The far end of a socket pair, for whoever plays the kernel.
    pub far: Option<Held<OwnedFd>>,
}

impl Tun {
    pub fn new(name: String, ifindex: u32, queues: Vec<OwnedFd>) -> Tun {
        Tun { name, ifindex, queues: queues.into_iter().map(Held::new).collect(), bare: false, far: None }
    }

    /// The same without the virtio header.
    pub fn without_header(self) -> Tun {
        Tun { bare: true, ..self }
    }

    /// An in-memory device: what one end writes, the other reads, message by message.
    pub fn memory() -> io::Result<Tun> {
        let [near, far] = fd::pair()?;
        for end in [&near, &far] {
            // Room for some super-packets; whatever the kernel grants will do.
            for buffer in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
                let _ = fd::set_option(end, libc::SOL_SOCKET, buffer, MEMORY);
            }
        }
        Ok(Tun { far: Some(Held::new(far)), ..Tun::new("memory".into(), 0, vec![near]) })
    }

    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    pub fn fd(&self, queue: usize) -> RawFd {
        self.queues[queue].as_raw_fd()
    }

    pub fn is_bare(&self) -> bool {
        self.bare
    }

    /// Close the TUN under everybody's hands, at once: the descriptors point to /dev/null from now on, so no thread can
    /// meet a number that was given to something else.
    pub fn shut(&self) {
        let Ok(null) = File::options().read(true).write(true).open("/dev/null") else { return };
        let null = OwnedFd::from(null);
        for queue in &self.queues {
            // The TUN's last reference goes with this. It cannot fail: both descriptors are open.
            let _ = fd::replace(queue, &null);
        }
    }
}
