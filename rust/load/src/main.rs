//! `wgengine-load COMMAND --flag value …`: loads that Python is too slow to make. One line of JSON is the result.
//!
//! ```text
//! flood KIND         a hundred thousand hostile datagrams a second
//! handshakes         real initiators, each handshake begun as soon as one is answered
//! identities         their public keys, to be made peers of the device under test
//! send-numbered      numbered UDP packets, and
//! receive-numbered   which of them arrived, in which order
//! spray              UDP packets to very many addresses, one after the other
//! sink               an open socket that nobody reads
//! ```
//!
//! Everything is bounded in time. Only IPv4, and only what a laboratory of network namespaces needs.

mod arguments;
mod flood;
mod handshakes;
mod identity;
mod message;
mod numbered;
mod pace;
mod random;
mod report;
mod socket;
mod spray;

use arguments::Arguments;
use std::process::ExitCode;

fn run(words: Vec<String>) -> Result<String, String> {
    let mut words = words.into_iter();
    let command = words
        .next()
        .ok_or("which load? flood, handshakes, identities, send-numbered, receive-numbered, spray, sink")?;
    let arguments = Arguments::read(words)?;
    match command.as_str() {
        "flood" => flood::run(arguments),
        "handshakes" => handshakes::run(arguments),
        "identities" => identity::run(arguments),
        "send-numbered" => numbered::send(arguments),
        "receive-numbered" => numbered::receive(arguments),
        "spray" => spray::run(arguments),
        "sink" => socket::sink(arguments),
        _ => Err(format!("{command}: no such load")),
    }
}

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("wgengine-load: {why}");
            ExitCode::from(2)
        }
    }
}
