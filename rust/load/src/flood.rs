//! `flood KIND --to ADDRESS:PORT`: hostile datagrams at a given rate for a given time.
//!
//! ```text
//! bad-length             a known type, a length that it does not have
//! bad-mac1               initiations of noise
//! good-mac1              the same with a mac1 that fits --key
//! unknown-index          data for no session
//! cookie-replies         that nobody has asked for
//! replayed-data          true data of a peer (identity 0 of --seed), again and again
//! forged-data            data for that peer's session that does not authenticate
//! replayed-initiations   a true initiation of that peer, again and again
//! ```
//!
//! `--sources RANGE` draws a source address for each datagram. The last three kinds shake hands first, with `--with`
//! (else with `--to`), so that the same flood can also go to a socket that nobody reads.

use crate::arguments::{Arguments, Range};
use crate::identity::private;
use crate::message;
use crate::pace::Pace;
use crate::random::Random;
use crate::report::Report;
use crate::socket::{Inbox, Outgoing, Socket, BATCH};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};
use wgengine_core::plan::PublicKey;
use wgengine_core::tunnel::noise::Noise;
use wgengine_core::wire::wireguard::{Message, DATA_OVERHEAD, INITIATION_LEN};
use wgengine_noise::{Boring, Identity};

/// So many different datagrams go around; making them costs more than sending them.
const VARIETY: usize = 2048;
const PATIENCE: Duration = Duration::from_secs(5);

struct Flood {
    kind: String,
    to: SocketAddrV4,
    with: SocketAddrV4,
    key: Option<PublicKey>,
    seed: u64,
    plain: usize,
    sources: Option<Range>,
}

/// `flood KIND …`
pub fn run(mut arguments: Arguments) -> Result<String, String> {
    let kind = arguments.word("the kind of flood")?;
    let to = arguments.address("to")?;
    let flood = Flood {
        kind,
        to,
        with: arguments.address("with").unwrap_or(to),
        key: arguments.key("key")?,
        seed: arguments.number("seed", 1)?,
        plain: arguments.number("length", 64)? as usize,
        sources: arguments.range("sources")?,
    };
    let (rate, lasts) = (arguments.number("rate", 100_000)?, arguments.seconds("seconds", 3.0)?);
    arguments.end()?;
    let socket = Socket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).map_err(|why| format!("socket: {why}"))?;
    socket.large_buffer().map_err(|why| format!("receive buffer: {why}"))?;
    if flood.sources.is_some() {
        socket.any_source().map_err(|why| format!("--sources: {why}"))?;
    }
    let datagrams = flood.datagrams(&socket)?;
    flood.pour(&socket, &datagrams, Pace::new(rate, lasts)).map_err(|why| format!("{}: {why}", flood.to))
}

impl Flood {
    fn datagrams(&self, socket: &Socket) -> Result<Vec<Vec<u8>>, String> {
        let mut random = Random::new(self.seed);
        let key = || self.key.ok_or("--key is missing: the public key of whom this flood goes to");
        let many = |mut one: Box<dyn FnMut() -> Vec<u8> + '_>| (0..VARIETY).map(|_| one()).collect();
        Ok(match self.kind.as_str() {
            "bad-length" => many(Box::new(|| message::bad_length(&mut random))),
            "bad-mac1" => many(Box::new(|| message::bad_mac1(&mut random))),
            "good-mac1" => {
                let key = key()?;
                many(Box::new(move || message::good_mac1(&mut random, &key)))
            }
            "unknown-index" => many(Box::new(|| message::unknown_index(&mut random, self.plain))),
            "cookie-replies" => many(Box::new(|| message::cookie_reply(&mut random))),
            "replayed-data" => {
                let sealed = self.session(socket, &key()?)?;
                self.send_all(socket, &sealed)?;
                sealed
            }
            "forged-data" => {
                let sealed = self.session(socket, &key()?)?;
                let like = sealed.first().ok_or("no data was sealed")?;
                (1..=VARIETY as u64).map(|counter| message::forged(&mut random, like, counter)).collect()
            }
            "replayed-initiations" => vec![self.initiation(&key()?)?.1.to_vec()],
            other => return Err(format!("{other}: no such kind of flood")),
        })
    }

