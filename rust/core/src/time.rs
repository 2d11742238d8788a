//! Time as the core sees it: numbers that the edge hands in.

use core::num::NonZeroU64;
use core::ops::{Add, Sub};
use core::time::Duration;

/// Nanoseconds on a clock that never steps back and counts while the machine sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// How long ago `earlier` was; zero when it lies ahead.
    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Tick {
    type Output = Tick;
    fn add(self, by: Duration) -> Tick {
        Tick(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Tick {
    type Output = Tick;
    fn sub(self, by: Duration) -> Tick {
        Tick(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// When something happened last, if it ever did: as small as a [`Tick`]. The tick zero, when the clock began, is never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(Option<NonZeroU64>);

impl Seen {
    pub fn at(now: Tick) -> Seen {
        Seen(NonZeroU64::new(now.0))
    }

    pub fn get(self) -> Option<Tick> {
        self.0.map(|at| Tick(at.get()))
    }
}

/// Time since 1970 by the wall clock, for what people read; never used to decide anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wall {
    pub secs: u64,
    pub nanos: u32,
}

/// Both clocks, read together by the edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub tick: Tick,
    pub wall: Wall,
}
