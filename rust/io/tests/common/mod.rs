//! In-memory devices on loopback, and what a kernel would put into them.
#![allow(dead_code)] // each test file takes its part
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::Event;
use wgengine_core::observe::state::PeerState;
use wgengine_core::plan::{AllowedChange, PeerPlan, Plan, Prefix, PublicKey, Secret};
use wgengine_io::device::{TunSource, UapiSource};
use wgengine_io::{Device, Options};
use wgengine_noise::{generate_private, public_of};

pub const VNET: usize = 10;

pub struct Node {
    pub device: Device,
    pub key: PublicKey,
    pub port: u16,
}

pub fn options() -> Options<'static> {
    Options {
        tun: TunSource::Memory,
        mtu: 0,
        shards: 0,
        uapi: UapiSource::None,
        tun_offload: true,
        udp_gso: true,
        udp_gro: true,
        nice: 0,
    }
}

pub fn node() -> Node {
    let private = generate_private();
    let key = public_of(&private);
    let device = Device::start(options()).unwrap();
    device.shared().commit(&Plan { private_key: Some(private), listen_port: Some(0), ..Plan::default() }).unwrap();
    let port = device.shared().state().listen_port;
    Node { device, key, port }
}

pub fn prefix(text: &str) -> Prefix {
    let (address, len) = text.split_once('/').unwrap();
    Prefix::new(address.parse().unwrap(), len.parse().unwrap()).unwrap()
}

pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Node {
    pub fn peer(&self, key: PublicKey, endpoint: Option<SocketAddr>, allowed: &[&str]) {
        let mut peer = PeerPlan::new(key);
        peer.endpoint = endpoint;
        peer.allowed_ips = allowed.iter().map(|text| AllowedChange::Add(prefix(text))).collect();
        self.device.shared().commit(&Plan { peers: vec![peer], ..Plan::default() }).unwrap();
    }

    pub fn remove(&self, key: PublicKey) {
        let peer = PeerPlan { remove: true, ..PeerPlan::new(key) };
        self.device.shared().commit(&Plan { peers: vec![peer], ..Plan::default() }).unwrap();
    }

    /// Put a packet into the device, as the kernel would.
    pub fn write(&self, packet: &[u8]) {
        let mut message = vec![0; VNET];
        message.extend_from_slice(packet);
        let fd = self.device.memory_fd().unwrap();
        // SAFETY: `message` is readable for its length.
        let n = unsafe { libc::write(fd, message.as_ptr().cast(), message.len()) };
        assert_eq!(n as usize, message.len());
    }

    /// What came out of the device within `wait`, without the virtio header.
    pub fn read(&self, wait: Duration) -> Option<Vec<u8>> {
        let fd = self.device.memory_fd().unwrap();
        if !readable(fd, wait) {
            return None;
        }
        let mut block = vec![0; 70_000];
        // SAFETY: `block` is writable for its length.
        let n = unsafe { libc::read(fd, block.as_mut_ptr().cast(), block.len()) };
        block.truncate(usize::try_from(n).unwrap());
        (block.len() > VNET).then(|| block.split_off(VNET))
    }

    /// The first event that is one of these, within five seconds; those before it are gone.
    pub fn event<T>(&self, what: &str, mut is: impl FnMut(&Event) -> Option<T>) -> T {
        let mut found = None;
        eventually(what, || {
            let told = self.device.drain(1).events;
            found = told.iter().find_map(|(_, event)| is(event));
            found.is_some()
        });
        found.unwrap()
    }

    /// All that was told until now.
    pub fn events(&self) -> Vec<Event> {
        self.device.drain(usize::MAX).events.into_iter().map(|(_, event)| event).collect()
    }

    pub fn change(&self, peer: PeerPlan) {
        let peer = PeerPlan { update_only: true, ..peer };
        self.device.shared().commit(&Plan { peers: vec![peer], ..Plan::default() }).unwrap();
    }

    pub fn peer_state(&self, key: &PublicKey) -> PeerState {
        self.device.shared().peer_state(key).unwrap()
    }

    pub fn dropped(&self, why: Drop) -> u64 {
        self.device.drops().into_iter().find(|(word, _)| *word == why.word()).unwrap().1
    }

    pub fn total(&self, name: &str) -> u64 {
        self.device.totals().into_iter().find(|(known, _)| *known == name).unwrap().1
    }
}

pub fn readable(fd: RawFd, wait: Duration) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&mut poll, 1, wait.as_millis() as libc::c_int) == 1 }
}

/// Wait until `true`, at most five seconds.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(5);
    while !is() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Two devices that know each other; `a` knows where `b` is.
pub fn pair() -> (Node, Node) {
    let (a, b) = (node(), node());
    a.peer(b.key, Some(loopback(b.port)), &["10.9.0.2/32"]);
    b.peer(a.key, None, &["10.9.0.1/32"]);
    (a, b)
}

/// An IPv4 UDP packet of `payload` bytes, all `fill`, without a UDP checksum.
pub fn udp(source: [u8; 4], destination: [u8; 4], payload: usize, fill: u8) -> Vec<u8> {
    let total = 28 + payload;
    let mut packet = vec![fill; total];
    packet[..28].fill(0);
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(total as u16).to_be_bytes());
    packet[8..10].copy_from_slice(&[64, 17]);
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet[20..24].copy_from_slice(&[0x30, 0x39, 0, 9]);
    packet[24..26].copy_from_slice(&((8 + payload) as u16).to_be_bytes());
    let sum: u32 = packet[..20].chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet
}

pub const A: [u8; 4] = [10, 9, 0, 1];
pub const B: [u8; 4] = [10, 9, 0, 2];

/// Sits between two devices, so that a test can see, keep, repeat and change what they send.
pub struct Middle {
    pub socket: UdpSocket,
    pub address: SocketAddr,
}

impl Middle {
    pub fn new() -> Middle {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let address = socket.local_addr().unwrap();
        Middle { socket, address }
    }

    pub fn receive(&self) -> Vec<u8> {
        let mut datagram = vec![0; 2048];
        let (n, _) = self.socket.recv_from(&mut datagram).unwrap();
        datagram.truncate(n);
        datagram
    }

    pub fn send(&self, port: u16, datagram: &[u8]) {
        self.socket.send_to(datagram, loopback(port)).unwrap();
    }

    /// Nothing arrives for a while.
    pub fn silent(&self) -> bool {
        self.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let silent = self.socket.recv_from(&mut [0; 2048]).is_err();
        self.socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        silent
    }
}

pub fn secret(byte: u8) -> Secret {
    Secret([byte; 32])
}

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
