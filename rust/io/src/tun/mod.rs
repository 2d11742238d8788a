//! The inner end: a TUN device, or in its place a socket pair that speaks the same super-packets.

#[cfg(target_os = "linux")]
mod gso;
#[cfg(target_os = "linux")]
mod linux;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use wgengine_core::packet::vnet;

#[cfg(target_os = "linux")]
pub use gso::bound as bound_super_packets;
#[cfg(target_os = "linux")]
pub use linux::{adopt, create, link_flags_and_mtu, set_mtu, set_offload};

/// The default MTU of a tunnel over a path of 1500 bytes and IPv6 (wg-quick's choice too).
pub const DEFAULT_MTU: u32 = 1420;

/// One end of the inner side: queues that carry a 10-byte virtio header and a packet or super-packet each time.
#[derive(Debug)]
pub struct Tun {
    pub name: String,
    /// 0 for a socket pair.
    pub ifindex: u32,
    queues: Vec<OwnedFd>,
    /// A TUN that was opened without the virtio header: packets come and go bare, one by one.
    bare: bool,
    /// The far end of a socket pair, for whoever plays the kernel.
    pub far: Option<OwnedFd>,
}

impl Tun {
    pub fn new(name: String, ifindex: u32, queues: Vec<OwnedFd>) -> Tun {
        Tun { name, ifindex, queues, bare: false, far: None }
    }

    /// The same without the virtio header.
    pub fn without_header(self) -> Tun {
        Tun { bare: true, ..self }
    }

    /// An in-memory device: what one end writes, the other reads, message by message.
    pub fn memory() -> io::Result<Tun> {
        let mut ends = [0; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: `ends` has room for the two descriptors.
        if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both descriptors were just made and belong to nobody else.
        let [near, far] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        for end in [&near, &far] {
            // Room for some super-packets; whatever the kernel grants will do.
            let size: libc::c_int = 4 << 20;
            // SAFETY: `size` outlives the call and its length is given.
            unsafe {
                libc::setsockopt(
                    end.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_SNDBUF,
                    (&raw const size).cast(),
                    size_of_val(&size) as libc::socklen_t,
                )
            };
        }
        Ok(Tun { name: "memory".into(), ifindex: 0, queues: vec![near], bare: false, far: Some(far) })
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

    /// Bytes of virtio header that the kernel neither gives nor takes.
    fn absent(&self) -> usize {
        if self.bare {
            vnet::LEN
        } else {
            0
        }
    }

    /// One packet or super-packet, virtio header first; 0 at the end.
    pub fn read(&self, queue: usize, block: &mut [u8]) -> io::Result<usize> {
        let absent = self.absent();
        block[..absent].fill(0);
        let room = &mut block[absent..];
        // SAFETY: `room` is writable for its whole length.
        let n = unsafe { libc::read(self.fd(queue), room.as_mut_ptr().cast(), room.len()) };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        Ok(if n == 0 { 0 } else { absent + n })
    }

    /// Write one packet or super-packet, virtio header first.
    pub fn write(&self, queue: usize, block: &[u8]) -> io::Result<()> {
        let block = &block[self.absent()..];
        // SAFETY: `block` is readable for its whole length.
        let n = unsafe { libc::write(self.fd(queue), block.as_ptr().cast(), block.len()) };
        if n < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Close the TUN under everybody's hands, at once: the descriptors point to /dev/null from now on, so no thread can
    /// meet a number that was given to something else.
    pub fn shut(&self) {
        // SAFETY: a constant path; the result is checked.
        let null = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
        if null < 0 {
            return;
        }
        for queue in &self.queues {
            // SAFETY: both descriptors are open; the TUN's last reference goes with this.
            unsafe { libc::dup3(null, queue.as_raw_fd(), libc::O_CLOEXEC) };
        }
        // SAFETY: opened above, owned by nobody else.
        drop(unsafe { OwnedFd::from_raw_fd(null) });
    }
}
