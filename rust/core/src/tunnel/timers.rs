//! The timers of one peer (whitepaper 6, kernel `timers.c`): pure, so that a test can run an hour in a millisecond.

use crate::time::Tick;
use core::time::Duration;

pub const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
pub const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
pub const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
pub const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The greatest jitter on a retry, so that peers of a restarted relay do not march in step (C3 row 11).
pub const REKEY_TIMEOUT_JITTER: Duration = Duration::from_millis(333);
/// Old keys are forgotten in steps, so that a thousand silent peers cost few wake-ups.
const FORGET_STEP: Duration = Duration::from_secs(16);
/// Who has not answered so many initiations, one every REKEY_TIMEOUT, most likely will not.
const UNANSWERED_TRIES: u32 = 3;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send an initiation: a new attempt, or the next try of the one under way.
    Initiate,
    /// The attempt failed: forget what waits for it. `tried`: at least one initiation went out.
    GiveUp { tried: bool },
    /// Send an empty data message.
    Keepalive,
    /// Nothing was agreed for three times REJECT_AFTER_TIME: forget all keys.
    Forget,
}

/// An attempt to shake hands, from its first initiation on.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    /// When a handshake was wanted first.
    since: Tick,
    tries: u32,
    sent: Tick,
    /// `None`: others have their turn, and this one waits for its own.
    retry: Option<Tick>,
}

impl Attempt {
    fn due(&self) -> Tick {
        self.retry.unwrap_or(self.since + REKEY_ATTEMPT_TIME)
    }
}

/// When things are due for one peer.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    attempt: Option<Attempt>,
    /// Data came in and nothing went out since.
    passive_keepalive: Option<Tick>,
    another_keepalive: bool,
    /// Data went out and nothing came in since.
    new_handshake: Option<Tick>,
    forget: Option<Tick>,
    /// Seconds; 0 is off.
    persistent_interval: u16,
    persistent: Option<Tick>,
    /// The peer is trimmed: no persistent keepalive before it wakes.
    asleep: bool,
}

impl Timers {
    /// A data packet with content was sent.
    pub fn data_sent(&mut self, now: Tick, jitter: Duration) {
        if self.new_handshake.is_none() {
            self.new_handshake = Some(now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter);
        }
    }

    /// A data packet with content was received.
    pub fn data_received(&mut self, now: Tick) {
        if self.passive_keepalive.is_none() {
            self.passive_keepalive = Some(now + KEEPALIVE_TIMEOUT);
        } else {
            self.another_keepalive = true;
        }
    }

    /// Anything authenticated was sent: data, a keepalive or a handshake message.
    pub fn sent(&mut self, now: Tick) {
        self.passive_keepalive = None;
        self.another_keepalive = false;
        self.traversed(now);
    }

    /// Anything authenticated was received.
    pub fn received(&mut self, now: Tick) {
        self.new_handshake = None;
        self.traversed(now);
    }

