//! `handshakes --to ADDRESS:PORT --key KEY`: many initiators that are real peers, each shaking hands whenever it is its turn.
//!
//! A closed loop: so many handshakes are under way at a time, and one that is answered is followed by the next. So the
//! rate is what the responder can do, as long as this generator is not the slower one; it does about as much work.
//! Cookies are followed as the protocol wants (whitepaper 5.4.7). With `--sources RANGE` each initiator has an address of
//! its own; with `--roam 1` as well each handshake comes from the next one.

use crate::arguments::{Arguments, Range};
use crate::identity::private;
use crate::report::Report;
use crate::socket::{Inbox, Outgoing, Socket};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};
use wgengine_core::plan::PublicKey;
use wgengine_core::time::Tick;
use wgengine_core::tunnel::cookie::Cookies;
use wgengine_core::tunnel::noise::Noise;
use wgengine_core::wire::wireguard::{receiver, Message, DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};
use wgengine_noise::{Boring, Identity};

/// After so long a handshake counts as unanswered, and its place goes to the next initiator.
const PATIENCE: Duration = Duration::from_secs(1);
/// An attempt that was told to bring a cookie so often has no luck.
const TRIES: u32 = 5;

struct Initiator {
    identity: Identity,
    from: Option<Ipv4Addr>,
    cookies: Cookies,
    attempt: Option<Attempt>,
}

struct Attempt {
    noise: Boring,
    begun: Instant,
    tries: u32,
}

#[derive(Default)]
struct Tally {
    begun: u64,
    answered: u64,
    unanswered: u64,
    cookies: u64,
    failed: u64,
    waits: Vec<f64>,
}

struct Loop {
    socket: Socket,
    to: SocketAddrV4,
    key: PublicKey,
    initiators: Vec<Initiator>,
    /// Where the next handshake comes from, where each has another source.
    roam: Option<Range>,
    next: usize,
    under_way: usize,
    epoch: Instant,
    tally: Tally,
}

/// `handshakes …`; with `--seconds 0` each initiator shakes hands just once.
pub fn run(mut arguments: Arguments) -> Result<String, String> {
    let (to, key) = (arguments.address("to")?, arguments.the_key("key")?);
    let (seed, count) = (arguments.number("seed", 1)?, arguments.number("count", 1000)?);
    let most = arguments.number("outstanding", 32)?.max(1) as usize;
    let lasts = arguments.seconds("seconds", 3.0)?;
    let sources: Option<Range> = arguments.range("sources")?;
    let roam = sources.filter(|_| arguments.number("roam", 0).is_ok_and(|roam| roam > 0));
    let port = arguments.number("port", 0)? as u16;
    arguments.end()?;
    let socket =
        Socket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)).map_err(|why| format!("socket: {why}"))?;
    socket.large_buffer().map_err(|why| format!("receive buffer: {why}"))?;
    if sources.is_some() {
        socket.any_source().map_err(|why| format!("--sources: {why}"))?;
    }
    let initiators = (0..count).map(|number| Initiator {
        identity: Identity::new(&private(seed, number)),
        // Not the network's own address.
        from: sources.map(|range| range.at(number + 1)),
        cookies: Cookies::default(),
        attempt: None,
    });
    let initiators: Vec<Initiator> = initiators.collect();
    let tally = Tally::default();
    let mut shaking = Loop { socket, to, key, initiators, roam, next: 0, under_way: 0, epoch: Instant::now(), tally };
    shaking.shake(most, lasts).map_err(|why| format!("{to}: {why}"))
}

impl Loop {
    fn shake(&mut self, most: usize, lasts: Duration) -> std::io::Result<String> {
        let mut inbox = Inbox::default();
        let mut swept = Instant::now();
        let once = lasts.is_zero();
        loop {
            let over =
                if once { self.tally.begun >= self.initiators.len() as u64 } else { self.epoch.elapsed() >= lasts };
            if over && (self.under_way == 0 || !once) {
                break;
            }
            while !over && self.under_way < most.min(self.initiators.len()) && self.begin()? {}
            self.socket.wait(Duration::from_millis(5))?;
            while self.socket.receive(&mut inbox)? > 0 {
                for datagram in inbox.datagrams() {
                    self.take(datagram)?;
                }
            }
            if swept.elapsed() > PATIENCE / 10 {
                swept = Instant::now();
                self.sweep();
            }
        }
        Ok(self.report())
    }

