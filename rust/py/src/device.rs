//! The device: one coarse call down, counters and events up.

use crate::error::{self, ConfigError};
use crate::events::describe;
use crate::keys::PublicKey;
use crate::plan::Plan;
use crate::process;
use crate::state::{DeviceState, PeerState};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::observe::event::PingKind;
use wgengine_io::device::{TunSource, UapiSource};
use wgengine_io::uapi::answer;
use wgengine_io::{Device as Running, Options};

/// One WireGuard device: a TUN, UDP sockets, peers, and the threads that move packets.
#[pyclass(frozen, module = "wgengine._native")]
pub struct Device {
    running: Running,
}

/// A descriptor that somebody else owns and keeps open over the call.
fn borrow(fd: RawFd) -> PyResult<BorrowedFd<'static>> {
    if fd < 0 {
        return Err(ConfigError::new_err(format!("file descriptor {fd}: it cannot be negative")));
    }
    // SAFETY: the caller passed a descriptor that is open; it is only duplicated, and a closed one gives EBADF.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

impl Device {
    /// The device, for the process that made it: a fork's child has no thread that would answer, and a lock in its copy
    /// may be held for ever.
    fn ours(&self) -> PyResult<&Running> {
        match self.running.is_inherited() {
            true => Err(error::forked()),
            false => Ok(&self.running),
        }
    }

    /// The same while packets can be sent.
    fn open(&self) -> PyResult<&Running> {
        let running = self.ours()?;
        match running.is_closed() {
            true => Err(error::closed()),
            false => Ok(running),
        }
    }
}

fn address(field: &str, text: &str) -> PyResult<IpAddr> {
    text.parse().map_err(|_| {
        ConfigError::new_err(format!("{field} {text:?}: write an IPv4 or IPv6 address, without a prefix length"))
    })
}

fn ping_kind(text: &str) -> PyResult<PingKind> {
    match text {
        "tsmp" => Ok(PingKind::Tsmp),
        "icmp" => Ok(PingKind::Icmp),
        _ => Err(ConfigError::new_err(format!("kind {text:?}: write \"tsmp\" or \"icmp\""))),
    }
}

/// A peer, and when it was last sent to and heard from.
type Activity = (PublicKey, Option<f64>, Option<f64>);

/// The longest that a ping is waited for, in seconds.
const MAX_TIMEOUT: f64 = 3600.0;

