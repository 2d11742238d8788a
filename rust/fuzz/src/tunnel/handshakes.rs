//! What the control thread does for one peer. Diffie-Hellman takes no lock: a handshake is taken out, and put back when
//! anything may have happened meanwhile.

use super::clear::{read_initiation, Clear};
use super::side::Side;
use std::net::SocketAddr;
use std::time::Duration;
use wgengine_core::observe::drop::Drop;
use wgengine_core::time::{Now, Tick};
use wgengine_core::tunnel::handshake::Work;
use wgengine_core::tunnel::noise::Timestamp;
use wgengine_core::wire::wireguard::{receiver, Message, INITIATION_LEN, RESPONSE_LEN};

/// Of one peer's initiations five are answered at once, and one more in each such time (C3 row 6).
const INITIATION_INTERVAL: Duration = Duration::from_millis(20);
const INITIATIONS_AT_ONCE: u32 = 5;

/// A handshake that is out of its peer.
pub enum Out {
    Initiation {
        work: Work<Clear>,
        message: [u8; INITIATION_LEN],
        index: Option<u32>,
    },
    Answer {
        work: Work<Clear>,
        initiation: [u8; INITIATION_LEN],
        response: [u8; RESPONSE_LEN],
        timestamp: Timestamp,
        from: SocketAddr,
        index: u32,
    },
    End {
        work: Work<Clear>,
        outcome: Result<(), Drop>,
        response: [u8; RESPONSE_LEN],
        from: SocketAddr,
        index: u32,
    },
}

impl Out {
    /// The index that is its own.
    pub fn index(&self) -> Option<u32> {
        match self {
            Out::Initiation { index, .. } => *index,
            Out::Answer { index, .. } | Out::End { index, .. } => Some(*index),
        }
    }
}

impl Side {
    pub fn is_asked(&self) -> bool {
        self.asked > 0
    }

    /// The control thread comes to what it was asked for.
    pub fn shake(&mut self, now: Now, turn: bool, slow: bool, jitter: Duration) {
        self.complete(now, jitter);
        if self.asked > 0 {
            self.asked -= 1;
            if self.peer.take_ask() {
                self.initiate(now, turn);
            }
        }
        if !slow {
            self.complete(now, jitter);
        }
    }

    pub(super) fn initiate(&mut self, now: Now, turn: bool) {
        if !self.peer.can_send(now.tick) && !turn {
            self.peer.wait_for_turn(now.tick);
            return;
        }
        self.begin_initiation();
    }

    pub fn take_turn(&mut self, now: Now, jitter: Duration) {
        self.complete(now, jitter);
        if self.peer.timers.waits_for_turn() {
            self.begin_initiation();
            self.complete(now, jitter);
        }
    }

    fn begin_initiation(&mut self) {
        if self.peer.address().is_none() {
            let waiting = self.peer.cancel_handshake();
            self.watch.cleared(waiting);
            return;
        }
        let mut index = self.peer.attempt_index();
        let mut work = self.peer.take_attempt();
        let new_index = || {
            self.next_index += 1;
            self.watch.table.insert(self.next_index);
            *index.insert(self.next_index)
        };
        let message = work.initiate(&(), new_index).expect("this engine always can");
        self.out = Some(Out::Initiation { work, message, index });
    }

    /// Whether there is something to be put back (`None`), or the initiation was refused.
    pub(super) fn take_initiation(
        &mut self,
        now: Now,
        message: &[u8; INITIATION_LEN],
        from: SocketAddr,
    ) -> Option<bool> {
        let Some(timestamp) = read_initiation(message) else { return Some(false) };
        let limited = left(&self.answered, now.tick) < INITIATION_INTERVAL;
        let newer = timestamp > self.peer.newest_timestamp();
        match self.peer.take_initiation(timestamp, now.tick) {
            Ok(mut work) => {
                assert!(newer && !limited);
                self.next_index += 1;
                let index = self.next_index;
                self.watch.table.insert(index);
                let response = work.answer(&(), message, || index).expect("this engine always can");
                self.out = Some(Out::Answer { work, initiation: *message, response, timestamp, from, index });
                None
            }
            Err(why) => {
                assert_eq!(why, if limited { Drop::PeerLimited } else { Drop::ReplayedInitiation });
                assert!(limited || !newer);
                Some(false)
            }
        }
    }

    pub(super) fn take_response(&mut self, message: &[u8; RESPONSE_LEN], from: SocketAddr) -> Option<bool> {
        let index = receiver(Message::Response(message)).map(|index| index >> 8)?;
        if self.peer.attempt_index() != Some(index) {
            return Some(false);
        }
        let mut work = self.peer.take_attempt();
        let outcome = work.finish(message);
        self.out = Some(Out::End { work, outcome, response: *message, from, index });
        None
    }

    /// Puts back what is out. False: nothing came of it.
    pub fn complete(&mut self, now: Now, jitter: Duration) -> bool {
        let Some(out) = self.out.take() else { return false };
        match out {
            Out::Initiation { work, message, .. } => {
                let message = self.peer.initiated(work, Ok(message), now.tick, jitter).expect("it was written");
                match message {
                    Some(message) => {
                        self.watch.initiated(now.tick, &message);
                        self.sent.push(message.to_vec());
                        true
                    }
                    None => {
                        let again = !self.peer.can_send(now.tick) && self.peer.ask_handshake(now.tick);
                        self.asked += usize::from(again);
                        false
                    }
                }
            }
            Out::Answer { work, initiation, response, timestamp, from, index } => {
                let Ok((response, _)) = self.peer.answered(work, Ok(response), timestamp, from.into(), now.tick) else {
                    return false;
                };
                self.watch.answered(now.tick, &initiation, &response, index);
                self.answered.push(now.tick);
                self.sent.push(response.to_vec());
                true
            }
            Out::End { work, outcome, response, from, index } => {
                if self.peer.finished(work, outcome, from.into(), now).is_err() {
                    return false;
                }
                self.watch.finished(now.tick, &response, index);
                if self.peer.staging.is_empty() {
                    self.keepalive(now, true, Duration::ZERO);
                } else {
                    self.send_staged(now);
                }
                true
            }
        }
    }
}

/// What is left to earn answers with, told anew from all that were given.
fn left(answered: &[Tick], now: Tick) -> Duration {
    let full = INITIATION_INTERVAL * INITIATIONS_AT_ONCE;
    let (mut left, mut at) = (full, answered.first().copied().unwrap_or(now));
    for answer in answered {
        left = (left + answer.since(at)).min(full) - INITIATION_INTERVAL;
        at = *answer;
    }
    (left + now.since(at)).min(full)
}
