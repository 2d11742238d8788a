//! Packets that the engine itself sends into the tunnel: pings, their answers, messages about keys, whatever a caller
//! hands in. A bounded queue on the way to the first data thread, which treats them as if they came out of the TUN;
//! nobody who puts one in ever waits.

use crate::shared::Shared;
use parking_lot::Mutex;
use std::collections::VecDeque;
use wgengine_core::observe::drop::Drop;
use wgengine_core::packet::parse::Parsed;

/// What may wait, in packets ...
pub const MAX_PACKETS: usize = 512;
/// ... and in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The longest packet that a TUN could hand out.
const MAX_PACKET: usize = 65_535;

#[derive(Debug, Default)]
struct Waiting {
    packets: VecDeque<Box<[u8]>>,
    bytes: usize,
}

/// What waits for the first data thread.
#[derive(Debug, Default)]
pub struct Injection {
    waiting: Mutex<Waiting>,
}

impl Injection {
    /// Leave a packet. True: it is the first of those that wait, so the data thread is to be woken.
    fn push(&self, packet: Box<[u8]>) -> Result<bool, Drop> {
        let mut waiting = self.waiting.lock();
        let bytes = waiting.bytes + packet.len();
        if waiting.packets.len() >= MAX_PACKETS || bytes > MAX_BYTES {
            return Err(Drop::InjectionQueueFull);
        }
        waiting.bytes = bytes;
        waiting.packets.push_back(packet);
        Ok(waiting.packets.len() == 1)
    }

    /// All that waits, oldest first.
    pub fn take(&self) -> VecDeque<Box<[u8]>> {
        core::mem::take(&mut *self.waiting.lock()).packets
    }
}

impl Shared {
    /// Send an IP packet as if it had come out of the TUN: to the owner of its destination, after a handshake if need be.
    /// Never waits. What cannot be queued is counted, too.
    pub fn inject(&self, packet: Vec<u8>) -> Result<(), Drop> {
        let whole = packet.len() <= MAX_PACKET && Parsed::of(&packet).is_some();
        let first = match whole {
            true => self.injection.push(packet.into_boxed_slice()),
            false => Err(Drop::MalformedPacket),
        };
        match first {
            Ok(true) => self.wakes[0].wake(),
            Ok(false) => {}
            Err(why) => self.control_counters().drop(why, 1),
        }
        first.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_waits_and_no_more_and_one_wake_is_enough() {
        let injection = Injection::default();
        let push = |bytes: usize| injection.push(vec![0x45; bytes].into_boxed_slice());
        assert_eq!(push(20), Ok(true));
        assert!((1..MAX_PACKETS).all(|_| push(20) == Ok(false)));
        assert_eq!(push(20), Err(Drop::InjectionQueueFull));
        assert_eq!(injection.take().len(), MAX_PACKETS);
        assert_eq!(push(MAX_PACKET), Ok(true), "what was taken makes room, and is to be told again");
        let more = (0..MAX_PACKETS).take_while(|_| push(MAX_PACKET).is_ok()).count();
        assert_eq!(more + 1, MAX_BYTES / MAX_PACKET);
        assert_eq!((push(20), push(16)), (Err(Drop::InjectionQueueFull), Ok(false)), "as much as fits, and no more");
    }
}
