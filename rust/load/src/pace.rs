//! A rate kept by tokens: how many datagrams are due now, for as long as the load lasts.

use std::time::{Duration, Instant};

/// After a pause at most this much is caught up at once; a generator that is too slow says so by its rate.
const BURST: Duration = Duration::from_millis(5);
/// Woken up so often: the bursts between are what a sender with interrupt coalescing makes, too.
const NAP: Duration = Duration::from_micros(200);

pub struct Pace {
    rate: f64,
    began: Instant,
    until: Instant,
    /// Tokens, by the time that has gone by up to `seen`.
    tokens: f64,
    seen: Instant,
}

impl Pace {
    pub fn new(rate: u64, lasts: Duration) -> Pace {
        let began = Instant::now();
        Pace { rate: rate as f64, began, until: began + lasts, tokens: 0.0, seen: began }
    }

    /// Wait for the next datagrams that are due, at most `most`; `None` when the time is over.
    pub fn due(&mut self, most: usize) -> Option<usize> {
        loop {
            let now = Instant::now();
            if now >= self.until {
                return None;
            }
            self.tokens += (now - self.seen).as_secs_f64() * self.rate;
            self.tokens = self.tokens.min((BURST.as_secs_f64() * self.rate).max(1.0));
            self.seen = now;
            if self.tokens >= 1.0 {
                let due = (self.tokens as usize).min(most);
                self.tokens -= due as f64;
                return Some(due);
            }
            std::thread::sleep(NAP.min(self.until - now));
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_due_than_the_rate_allows_and_it_ends() {
        let mut pace = Pace::new(10_000, Duration::from_millis(100));
        let mut sent = 0;
        while let Some(due) = pace.due(64) {
            assert!((1..=64).contains(&due));
            sent += due;
        }
        assert!(sent > 0 && sent <= 1000, "{sent} were due in a tenth of a second");
    }
}
