//! A device that only remembers, and the small tools of these tests.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wgengine_core::observe::state::{DeviceState, PeerState};
use wgengine_core::plan::{AllowedChange, PeerPlan, Plan, Prefix, PublicKey};
use wgengine_io::uapi::{listen_in, Handler, Refusal, Server};

/// Applies plans to a state in memory, one peer after the other.
pub struct FakeDevice {
    pub state: Mutex<DeviceState>,
    /// What every `set` answers when it is not 0; [`PANIC`] is a panic.
    pub errno: AtomicI32,
    pub refusals: Mutex<Vec<Refusal>>,
    /// Where Linux shows what the thread that asked last has used.
    pub thread: Mutex<PathBuf>,
}

/// The errno that makes the fake device panic.
pub const PANIC: i32 = 4095;

impl FakeDevice {
    pub fn new() -> Arc<FakeDevice> {
        let state = DeviceState { private_key: None, listen_port: 0, fwmark: 0, peers: Vec::new() };
        Arc::new(FakeDevice {
            state: Mutex::new(state),
            errno: AtomicI32::new(0),
            refusals: Mutex::default(),
            thread: Mutex::default(),
        })
    }

    /// A device whose state is megabytes of text.
    pub fn large(peers: u32) -> Arc<FakeDevice> {
        let device = FakeDevice::new();
        let peer = |number: u32| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            peer_state(PublicKey(key))
        };
        device.state.lock().unwrap().peers = (0..peers).map(peer).collect();
        device
    }
}

impl Handler for FakeDevice {
    fn get(&self) -> DeviceState {
        *self.thread.lock().unwrap() = fs::read_link("/proc/thread-self").unwrap_or_default();
        self.state.lock().unwrap().clone()
    }

    fn set(&self, plan: Plan) -> Result<(), i32> {
        match self.errno.load(Ordering::Relaxed) {
            PANIC => panic!("the fake device panics as asked"),
            0 => {}
            errno => return Err(errno),
        }
        let mut state = self.state.lock().unwrap();
        state.private_key = plan.private_key.or(state.private_key.take());
        state.listen_port = plan.listen_port.unwrap_or(state.listen_port);
        state.fwmark = plan.fwmark.unwrap_or(state.fwmark);
        if plan.replace_peers {
            state.peers.clear();
        }
        plan.peers.into_iter().for_each(|peer| apply(&mut state.peers, peer));
        Ok(())
    }

    fn refused(&self, refusal: &Refusal) {
        self.refusals.lock().unwrap().push(refusal.clone());
    }
}

fn peer_state(public_key: PublicKey) -> PeerState {
    PeerState {
        public_key,
        preshared_key: None,
        endpoint: None,
        last_handshake: None,
        tx_bytes: 0,
        rx_bytes: 0,
        persistent_keepalive: 0,
        trimmed: false,
        allowed_ips: Vec::new(),
    }
}

fn apply(peers: &mut Vec<PeerState>, plan: PeerPlan) {
    let at = peers.iter().position(|peer| peer.public_key == plan.public_key);
    if plan.remove {
        peers.retain(|peer| peer.public_key != plan.public_key);
        return;
    }
    let at = match at {
        None if plan.update_only => return,
        None => {
            peers.push(peer_state(plan.public_key));
            peers.len() - 1
        }
        Some(at) => at,
    };
    if plan.replace_allowed_ips {
        peers[at].allowed_ips.clear();
    }
    // The last word on each prefix counts; one that was added on the way has left its owner all the same.
    let last: HashMap<Prefix, AllowedChange> =
        plan.allowed_ips.iter().map(|change| (prefix_of(change), *change)).collect();
    let added: HashSet<Prefix> = plan.allowed_ips.iter().filter(|c| is_add(c)).map(prefix_of).collect();
    peers.iter_mut().for_each(|peer| peer.allowed_ips.retain(|have| !added.contains(have)));
    peers[at].allowed_ips.retain(|have| !last.contains_key(have));
    let mut placed = HashSet::new();
    let stays = |prefix: &Prefix| is_add(&last[prefix]) && placed.insert(*prefix);
    peers[at].allowed_ips.extend(plan.allowed_ips.iter().map(prefix_of).filter(stays));
    let peer = &mut peers[at];
    peer.preshared_key = plan.preshared_key.or(peer.preshared_key.take());
    peer.endpoint = plan.endpoint.or(peer.endpoint);
    peer.persistent_keepalive = plan.persistent_keepalive.unwrap_or(peer.persistent_keepalive);
}

fn prefix_of(change: &AllowedChange) -> Prefix {
    match change {
        AllowedChange::Add(prefix) | AllowedChange::Remove(prefix) => *prefix,
    }
}

fn is_add(change: &AllowedChange) -> bool {
    matches!(change, AllowedChange::Add(_))
}

/// A directory of this test alone, removed at its end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("wge-uapi-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server for `device` in `folder`, and its socket file.
pub fn serve(folder: &Folder, device: Arc<FakeDevice>) -> (Server, PathBuf) {
    let (listener, path) = listen_in(folder.path(), "wg0").unwrap();
    let server = Server::start(listener, Some(path.clone()), device, Box::new(|| ())).unwrap();
    (server, path)
}

/// A client that waits at most twenty seconds for anything.
pub fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends bytes; a server that has closed already shows in the answer.
pub fn send(stream: &mut UnixStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Reads one answer, or what came of it before the end.
pub fn receive(stream: &mut UnixStream) -> String {
    let mut answer = Vec::new();
    let mut piece = [0; 65536];
    while !answer.ends_with(b"\n\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
        }
    }
    String::from_utf8(answer).unwrap()
}

/// One request and its answer.
pub fn ask(stream: &mut UnixStream, request: &str) -> String {
    send(stream, request.as_bytes());
    receive(stream)
}

/// The server has closed this connection.
pub fn is_over(stream: &mut UnixStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}
