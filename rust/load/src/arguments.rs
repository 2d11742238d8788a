//! What the command line asks for: plain words, and `--flag value` pairs, each taken by name and type.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::str::FromStr;
use std::time::Duration;
use wgengine_core::plan::PublicKey;

pub struct Arguments {
    words: Vec<String>,
    flags: BTreeMap<String, String>,
}

impl Arguments {
    pub fn read(words: impl Iterator<Item = String>) -> Result<Arguments, String> {
        let mut read = Arguments { words: Vec::new(), flags: BTreeMap::new() };
        let mut words = words;
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                Some(flag) => {
                    let value = words.next().ok_or(format!("--{flag}: its value is missing"))?;
                    if read.flags.insert(flag.to_owned(), value).is_some() {
                        return Err(format!("--{flag} is given twice"));
                    }
                }
                None => read.words.push(word),
            }
        }
        Ok(read)
    }

    /// The next plain word.
    pub fn word(&mut self, what: &str) -> Result<String, String> {
        if self.words.is_empty() {
            return Err(format!("{what} is missing"));
        }
        Ok(self.words.remove(0))
    }

    fn optional<T: FromStr>(&mut self, flag: &str, form: &str) -> Result<Option<T>, String> {
        let Some(text) = self.flags.remove(flag) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("--{flag} {text}: write {form}"))
    }

    pub fn number(&mut self, flag: &str, otherwise: u64) -> Result<u64, String> {
        Ok(self.optional(flag, "a whole number")?.unwrap_or(otherwise))
    }

    pub fn address(&mut self, flag: &str) -> Result<SocketAddrV4, String> {
        self.optional(flag, "an IPv4 address and a port, as 192.0.2.1:51820")?.ok_or(format!("--{flag} is missing"))
    }

    pub fn seconds(&mut self, flag: &str, otherwise: f64) -> Result<Duration, String> {
        let seconds: f64 = self.optional(flag, "seconds")?.unwrap_or(otherwise);
        if !(0.0..=3600.0).contains(&seconds) {
            return Err(format!("--{flag} {seconds}: write 0 to 3600 seconds"));
        }
        Ok(Duration::from_secs_f64(seconds))
    }

    /// A public key of 64 hexadecimal digits, as UAPI writes it.
    pub fn key(&mut self, flag: &str) -> Result<Option<PublicKey>, String> {
        let Some(text) = self.flags.remove(flag) else { return Ok(None) };
        let wrong = || format!("--{flag} {text}: write 64 hexadecimal digits");
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut key = [0; 32];
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Some(PublicKey(key)))
    }

    /// A flag that must be there.
    pub fn the_key(&mut self, flag: &str) -> Result<PublicKey, String> {
        self.key(flag)?.ok_or(format!("--{flag} is missing: the public key of whom this load goes to"))
    }

    /// A range of source addresses, as 198.18.0.0/15.
    pub fn range(&mut self, flag: &str) -> Result<Option<Range>, String> {
        let Some(text) = self.flags.remove(flag) else { return Ok(None) };
        let range = text.split_once('/').and_then(|(address, bits)| {
            let base: std::net::Ipv4Addr = address.parse().ok()?;
            let bits: u32 = bits.parse().ok().filter(|bits| (1..=32).contains(bits))?;
            Some(Range { base: u32::from(base) & (u32::MAX << (32 - bits)), count: 1 << (32 - bits) })
        });
        range.map(Some).ok_or(format!("--{flag} {text}: write a range of IPv4 addresses, as 198.18.0.0/15"))
    }

    /// Nothing may be left that no load has asked for.
    pub fn end(self) -> Result<(), String> {
        match (self.words.first(), self.flags.keys().next()) {
            (Some(word), _) => Err(format!("{word}: one word too many")),
            (None, Some(flag)) => Err(format!("--{flag}: this load has no such flag")),
            (None, None) => Ok(()),
        }
    }
}

/// Addresses that lie together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    base: u32,
    count: u32,
}

impl Range {
    /// The address at `n`, counted around.
    pub fn at(&self, n: u64) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::from(self.base + (n % u64::from(self.count)) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        Arguments::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_are_taken_by_name_and_what_is_left_is_told() {
        let mut arguments = read("bad-mac1 --rate 100 --to 192.0.2.1:51820").unwrap();
        assert_eq!(arguments.word("a kind").unwrap(), "bad-mac1");
        assert_eq!(arguments.number("rate", 7), Ok(100));
        assert_eq!(arguments.number("other", 7), Ok(7));
        assert_eq!(arguments.end(), Err("--to: this load has no such flag".to_owned()));
        assert!(read("--rate").is_err_and(|why| why == "--rate: its value is missing"));
        assert!(read("--rate 1 --rate 2").is_err_and(|why| why == "--rate is given twice"));
    }

    #[test]
    fn a_range_begins_at_its_network_and_goes_around() {
        let range = read("--sources 198.18.7.9/15").unwrap().range("sources").unwrap().unwrap();
        assert_eq!(range.at(0).to_string(), "198.18.0.0");
        assert_eq!(range.at(131_071).to_string(), "198.19.255.255");
        assert_eq!(range.at(131_072), range.at(0));
        for wrong in ["198.18.0.0", "198.18.0.0/0", "198.18.0.0/33", "2001:db8::/64"] {
            assert!(read(&format!("--sources {wrong}")).unwrap().range("sources").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_has_64_hexadecimal_digits() {
        let key = |text: &str| read(&format!("--key {text}")).unwrap().key("key");
        assert_eq!(key(&"ab".repeat(32)), Ok(Some(PublicKey([0xab; 32]))));
        for wrong in ["ab".repeat(31), "xy".repeat(32), "ü".repeat(32)] {
            assert!(key(&wrong).is_err(), "{wrong}");
        }
    }
}
