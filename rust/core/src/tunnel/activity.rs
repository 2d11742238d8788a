//! When a peer's traffic went by last: what a policy needs that trims idle peers. Small, since every peer has one.

use crate::time::{Seen, Tick};

/// Messages about its disco key that one peer may have told in one second.
const TOLD_A_SECOND: u8 = 4;

/// The traces of one peer's traffic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Activity {
    /// A packet for it was handed to us; whether it could be sent does not matter.
    pub sent: Seen,
    /// Anything of it was authentic: data, a keepalive, a handshake message.
    pub received: Seen,
    /// The second of the newest messages that were told, and how many.
    told_in: u32,
    told: u8,
    /// It stands on the edge's list of peers with traffic.
    pub(super) listed: bool,
}

impl Activity {
    /// May one more message about this peer be told? So that a peer that sends them without end drowns nothing else.
    pub fn may_tell(&mut self, now: Tick) -> bool {
        // Cut off after 136 years, which only makes a second look like another one.
        let second = (now.0 / 1_000_000_000) as u32;
        if second != self.told_in {
            (self.told_in, self.told) = (second, 0);
        }
        let may = self.told < TOLD_A_SECOND;
        self.told += u8::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn so_much_is_told_in_a_second_and_more_in_the_next() {
        let mut activity = Activity::default();
        let tell = |activity: &mut Activity, at: u64| {
            (0..100).filter(|_| activity.may_tell(Tick(0) + Duration::from_secs(at))).count()
        };
        assert_eq!([3, 3, 4, 900].map(|at| tell(&mut activity, at)), [4, 0, 4, 4]);
    }

    #[test]
    fn a_peer_pays_little_for_it() {
        assert!(size_of::<Activity>() <= 24);
    }
}
