//! Watches our interface: up or down, its MTU, and whether it is still there.

use crate::changes;
use crate::fd::Held;
use crate::shared::Shared;
use crate::tun::{self, Tun};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering;
use wgengine_core::observe::event::Event;

/// Told of link changes by the kernel; what changed is then read afresh.
#[derive(Debug)]
pub struct Watch {
    changes: Held<OwnedFd>,
}

impl Watch {
    /// `None` where there is no interface to watch (a socket pair, or a TUN of another network namespace), or nobody to
    /// tell of it.
    pub fn new(tun: &Tun) -> Option<Watch> {
        if tun.ifindex == 0 {
            return None;
        }
        Some(Watch { changes: changes::of_links().ok()? })
    }

    /// Take in what the kernel told, if anything.
    pub fn look(&self, shared: &Shared) {
        if changes::drain(&self.changes) {
            self.read(shared);
        }
    }

    /// What the interface is now.
    pub fn read(&self, shared: &Shared) {
        // Gone: the data threads see that at the TUN itself.
        let Some((up, mtu)) = now(shared) else { return };
        let mtu_changed = shared.mtu.swap(mtu, Ordering::Relaxed) != mtu;
        if mtu_changed {
            // Without it super-packets may need two sends: slower, not wrong.
            let _ = tun::bound_super_packets(shared.tun.ifindex, mtu);
        }
        let turned = up != shared.is_up();
        if turned || mtu_changed {
            shared.ring.push(Event::LinkChanged { up, mtu });
        }
        match (turned, up) {
            (true, true) => shared.link_up(),
            (true, false) => shared.link_down(),
            (false, _) => {}
        }
    }
}

/// (is it up, its MTU); `None` when it is gone. It may bear another name by now, or be in another network namespace
/// (N23): there it cannot be watched and counts as up, like one that was adopted.
fn now(shared: &Shared) -> Option<(bool, u32)> {
    let here = |name: &str| tun::index_of(name).is_ok_and(|index| index == shared.tun.ifindex);
    if here(&shared.tun.name) {
        return tun::link_flags_and_mtu(&shared.tun.name).ok();
    }
    let name = tun::current_name(&shared.tun).ok()?;
    if here(&name) {
        return tun::link_flags_and_mtu(&name).ok();
    }
    Some((true, shared.mtu.load(Ordering::Relaxed)))
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.changes.as_raw_fd()
    }
}
