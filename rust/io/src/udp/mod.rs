//! The outer end: a UDP socket a family and shard, with segmentation (UDP_SEGMENT) and coalescing (UDP_GRO), and the
//! routes that their datagrams take.

pub mod address;
mod ancillary;
pub mod batch;
pub mod receive;
mod routes;
mod socket;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod system;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod system;

use routes::Routes;
pub use socket::Socket;
use std::io;
use std::net::SocketAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: &SocketAddr) -> Family {
        if address.is_ipv4() {
            Family::V4
        } else {
            Family::V6
        }
    }
}

/// The sockets of one device: a pair of families for each shard, all on one port.
#[derive(Debug, Default)]
pub struct Sockets {
    pub port: u16,
    pub v4: Vec<Socket>,
    pub v6: Vec<Socket>,
    pub routes: Routes,
}

/// Ports that a kernel-chosen IPv4 port may clash with on IPv6 before we give up.
const TRIES: usize = 10;

impl Sockets {
    /// Bind every shard's pair. A family that the host lacks is left out (case 54); a port in use is an error.
    pub fn bind(port: u16, mark: u32, shards: usize) -> io::Result<Sockets> {
        let mut last = io::Error::from_raw_os_error(libc::EADDRINUSE);
        for _ in 0..if port == 0 { TRIES } else { 1 } {
            match Sockets::bind_pair(port, mark) {
                Ok(mut sockets) => {
                    if shards > 1 {
                        sockets.v4.iter().chain(&sockets.v6).try_for_each(Socket::share)?;
                    }
                    for _ in 1..shards {
                        if !sockets.v4.is_empty() {
                            sockets.v4.push(Socket::bind(Family::V4, sockets.port, mark, true)?);
                        }
                        if !sockets.v6.is_empty() {
                            sockets.v6.push(Socket::bind(Family::V6, sockets.port, mark, true)?);
                        }
                    }
                    return Ok(sockets);
                }
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn bind_pair(port: u16, mark: u32) -> io::Result<Sockets> {
        let lacking = |error: &io::Error| {
            matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPFNOSUPPORT))
        };
        let v4 = match Socket::bind(Family::V4, port, mark, false) {
            Ok(socket) => Some(socket),
            Err(error) if lacking(&error) => None,
            Err(error) => return Err(error),
        };
        let chosen = v4.as_ref().map_or(Ok(port), Socket::port)?;
        let v6 = match Socket::bind(Family::V6, chosen, mark, false) {
            Ok(socket) => Some(socket),
            Err(error) if lacking(&error) && v4.is_some() => None,
            Err(error) => return Err(error),
        };
        let port = match (&v4, &v6) {
            (None, Some(v6)) => v6.port()?,
            _ => chosen,
        };
        let routes = Routes::new(port, mark);
        Ok(Sockets { port, v4: v4.into_iter().collect(), v6: v6.into_iter().collect(), routes })
    }

    /// How many there are of each family, and of the buffers that all were to have the least that one was granted.
    pub fn summary(&self) -> io::Result<[(&'static str, u64); 5]> {
        let mut least = [socket::BUFFER as u64; 2];
        for socket in self.all() {
            let granted = socket.granted()?;
            least = [least[0].min(granted[0]), least[1].min(granted[1])];
        }
        Ok([
            ("ipv4", self.v4.len() as u64),
            ("ipv6", self.v6.len() as u64),
            ("receive_buffer", least[0]),
            ("send_buffer", least[1]),
            ("wanted_buffer", socket::BUFFER as u64),
        ])
    }

    pub fn all(&self) -> impl Iterator<Item = &Socket> {
        self.v4.iter().chain(&self.v6)
    }

    /// The shard's socket for an address of this family, if the host has such sockets.
    pub fn of(&self, family: Family, shard: usize) -> Option<&Socket> {
        match family {
            Family::V4 => self.v4.get(shard),
            Family::V6 => self.v6.get(shard),
        }
    }
}