    fn traversed(&mut self, now: Tick) {
        if self.persistent_interval > 0 {
            self.persistent = Some(now + self.interval());
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(self.persistent_interval.into())
    }

    /// An initiation went out; `jitter` is up to [`REKEY_TIMEOUT_JITTER`].
    pub fn initiation_sent(&mut self, now: Tick, jitter: Duration) {
        let (since, tries) = self.attempt.map_or((now, 0), |a| (a.since, a.tries));
        self.attempt = Some(Attempt { since, tries: tries + 1, sent: now, retry: Some(now + REKEY_TIMEOUT + jitter) });
        self.sent(now);
    }

    /// A handshake is wanted, but it is the turn of others ([`super::backlog`]): wait for [`Timers::initiation_sent`],
    /// as long as an attempt lasts.
    pub fn wait_for_turn(&mut self, now: Tick) {
        let attempt = self.attempt.unwrap_or(Attempt { since: now, tries: 0, sent: now, retry: None });
        self.attempt = Some(Attempt { retry: None, ..attempt });
    }

    pub fn waits_for_turn(&self) -> bool {
        self.attempt.is_some_and(|a| a.retry.is_none())
    }

    /// May a new initiation go out? Not while one is on its way, and never two within REKEY_TIMEOUT.
    pub fn may_initiate(&self, now: Tick) -> bool {
        self.attempt.is_none_or(|a| now.since(a.sent) >= REKEY_TIMEOUT && a.retry.is_some_and(|retry| now >= retry))
    }

    /// Have just so many initiations of the attempt under way gone out that it is worth telling that none was answered?
    pub fn is_unanswered(&self) -> bool {
        self.attempt.is_some_and(|a| a.tries == UNANSWERED_TRIES)
    }

    pub fn attempting(&self) -> bool {
        self.attempt.is_some()
    }

    /// No further try of the attempt under way can be made.
    pub fn attempt_over(&mut self) {
        self.attempt = None;
    }

    /// Both sides have agreed on a session.
    pub fn session_made(&mut self, now: Tick) {
        self.attempt = None;
        self.new_handshake = None;
        self.keys_derived(now);
    }

    /// There are keys, be they confirmed or not: they are forgotten some time after the newest ones. Peers that fall
    /// silent one after the other are looked at in few turns, so the time is rounded up.
    pub fn keys_derived(&mut self, now: Tick) {
        let due = now + REJECT_AFTER_TIME * 3;
        self.forget = Some(Tick(due.0.next_multiple_of(FORGET_STEP.as_nanos() as u64)));
    }

    /// 0 switches off. A first interval is due at once (case 28): whoever waits behind a NAT shows itself.
    pub fn set_persistent(&mut self, interval: u16, now: Tick) {
        if interval == self.persistent_interval {
            return;
        }
        let was_off = self.persistent_interval == 0;
        self.persistent_interval = interval;
        self.persistent = match interval {
            0 => None,
            _ if self.asleep => None,
            _ if was_off => Some(now),
            _ => Some(now + self.interval()),
        };
    }

    pub fn persistent_interval(&self) -> u16 {
        self.persistent_interval
    }

    /// The link came up: a persistent keepalive is due at once.
    pub fn link_up(&mut self, now: Tick) {
        if self.persistent_interval > 0 && !self.asleep {
            self.persistent = Some(now);
        }
    }

    /// Nothing is due any more but to forget, at `forget`, the keys that the other side may still use.
    pub fn sleep(&mut self, forget: Option<Tick>) {
        let persistent_interval = self.persistent_interval;
        *self = Timers { persistent_interval, asleep: true, forget, ..Timers::default() };
    }

    /// There is traffic again, or there shall be: the persistent keepalive goes on, at once. False: it was awake.
    pub fn wake(&mut self, now: Tick) -> bool {
        let slept = core::mem::take(&mut self.asleep);
        if slept && self.persistent_interval > 0 {
            self.persistent = Some(now);
        }
        slept
    }

    pub fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// Keys changed: nothing that was agreed or tried before counts any more.
    pub fn reset(&mut self) {
        let Timers { persistent_interval, persistent, asleep, .. } = *self;
        *self = Timers { persistent_interval, persistent, asleep, ..Timers::default() };
    }

    /// The next thing that is due at `now`, taken off the list. Call until `None`.
    pub fn poll(&mut self, now: Tick) -> Option<Due> {
        if let Some(attempt) = self.attempt.filter(|attempt| now >= attempt.due()) {
            if attempt.retry.is_some() && now.since(attempt.since) < REKEY_ATTEMPT_TIME {
                // initiation_sent() moves the retry on; until then it must not come up again.
                self.attempt = Some(Attempt { retry: Some(now + REKEY_TIMEOUT), ..attempt });
                return Some(Due::Initiate);
            }
            self.attempt = None;
            self.new_handshake = None;
            return Some(Due::GiveUp { tried: attempt.tries > 0 });
        }
        if self.new_handshake.is_some_and(|due| now >= due) {
            self.new_handshake = None;
            if self.attempt.is_none() {
                return Some(Due::Initiate);
            }
        }
        if self.passive_keepalive.is_some_and(|due| now >= due) {
            self.passive_keepalive = self.another_keepalive.then(|| now + KEEPALIVE_TIMEOUT);
            self.another_keepalive = false;
            return Some(Due::Keepalive);
        }
        if self.persistent.is_some_and(|due| now >= due) {
            self.persistent = Some(now + self.interval());
            return Some(Due::Keepalive);
        }
        if self.forget.is_some_and(|due| now >= due) {
            self.forget = None;
            return Some(Due::Forget);
        }
        None
    }

    /// When [`Timers::poll`] has something next.
    pub fn next(&self) -> Option<Tick> {
        [
            self.attempt.as_ref().map(Attempt::due),
            self.new_handshake,
            self.passive_keepalive,
            self.persistent,
            self.forget,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1_000_000_000)
    }

    /// All that comes due up to `until`, with the second in which it did; initiations count as sent.
    fn run(timers: &mut Timers, until: u64) -> Vec<(u64, Due)> {
        let mut happened = vec![];
        while let Some(next) = timers.next().filter(|t| *t <= at(until)) {
            while let Some(due) = timers.poll(next) {
                happened.push((next.0 / 1_000_000_000, due));
                if due == Due::Initiate {
                    timers.initiation_sent(next, NONE);
                }
            }
        }
        happened
    }

    #[test]
    fn an_attempt_ends_after_ninety_seconds() {
        let mut timers = Timers::default();
        timers.initiation_sent(at(0), NONE);
        let happened = run(&mut timers, 1000);
        let tries = happened.iter().filter(|(_, due)| *due == Due::Initiate).count();
        assert_eq!(tries + 1, 18, "the first, and one every five seconds");
        assert_eq!(happened.last(), Some(&(90, Due::GiveUp { tried: true })));
    }

    #[test]
    fn keys_are_forgotten_after_nine_minutes_and_not_much_later() {
        let mut timers = Timers::default();
        for begun in [0, 7, 100] {
            timers.keys_derived(at(begun));
            let happened = run(&mut timers, 1000);
            assert!(matches!(happened[..], [(at, Due::Forget)] if (540..=556).contains(&(at - begun))), "{happened:?}");
        }
    }

    #[test]
    fn who_waits_for_a_turn_waits_as_long_as_an_attempt_lasts() {
        let mut timers = Timers::default();
        timers.wait_for_turn(at(10));
        assert!(timers.waits_for_turn() && !timers.may_initiate(at(60)));
        assert_eq!(run(&mut timers, 1000), vec![(100, Due::GiveUp { tried: false })]);
        timers.wait_for_turn(at(200));
        timers.initiation_sent(at(230), NONE);
        assert_eq!(timers.poll(at(235)), Some(Due::Initiate));
        timers.wait_for_turn(at(235));
        assert_eq!(timers.poll(at(289)), None);
        assert_eq!(timers.poll(at(290)), Some(Due::GiveUp { tried: true }), "from when it was wanted first");
        timers.wait_for_turn(at(300));
        timers.initiation_sent(at(387), NONE);
        assert_eq!(timers.poll(at(392)), Some(Due::GiveUp { tried: true }), "and no further try after that");
    }

    #[test]
    fn three_initiations_without_an_answer_are_told_once() {
        let mut timers = Timers::default();
        let mut told = vec![];
        timers.initiation_sent(at(0), NONE);
        for now in 1..90 {
            if timers.poll(at(now)) == Some(Due::Initiate) {
                told.extend(timers.is_unanswered().then_some(now));
                timers.initiation_sent(at(now), NONE);
            }
        }
        assert_eq!(told, [15]);
        timers.session_made(at(90));
        assert!(!timers.is_unanswered());
    }

    #[test]
    fn c3_11_jitter_delays_a_retry_by_what_the_edge_drew() {
        let mut timers = Timers::default();
        let jitter = Duration::from_millis(250);
        timers.initiation_sent(at(0), jitter);
        assert_eq!(timers.next(), Some(at(5) + jitter));
        assert_eq!(timers.poll(at(5)), None);
        assert!(!timers.may_initiate(at(5)));
        assert_eq!(timers.poll(at(5) + jitter), Some(Due::Initiate));
    }

    #[test]
    fn data_without_an_answer_asks_for_a_handshake_after_fifteen_seconds() {
        let mut timers = Timers::default();
        timers.sent(at(100));
        timers.data_sent(at(100), NONE);
        timers.data_sent(at(110), NONE);
        assert_eq!(timers.poll(at(114)), None);
        assert_eq!(timers.poll(at(115)), Some(Due::Initiate));
    }

    #[test]
    fn an_answer_after_long_silence_asks_for_nothing() {
        let mut timers = Timers::default();
        timers.received(at(1));
        timers.data_sent(at(300), NONE);
        timers.sent(at(300));
        timers.received(at(301));
        timers.data_received(at(301));
        assert_eq!(run(&mut timers, 330), vec![(311, Due::Keepalive)]);
    }

    #[test]
    fn received_data_is_acknowledged_once_after_ten_seconds_and_again_only_for_more() {
        let mut timers = Timers::default();
        timers.data_received(at(0));
        timers.data_received(at(3));
        assert_eq!(timers.poll(at(10)), Some(Due::Keepalive));
        timers.sent(at(10));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn case_28_the_first_persistent_keepalive_is_due_at_once_then_by_the_interval() {
        let mut timers = Timers::default();
        timers.set_persistent(25, at(7));
        assert_eq!(run(&mut timers, 60), vec![(7, Due::Keepalive), (32, Due::Keepalive), (57, Due::Keepalive)]);
        timers.set_persistent(0, at(60));
        assert_eq!(timers.next(), None);
        timers.set_persistent(65535, at(61));
        assert_eq!(run(&mut timers, 60_000), vec![(61, Due::Keepalive)]);
    }

    #[test]
    fn who_sleeps_sends_nothing_and_goes_on_at_once_when_it_wakes() {
        let mut timers = Timers::default();
        timers.set_persistent(25, at(0));
        timers.initiation_sent(at(0), NONE);
        timers.data_received(at(1));
        timers.sleep(Some(at(180)));
        timers.link_up(at(2));
        assert_eq!(run(&mut timers, 1000), vec![(180, Due::Forget)], "no keepalive, no retry");
        timers.set_persistent(0, at(1000));
        timers.set_persistent(20, at(1000));
        timers.reset();
        assert_eq!((timers.next(), timers.persistent_interval()), (None, 20), "settings do not wake");
        assert!(timers.wake(at(1100)) && !timers.wake(at(1101)));
        assert_eq!(run(&mut timers, 1130), vec![(1100, Due::Keepalive), (1120, Due::Keepalive)]);
        timers.set_persistent(0, at(1130));
        timers.sleep(None);
        assert!(timers.wake(at(1140)));
        assert_eq!(timers.next(), None, "no keepalive was wanted");
    }

    #[test]
    fn an_attempt_that_is_over_is_not_tried_again() {
        let mut timers = Timers::default();
        timers.initiation_sent(at(0), NONE);
        timers.attempt_over();
        assert_eq!(timers.next(), None);
        assert!(timers.may_initiate(at(1)));
    }

    #[test]
    fn traffic_puts_a_persistent_keepalive_off() {
        let mut timers = Timers::default();
        timers.set_persistent(25, at(0));
        assert_eq!(timers.poll(at(0)), Some(Due::Keepalive));
        timers.received(at(20));
        assert_eq!(timers.next(), Some(at(45)));
    }
}