#[pymethods]
impl Device {
    /// Makes and starts a device. Raises PrivilegeError where a TUN may not be made, OSError (its errno kept) for a name,
    /// socket or descriptor that cannot be had, ConfigError for arguments that contradict each other.
    #[new]
    #[pyo3(signature = (*, name=None, tun_fd=None, memory=false, mtu=0, shards=0, uapi=false, uapi_fd=None,
                        tun_offload=true, udp_gso=true, udp_gro=true, respond_to_ping=false,
                        nice=0))]
    #[allow(clippy::too_many_arguments)] // keywords of one Python call
    fn new(
        py: Python<'_>,
        name: Option<&str>,
        tun_fd: Option<RawFd>,
        memory: bool,
        mtu: u32,
        shards: usize,
        uapi: bool,
        uapi_fd: Option<RawFd>,
        tun_offload: bool,
        udp_gso: bool,
        udp_gro: bool,
        respond_to_ping: bool,
        nice: i32,
    ) -> PyResult<Device> {
        process::tell_us_of_forks(py)?;
        let shown = name.unwrap_or("wg%d").to_owned();
        let tun = match (tun_fd, memory) {
            (Some(_), true) => return Err(ConfigError::new_err("tun_fd and memory exclude each other")),
            (Some(fd), false) => TunSource::Adopt(borrow(fd)?),
            (None, true) => TunSource::Memory,
            (None, false) => TunSource::Create(name.unwrap_or("")),
        };
        let uapi = match uapi_fd {
            Some(fd) => {
                let listener = borrow(fd)?.try_clone_to_owned().map_err(|e| error::os(&e, "uapi_fd"))?;
                UapiSource::Adopt(UnixListener::from(listener))
            }
            None if uapi => UapiSource::Listen,
            None => UapiSource::None,
        };
        let options = Options { tun, mtu, shards, uapi, tun_offload, udp_gso, udp_gro, nice };
        let running = py.detach(|| Running::start(options)).map_err(|e| error::start(&e, &shown))?;
        running.shared().hooks.set_respond_to_ping(respond_to_ping);
        Ok(Device { running })
    }

    /// The interface's name; "memory" without one.
    #[getter]
    fn name(&self) -> &str {
        self.running.name()
    }

    #[getter]
    fn mtu(&self) -> u32 {
        self.running.mtu()
    }

    /// 0 for a device without an interface in this network namespace.
    #[getter]
    fn ifindex(&self) -> u32 {
        self.running.ifindex()
    }

    /// Readable while events wait.
    #[getter]
    fn event_fd(&self) -> PyResult<RawFd> {
        Ok(self.ours()?.event_fd())
    }

    /// The TUN's own descriptor (its first queue's). Not to be closed.
    #[getter]
    fn tun_fd(&self) -> PyResult<RawFd> {
        Ok(self.ours()?.tun_fd())
    }

    /// The far end of an in-memory device. Not to be closed.
    #[getter]
    fn memory_fd(&self) -> PyResult<Option<RawFd>> {
        Ok(self.ours()?.memory_fd())
    }

    #[getter]
    fn closed(&self) -> bool {
        self.running.is_closed()
    }

    /// Changes what the plan says, as one step. Raises OSError, and then nothing has changed.
    fn commit(&self, py: Python<'_>, plan: &Bound<'_, Plan>) -> PyResult<()> {
        let running = self.open()?;
        let plan = &plan.get().0;
        py.detach(|| running.shared().commit(plan)).map_err(|e| {
            let port = plan.listen_port.unwrap_or(0);
            error::os(&e, &format!("listen_port {port}, fwmark {:#x}", plan.fwmark.unwrap_or(0)))
        })
    }

    fn state(&self, py: Python<'_>) -> PyResult<DeviceState> {
        let running = self.ours()?;
        Ok(py.detach(|| running.shared().state().into()))
    }

    /// One request of the cross-platform configuration protocol, and its answer.
    fn uapi(&self, py: Python<'_>, request: &str) -> PyResult<String> {
        let running = self.ours()?;
        Ok(py.detach(|| answer(running.shared(), request).to_string()))
    }

    /// Events that wait, oldest first: (kind, unix time, fields).
    #[pyo3(signature = (limit=256))]
    fn drain<'py>(&self, py: Python<'py>, limit: usize) -> PyResult<Vec<(&'static str, f64, Bound<'py, PyDict>)>> {
        let drained = self.ours()?.drain(limit);
        let mut told = Vec::with_capacity(drained.events.len() + 1);
        if drained.lost > 0 {
            let fields = PyDict::new(py);
            fields.set_item("count", drained.lost)?;
            let at = drained.events.first().map_or(0.0, |(at, _)| at.secs as f64);
            told.push(("lost", at, fields));
        }
        for (at, event) in drained.events {
            let fields = PyDict::new(py);
            let kind = describe(&event, &fields)?;
            told.push((kind, at.secs as f64 + f64::from(at.nanos) / 1e9, fields));
        }
        Ok(told)
    }

    /// How many packets died of each reason.
    fn drops(&self) -> PyResult<BTreeMap<&'static str, u64>> {
        Ok(self.ours()?.drops().into_iter().collect())
    }

    /// What went by, by name.
    fn counters(&self) -> PyResult<BTreeMap<&'static str, u64>> {
        Ok(self.ours()?.totals().into_iter().collect())
    }

    /// How many UDP sockets there are of each family, the smallest buffers that the kernel granted one of them, and what
    /// was asked for. Raises OSError.
    fn sockets(&self) -> PyResult<BTreeMap<&'static str, u64>> {
        let (_, sockets) = self.ours()?.shared().sockets();
        Ok(sockets.summary().map_err(|e| error::os(&e, "sockets"))?.into_iter().collect())
    }

    /// Which offloads are in use.
    fn offloads(&self) -> PyResult<BTreeMap<&'static str, bool>> {
        let offloads = &self.ours()?.shared().offloads;
        Ok(offloads.names().into_iter().map(|(name, flag)| (name, flag.load(Ordering::Relaxed))).collect())
    }

    /// Switches offloads while packets flow. Raises OSError when the kernel refuses.
    #[pyo3(signature = (*, tun_offload=None, udp_gso=None, udp_gro=None))]
    fn set_offloads(&self, tun_offload: Option<bool>, udp_gso: Option<bool>, udp_gro: Option<bool>) -> PyResult<()> {
        self.ours()?.shared().set_offloads(tun_offload, udp_gso, udp_gro).map_err(|e| error::os(&e, "offloads"))
    }

    /// A new session with this peer now, as if two minutes had passed; the one in use goes on until there is another.
    /// False when there is no such peer, or a handshake is under way.
    fn rekey(&self, peer: &PublicKey) -> PyResult<bool> {
        Ok(self.ours()?.shared().rekey(&peer.0))
    }

    /// One peer as seen from outside; None: there is no such peer.
    fn peer_state(&self, peer: &PublicKey) -> PyResult<Option<PeerState>> {
        Ok(self.ours()?.shared().peer_state(&peer.0).map(PeerState::from))
    }

    /// The peer that a packet to this address goes to, by the longest prefix. Raises ConfigError for what is no address.
    fn owner(&self, ip: &str) -> PyResult<Option<PublicKey>> {
        let address = address("ip", ip)?;
        Ok(self.ours()?.shared().table.owner(address).map(|cell| PublicKey(cell.key)))
    }

    /// Peers that are not trimmed and had traffic: when each was last sent to and heard from, on the clock of
    /// `time.monotonic()`. None: never.
    fn activity(&self, py: Python<'_>) -> PyResult<Vec<Activity>> {
        let running = self.ours()?;
        let activity = py.detach(|| running.shared().activity());
        Ok(activity.into_iter().map(|(key, sent, received)| (PublicKey(key), sent, received)).collect())
    }

    /// Sends an IP packet as if it had come out of the TUN, without waiting. False: too many wait already. Raises
    /// ConfigError for bytes that are no packet.
    fn inject(&self, packet: &[u8]) -> PyResult<bool> {
        match self.open()?.shared().inject(packet.to_vec()) {
            Ok(()) => Ok(true),
            Err(Drop::InjectionQueueFull) => Ok(false),
            Err(_) => Err(ConfigError::new_err(
                "packet: write one whole IPv4 or IPv6 packet of at most 65535 bytes, whose lengths are true",
            )),
        }
    }

    /// Sends a ping, without waiting. Just one event bears the token that is returned: `pong`, or `ping_expired` after
    /// `timeout` seconds. Raises ConfigError for arguments that are none; StateError where it cannot be sent.
    fn ping(&self, kind: &str, source: &str, destination: &str, timeout: f64) -> PyResult<u64> {
        let (kind, from, to) = (ping_kind(kind)?, address("source", source)?, address("destination", destination)?);
        if !(timeout > 0.0 && timeout <= MAX_TIMEOUT) {
            return Err(ConfigError::new_err(format!("timeout {timeout}: write seconds, more than 0, at most 3600")));
        }
        let sent = self.open()?.shared().ping(kind, from, to, Duration::from_secs_f64(timeout));
        sent.map_err(|why| error::ping(why, source, destination))
    }

    /// Tells whoever has `destination` that `key` is our disco key, without waiting. False: too many packets wait already.
    fn advertise_disco_key(&self, source: &str, destination: &str, key: &PublicKey) -> PyResult<bool> {
        let (from, to) = (address("source", source)?, address("destination", destination)?);
        if key.0 .0 == [0; 32] {
            return Err(ConfigError::new_err("key: all zero means that there is none"));
        }
        let sent = self.open()?.shared().advertise_disco_key(from, to, key.0);
        sent.map_err(|why| error::ping(why, source, destination))
    }

    /// Our addresses inside the tunnel: TSMP to others is dropped, and echo requests to others are not answered.
    fn set_own_addresses(&self, addresses: Vec<String>) -> PyResult<()> {
        let addresses = addresses.iter().map(|text| address("own address", text)).collect::<PyResult<Vec<_>>>()?;
        self.ours()?.shared().hooks.set_own_addresses(addresses);
        Ok(())
    }

    /// Answer echo requests to our addresses, where no operating system does.
    fn set_respond_to_ping(&self, on: bool) -> PyResult<()> {
        self.ours()?.shared().hooks.set_respond_to_ping(on);
        Ok(())
    }

    /// Ends all threads and gives everything back. May be called again.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let running = self.ours()?;
        py.detach(|| running.close());
        Ok(())
    }
}
