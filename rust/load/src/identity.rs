//! Initiators drawn from a seed: whoever knows the seed can make all of them peers of a device, and be each of them.

use crate::arguments::Arguments;
use blake2::digest::Digest;
use blake2::Blake2s256;
use std::fmt::Write;
use wgengine_core::plan::Secret;
use wgengine_noise::{clamp, public_of};

/// Test keys only: they are as guessable as their seed.
pub fn private(seed: u64, number: u64) -> Secret {
    let drawn = Blake2s256::new().chain_update(b"wgengine-load").chain_update(seed.to_le_bytes());
    clamp(Secret(drawn.chain_update(number.to_le_bytes()).finalize().into()))
}

/// `identities --seed S --count N`: the public keys as a JSON list of hexadecimal words.
pub fn run(mut arguments: Arguments) -> Result<String, String> {
    let (seed, count) = (arguments.number("seed", 1)?, arguments.number("count", 1)?);
    arguments.end()?;
    let mut text = String::from("[");
    for number in 0..count {
        text.push_str(if number == 0 { "\"" } else { ", \"" });
        for byte in public_of(&private(seed, number)).0 {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('"');
    }
    text.push(']');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_identities_and_no_two_are_alike() {
        let keys = |seed: u64| (0..50).map(|n| public_of(&private(seed, n))).collect::<Vec<_>>();
        assert_eq!(keys(7), keys(7));
        let mut all = [keys(7), keys(8)].concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100);
    }
}
