//! The device: one coarse call down, counters and events up.

use crate::error::{self, ConfigError};
use crate::keys::PublicKey;
use crate::plan::Plan;
use crate::process;
use crate::state::DeviceState;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::Ordering;
use wgengine_core::observe::event::Event;
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
}

#[pymethods]
impl Device {
    /// Makes and starts a device. Raises PrivilegeError where a TUN may not be made, OSError (its errno kept) for a name,
    /// socket or descriptor that cannot be had, ConfigError for arguments that contradict each other.
    #[new]
    #[pyo3(signature = (*, name=None, tun_fd=None, memory=false, mtu=0, shards=0, uapi=false, uapi_fd=None,
                        tun_offload=true, udp_gso=true, udp_gro=true))]
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
        let options = Options { tun, mtu, shards, uapi, tun_offload, udp_gso, udp_gro };
        let running = py.detach(|| Running::start(options)).map_err(|e| error::start(&e, &shown))?;
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
        let running = self.ours()?;
        if running.is_closed() {
            return Err(error::closed());
        }
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

    /// Ends all threads and gives everything back. May be called again.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let running = self.ours()?;
        py.detach(|| running.close());
        Ok(())
    }
}

/// The kind of an event; its fields go into `fields`.
fn describe(event: &Event, fields: &Bound<'_, PyDict>) -> PyResult<&'static str> {
    let peer = |key: &wgengine_core::plan::PublicKey| fields.set_item("peer", PublicKey(*key));
    Ok(match event {
        Event::SessionUp { peer: key, initiator } => {
            peer(key)?;
            fields.set_item("initiator", initiator)?;
            "session_up"
        }
        Event::HandshakeFailed { peer: key } => {
            peer(key)?;
            "handshake_failed"
        }
        Event::EndpointChanged { peer: key, endpoint } => {
            peer(key)?;
            fields.set_item("endpoint", endpoint.to_string())?;
            "endpoint_changed"
        }
        Event::PathTooSmall { peer: key, endpoint } => {
            peer(key)?;
            fields.set_item("endpoint", endpoint.to_string())?;
            "path_too_small"
        }
        Event::OffloadOff { offload, errno } => {
            fields.set_item("offload", offload)?;
            fields.set_item("errno", errno)?;
            "offload_off"
        }
        Event::ConfigChanged => "config_changed",
        Event::UapiRefused { line, text } => {
            fields.set_item("line", line)?;
            fields.set_item("text", text)?;
            "uapi_refused"
        }
        Event::LinkChanged { up, mtu } => {
            fields.set_item("up", up)?;
            fields.set_item("mtu", mtu)?;
            "link_changed"
        }
        Event::TunLost => "tun_lost",
        Event::UapiRemoved => "uapi_removed",
        Event::Failed { reason } => {
            fields.set_item("reason", reason)?;
            "failed"
        }
    })
}