    fn initiation(&self, key: &PublicKey) -> Result<(Boring, [u8; INITIATION_LEN]), String> {
        let identity = Identity::new(&private(self.seed, 0));
        let mut noise = Boring::new(&identity, key, None, 1).map_err(|why| format!("handshake: {}", why.word()))?;
        let mut initiation = [0; INITIATION_LEN];
        noise.initiate(&mut initiation).map_err(|why| format!("handshake: {}", why.word()))?;
        Ok((noise, initiation))
    }

    /// Shake hands with the device under test; keepalives and packets of noise, sealed for the session.
    fn session(&self, socket: &Socket, key: &PublicKey) -> Result<Vec<Vec<u8>>, String> {
        let (mut noise, initiation) = self.initiation(key)?;
        let response = self.answer(socket, &initiation)?;
        noise.finish(&response).map_err(|why| format!("handshake: {}", why.word()))?;
        let plain = vec![0; self.plain];
        let mut sealed = Vec::with_capacity(VARIETY);
        for number in 0..VARIETY {
            let plain = if number == 0 { &[][..] } else { &plain[..] };
            let mut out = vec![0; plain.len() + DATA_OVERHEAD];
            noise.seal(plain, &mut out).map_err(|why| format!("data: {}", why.word()))?;
            sealed.push(out);
        }
        // The first one, a keepalive, confirms the session (whitepaper 5.4.3).
        self.send_to(socket, &sealed[..1], self.with)?;
        Ok(sealed.split_off(1))
    }

    fn answer(&self, socket: &Socket, initiation: &[u8]) -> Result<[u8; 92], String> {
        let (began, mut inbox) = (Instant::now(), Inbox::default());
        self.send_to(socket, &[initiation.to_vec()], self.with)?;
        while began.elapsed() < PATIENCE {
            let ready = socket.wait(Duration::from_millis(100)).and_then(|_| socket.receive(&mut inbox));
            ready.map_err(|why| format!("{}: {why}", self.with))?;
            for datagram in inbox.datagrams() {
                if let Ok(Message::Response(response)) = Message::parse(datagram) {
                    return Ok(*response);
                }
            }
        }
        Err(format!("{} does not answer: is identity 0 of the seed a peer of it, and --key its key?", self.with))
    }

    fn send_to(&self, socket: &Socket, datagrams: &[Vec<u8>], to: SocketAddrV4) -> Result<(), String> {
        for chunk in datagrams.chunks(BATCH) {
            let batch: Vec<Outgoing<'_>> = chunk.iter().map(|bytes| Outgoing { bytes, from: None }).collect();
            socket.send(to, &batch).map_err(|why| format!("{to}: {why}"))?;
        }
        Ok(())
    }

    /// What will be replayed is heard a first time, not faster than anybody reads.
    fn send_all(&self, socket: &Socket, datagrams: &[Vec<u8>]) -> Result<(), String> {
        for chunk in datagrams.chunks(BATCH) {
            self.send_to(socket, chunk, self.with)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn pour(&self, socket: &Socket, datagrams: &[Vec<u8>], mut pace: Pace) -> io::Result<String> {
        let mut random = Random::new(self.seed ^ 0x5eed);
        let mut inbox = Inbox::default();
        let (mut sent, mut refused, mut replies) = (0u64, 0u64, 0u64);
        let mut next = 0;
        while let Some(due) = pace.due(BATCH) {
            let mut batch = Vec::with_capacity(due);
            for _ in 0..due {
                let from = self.sources.map(|range| range.at(random.next()));
                batch.push(Outgoing { bytes: &datagrams[next], from });
                next = (next + 1) % datagrams.len();
            }
            match socket.send(self.to, &batch) {
                Ok(count) => sent += count as u64,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => refused += due as u64,
                Err(error) => return Err(error),
            }
            replies += socket.receive(&mut inbox)? as u64;
        }
        let seconds = pace.elapsed().as_secs_f64();
        while socket.wait(Duration::from_millis(50))? {
            replies += socket.receive(&mut inbox)? as u64;
        }
        let report = Report::default().word("load", "flood").word("kind", &self.kind).count("sent", sent);
        let report = report.count("refused", refused).count("replies", replies).decimal("seconds", seconds);
        Ok(report.decimal("rate", sent as f64 / seconds).text())
    }
}
