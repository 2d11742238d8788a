//! A request becomes a [`Plan`], whole or not at all: nothing is applied while it is read, so a bad line in the middle
//! changes nothing, and each `public_key` line starts from an empty [`PeerPlan`], so nothing leaks into the next peer.
//!
//! | key | value | scope |
//! |---|---|---|
//! | `private_key` | 64 hex digits; all zero: none | device |
//! | `listen_port` | 0–65535; 0: the kernel chooses | device |
//! | `fwmark` | 32 bits, decimal or 0x hex; 0 or nothing: off | device |
//! | `replace_peers` | `true` | device |
//! | `public_key` | 64 hex digits; the lines below are about this peer | peer |
//! | `remove`, `update_only`, `replace_allowed_ips` | `true` | peer |
//! | `preshared_key` | 64 hex digits; all zero: none | peer |
//! | `endpoint` | `ip:port`, `[v6]:port`, `[v6%scope]:port` | peer |
//! | `persistent_keepalive_interval` | 0–65535 seconds; 0: off (`off` is a word of `wg`, not of the protocol) | peer |
//! | `allowed_ip` | `ip/bits`; `-` in front takes it away, `+` or nothing adds it | peer |
//! | `protocol_version` | `1` | peer |

use super::endpoint::{self, InterfaceIndex};
use super::{hex, EINVAL, EPROTO};
use crate::plan::{AllowedChange, PeerPlan, Plan, Prefix, PublicKey, Secret};
use std::net::IpAddr;

/// What a client asks for.
#[derive(Clone, Debug)]
pub enum Request {
    Get,
    Set(Plan),
}

/// Why a request was not taken. Its text names line and key and says what to write; values are never repeated,
/// for a key may stand in the wrong place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the protocol answers: a negative errno.
    pub errno: i32,
    /// Counted from 1, which is the line `get=1` or `set=1`.
    pub line: usize,
    pub text: String,
}

impl Refusal {
    /// A request that is not in the protocol's shape.
    pub fn protocol(line: usize, hint: &str) -> Refusal {
        Refusal { errno: -EPROTO, line, text: format!("line {line}: {hint}") }
    }

    fn invalid(line: usize, key: &str, hint: &str) -> Refusal {
        Refusal { errno: -EINVAL, line, text: format!("line {line}: {key}: {hint}") }
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// What a value should have been.
type Hint = &'static str;

/// Reads a whole request, from `get=1` or `set=1` to the empty line. The empty line may be missing at the end of `text`.
pub fn parse(text: &str, interface_index: InterfaceIndex<'_>) -> Result<Request, Refusal> {
    let (operation, body) = text.split_once('\n').unwrap_or((text, ""));
    match operation {
        "get=1" if body.is_empty() || body == "\n" => Ok(Request::Get),
        "get=1" => Err(Refusal::protocol(2, "get=1 is followed by an empty line and nothing else")),
        "set=1" => parse_set_scoped(body, interface_index).map(Request::Set),
        _ => Err(Refusal::protocol(1, "a request begins with the line get=1 or set=1, ended by \\n alone")),
    }
}

/// Reads the lines below `set=1`; the first of them is line 2. Scopes of endpoints are numbers only.
pub fn parse_set(text: &str) -> Result<Plan, Refusal> {
    parse_set_scoped(text, &|_| None)
}

/// As [`parse_set`], with names of interfaces as scopes too.
pub fn parse_set_scoped(text: &str, interface_index: InterfaceIndex<'_>) -> Result<Plan, Refusal> {
    let mut reader = Reader { plan: Plan::default(), peer: None, interface_index };
    let mut lines = text.split('\n').zip(2..);
    for (line, number) in lines.by_ref() {
        if line.is_empty() {
            break;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(Refusal::protocol(number, "write key=value, or an empty line at the end"));
        };
        reader.take(key, value).map_err(|hint| Refusal::invalid(number, shown(key), hint))?;
    }
    match lines.find(|(line, _)| !line.is_empty()) {
        Some((_, number)) => Err(Refusal::protocol(number, "the empty line above has ended the request")),
        None => Ok(reader.finish()),
    }
}

/// A plan in the making.
struct Reader<'a> {
    plan: Plan,
    /// The peer that the lines are about; `None` above the first `public_key`.
    peer: Option<PeerPlan>,
    interface_index: InterfaceIndex<'a>,
}

impl Reader<'_> {
    fn take(&mut self, key: &str, value: &str) -> Result<(), Hint> {
        if key == "public_key" {
            let mut public_key = PublicKey([0; 32]);
            if !hex::decode(value, &mut public_key.0) {
                return Err(KEY_HINT);
            }
            self.plan.peers.extend(self.peer.replace(PeerPlan::new(public_key)));
            return Ok(());
        }
        match &mut self.peer {
            Some(_) => self.take_peer(key, value),
            None => take_device(&mut self.plan, key, value),
        }
    }