    fn tick(&self) -> Tick {
        Tick(self.epoch.elapsed().as_nanos() as u64)
    }

    /// The next initiator that is not at it begins; false when all are.
    fn begin(&mut self) -> std::io::Result<bool> {
        for _ in 0..self.initiators.len() {
            let number = self.next;
            self.next = (number + 1) % self.initiators.len();
            if self.initiators[number].attempt.is_some() {
                continue;
            }
            let Ok(noise) = Boring::new(&self.initiators[number].identity, &self.key, None, number as u32) else {
                self.tally.failed += 1;
                return Ok(false);
            };
            if let Some(range) = self.roam {
                self.initiators[number].from = Some(range.at(self.tally.begun + 1));
            }
            self.initiators[number].attempt = Some(Attempt { noise, begun: Instant::now(), tries: 0 });
            self.under_way += 1;
            self.tally.begun += 1;
            self.initiate(number)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn initiate(&mut self, number: usize) -> std::io::Result<()> {
        let now = self.tick();
        let initiator = &mut self.initiators[number];
        let Some(attempt) = &mut initiator.attempt else { return Ok(()) };
        let mut message = [0; INITIATION_LEN];
        attempt.tries += 1;
        if attempt.tries > TRIES || attempt.noise.initiate(&mut message).is_err() {
            self.tally.failed += 1;
            self.end(number);
            return Ok(());
        }
        initiator.cookies.sign(&mut message, now);
        let from = initiator.from;
        self.send(&message, from)
    }

    fn send(&self, bytes: &[u8], from: Option<Ipv4Addr>) -> std::io::Result<()> {
        self.socket.send(self.to, &[Outgoing { bytes, from }]).map(|_| ())
    }

    fn take(&mut self, datagram: &[u8]) -> std::io::Result<()> {
        let Ok(message) = Message::parse(datagram) else { return Ok(()) };
        // Our indices stand in the upper three bytes.
        let Some(number) = receiver(message).map(|index| (index >> 8) as usize) else { return Ok(()) };
        if number >= self.initiators.len() {
            return Ok(());
        }
        match message {
            Message::Response(response) => self.finish(number, response),
            Message::CookieReply(reply) => {
                let now = self.tick();
                self.tally.cookies += 1;
                if self.initiators[number].cookies.take(&self.key, reply, now).is_ok() {
                    return self.initiate(number);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The answer is checked as a peer checks it, and the session confirmed.
    fn finish(&mut self, number: usize, response: &[u8; RESPONSE_LEN]) -> std::io::Result<()> {
        let initiator = &mut self.initiators[number];
        let Some(attempt) = &mut initiator.attempt else { return Ok(()) };
        let mut keepalive = [0; DATA_OVERHEAD];
        if attempt.noise.finish(response).is_err() || attempt.noise.seal(&[], &mut keepalive).is_err() {
            // An answer to an earlier try of the same attempt may still be on its way.
            return Ok(());
        }
        let (from, wait) = (initiator.from, attempt.begun.elapsed());
        self.tally.answered += 1;
        self.tally.waits.push(wait.as_secs_f64() * 1e3);
        self.end(number);
        self.send(&keepalive, from)
    }

    fn end(&mut self, number: usize) {
        if self.initiators[number].attempt.take().is_some() {
            self.under_way -= 1;
        }
    }

    fn sweep(&mut self) {
        for number in 0..self.initiators.len() {
            if self.initiators[number].attempt.as_ref().is_some_and(|attempt| attempt.begun.elapsed() > PATIENCE) {
                self.tally.unanswered += 1;
                self.end(number);
            }
        }
    }

    fn report(&mut self) -> String {
        let seconds = self.epoch.elapsed().as_secs_f64();
        let tally = &mut self.tally;
        tally.waits.sort_by(f64::total_cmp);
        let at = |share: f64| tally.waits.get((tally.waits.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        Report::default()
            .word("load", "handshakes")
            .count("begun", tally.begun)
            .count("answered", tally.answered)
            .count("unanswered", tally.unanswered)
            .count("cookies", tally.cookies)
            .count("failed", tally.failed)
            .decimal("wait_ms_p50", at(0.5))
            .decimal("wait_ms_p99", at(0.99))
            .decimal("seconds", seconds)
            .decimal("rate", tally.answered as f64 / seconds)
            .text()
    }
}
