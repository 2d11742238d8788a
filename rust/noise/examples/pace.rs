//! What cryptography costs one core: `cargo run --release -p wgengine-noise --example pace`.
//!
//! Microseconds for each part of a handshake (C3 row 8: the sender of an initiation is read before boringtun reads it
//! again), and nanoseconds for each packet of one peer, which one core at a time seals or opens (C3 row 17). The best of
//! several rounds: the rest is the machine's noise.

use std::hint::black_box;
use std::time::Instant;
use wgengine_core::observe::drop::Drop;
use wgengine_core::tunnel::noise::Noise;
use wgengine_core::wire::wireguard::{DATA_OVERHEAD, INITIATION_LEN, RESPONSE_LEN};
use wgengine_noise::{generate_private, read_initiation, Boring, Identity};

const ROUNDS: usize = 7;
const HANDSHAKES: usize = 100;
const PACKETS: usize = 1000;
const PACKET: usize = 1420;

type Initiation = [u8; INITIATION_LEN];

struct Pair {
    ours: Identity,
    theirs: Identity,
}

impl Pair {
    fn new() -> Pair {
        Pair { ours: Identity::new(&generate_private()), theirs: Identity::new(&generate_private()) }
    }

    fn initiator(&self) -> Result<Boring, Drop> {
        Boring::new(&self.theirs, &self.ours.public(), None, 1)
    }

    fn responder(&self) -> Result<Boring, Drop> {
        Boring::new(&self.ours, &self.theirs.public(), None, 2)
    }

    fn initiations(&self) -> Result<Vec<(Boring, Initiation)>, Drop> {
        let one = |_| {
            let (mut noise, mut message) = (self.initiator()?, [0; INITIATION_LEN]);
            noise.initiate(&mut message)?;
            Ok((noise, message))
        };
        (0..HANDSHAKES).map(one).collect()
    }
}

/// The least time of several rounds for one of `count` things; `prepare` is not counted.
fn pace<T>(
    name: &str,
    count: usize,
    mut prepare: impl FnMut() -> Result<T, Drop>,
    mut work: impl FnMut(T) -> Result<(), Drop>,
) -> Result<f64, Drop> {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let ready = prepare()?;
        let start = Instant::now();
        work(ready)?;
        best = best.min(start.elapsed().as_nanos() as f64 / count as f64);
    }
    println!("{name:<62} {best:>10.0} ns");
    Ok(best)
}

fn handshakes(pair: &Pair) -> Result<(), Drop> {
    let prepare = || pair.initiations();
    pace("an initiation is made", HANDSHAKES, || Ok(()), |()| pair.initiations().map(|made| drop(black_box(made))))?;
    let reading = |made: Vec<(Boring, Initiation)>| {
        for (_, message) in &made {
            black_box(read_initiation(&pair.ours, message)?.timestamp(&pair.ours)?);
        }
        Ok(())
    };
    let read = pace("its sender and timestamp are read (two Diffie-Hellman)", HANDSHAKES, prepare, reading)?;
    let responding = |made: Vec<(Boring, Initiation)>| {
        for (_, message) in &made {
            black_box(pair.responder()?.respond(message, &mut [0; RESPONSE_LEN])?);
        }
        Ok(())
    };
    let responded = pace("boringtun reads it again and responds", HANDSHAKES, prepare, responding)?;
    let answered = || {
        let mut all = Vec::with_capacity(HANDSHAKES);
        for (initiator, message) in pair.initiations()? {
            let mut response = [0; RESPONSE_LEN];
            pair.responder()?.respond(&message, &mut response)?;
            all.push((initiator, response));
        }
        Ok(all)
    };
    pace("the response is taken", HANDSHAKES, answered, |all| {
        for (mut initiator, response) in all {
            initiator.finish(&response)?;
            black_box(initiator);
        }
        Ok(())
    })?;
    let both = read + responded;
    println!(
        "→ {:.0} handshakes a second and core as responder; the first reading is {:.0} % of it",
        1e9 / both,
        100.0 * read / both
    );
    Ok(())
}

fn packets(pair: &Pair) -> Result<(), Drop> {
    let (mut initiator, mut responder) = (pair.initiator()?, pair.responder()?);
    let (mut initiation, mut response) = ([0; INITIATION_LEN], [0; RESPONSE_LEN]);
    initiator.initiate(&mut initiation)?;
    responder.respond(&initiation, &mut response)?;
    initiator.finish(&response)?;
    let mut plain = vec![0; PACKET];
    plain[0] = 0x45;
    plain[2..4].copy_from_slice(&(PACKET as u16).to_be_bytes());
    let mut sealed = vec![vec![0; PACKET + DATA_OVERHEAD]; PACKETS];
    let seal = |initiator: &mut Boring, sealed: &mut Vec<Vec<u8>>| {
        sealed.iter_mut().try_for_each(|out| initiator.seal(black_box(&plain), out).map(|_| ()))
    };
    let sealing = pace("a packet of 1420 bytes is sealed", PACKETS, || Ok(()), |()| seal(&mut initiator, &mut sealed))?;
    let mut room = vec![0; PACKET + DATA_OVERHEAD];
    let opening = pace(
        "and opened",
        PACKETS,
        || seal(&mut initiator, &mut sealed).map(|()| sealed.clone()),
        |sealed| sealed.iter().try_for_each(|datagram| responder.open(black_box(datagram), &mut room).map(|_| ())),
    )?;
    let gbit = |nanoseconds: f64| PACKET as f64 * 8.0 / nanoseconds;
    println!("→ one peer and one core: {:.1} Gbit/s sealed, {:.1} Gbit/s opened", gbit(sealing), gbit(opening));
    Ok(())
}

fn main() {
    let pair = Pair::new();
    if let Err(why) = handshakes(&pair).and_then(|()| packets(&pair)) {
        eprintln!("{}", why.word());
    }
}