    fn take_peer(&mut self, key: &str, value: &str) -> Result<(), Hint> {
        let Some(peer) = &mut self.peer else { return Err("a public_key line comes first") };
        match key {
            "remove" => peer.remove = only_true(value)?,
            "update_only" => peer.update_only = only_true(value)?,
            "preshared_key" => peer.preshared_key = Some(secret(value)?),
            "endpoint" => peer.endpoint = Some(endpoint::parse(value, self.interface_index)?),
            "persistent_keepalive_interval" => {
                peer.persistent_keepalive = Some(decimal_u16(value).ok_or("write seconds from 0 to 65535; 0 is off")?);
            }
            "replace_allowed_ips" => {
                only_true(value)?;
                if !peer.allowed_ips.is_empty() {
                    // Prefixes above this line are taken from their owners first and forgotten then, as written.
                    let rest = PeerPlan { update_only: peer.update_only, ..PeerPlan::new(peer.public_key) };
                    self.plan.peers.push(core::mem::replace(peer, rest));
                }
                peer.replace_allowed_ips = true;
            }
            "allowed_ip" => peer.allowed_ips.push(allowed_change(value)?),
            "protocol_version" if value == "1" => {}
            "protocol_version" => return Err("the only version is 1"),
            "private_key" | "listen_port" | "fwmark" | "replace_peers" => {
                return Err("this is about the device: write it above the first public_key");
            }
            _ => {
                return Err("no such key; a peer has public_key, remove, update_only, preshared_key, endpoint, \
                             persistent_keepalive_interval, replace_allowed_ips, allowed_ip, protocol_version")
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Plan {
        self.plan.peers.extend(self.peer);
        self.plan
    }
}

fn take_device(plan: &mut Plan, key: &str, value: &str) -> Result<(), Hint> {
    match key {
        "private_key" => plan.private_key = Some(secret(value)?),
        "listen_port" => {
            plan.listen_port =
                Some(decimal_u16(value).ok_or("write a port from 0 to 65535; 0 lets the kernel choose")?);
        }
        "fwmark" => plan.fwmark = Some(mark(value).ok_or("write 32 bits as 51820 or 0xca6c; 0 is off")?),
        "replace_peers" => plan.replace_peers = only_true(value)?,
        "remove"
        | "update_only"
        | "preshared_key"
        | "endpoint"
        | "persistent_keepalive_interval"
        | "replace_allowed_ips"
        | "allowed_ip"
        | "protocol_version" => {
            return Err("this is about a peer: write its public_key line first");
        }
        _ => return Err("no such key; a device has private_key, listen_port, fwmark, replace_peers, then its peers"),
    }
    Ok(())
}

const KEY_HINT: Hint = "write the 32 bytes as 64 hex digits";

fn secret(value: &str) -> Result<Secret, Hint> {
    let mut secret = Secret([0; 32]);
    match hex::decode(value, &mut secret.0) {
        true => Ok(secret),
        false => Err(KEY_HINT),
    }
}

fn only_true(value: &str) -> Result<bool, Hint> {
    match value {
        "true" => Ok(true),
        _ => Err("write true, or leave the line out"),
    }
}

fn mark(value: &str) -> Option<u32> {
    let mark = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) if hex.len() <= 8 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u64::from_str_radix(hex, 16).ok()?
        }
        Some(_) => return None,
        None if value.is_empty() => 0,
        None => decimal(value, u64::from(u32::MAX))?,
    };
    u32::try_from(mark).ok()
}

fn decimal_u16(value: &str) -> Option<u16> {
    decimal(value, u64::from(u16::MAX)).and_then(|n| u16::try_from(n).ok())
}

/// Digits and nothing else: no sign, no blank, no separator. `None` above `max`.
pub(super) fn decimal(value: &str, max: u64) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for digit in value.bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (number <= max).then_some(number)
}

fn allowed_change(value: &str) -> Result<AllowedChange, Hint> {
    if let Some(value) = value.strip_prefix('-') {
        return prefix(value).map(AllowedChange::Remove);
    }
    prefix(value.strip_prefix('+').unwrap_or(value)).map(AllowedChange::Add)
}

fn prefix(value: &str) -> Result<Prefix, Hint> {
    let (addr, len) = value.split_once('/').ok_or("write the length of the prefix too, as in 10.0.0.1/32")?;
    let addr: IpAddr =
        addr.parse().map_err(|_| "write an address and its length, as in 10.0.0.0/8 or 2001:db8::/32")?;
    let len = decimal(len, 128).and_then(|len| u8::try_from(len).ok());
    len.and_then(|len| Prefix::new(addr, len)).ok_or("the length is a number up to 32 for IPv4 and 128 for IPv6")
}

/// A key as an error may show it: one that has the form of the protocol's keys, so that no secret is repeated.
fn shown(key: &str) -> &str {
    let plain = key.len() <= 32 && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if plain {
        key
    } else {
        "this key"
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
