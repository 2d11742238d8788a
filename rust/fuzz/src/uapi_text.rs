//! Keys in hex and endpoints: what is taken is written back, and read again as the same.

use std::net::{Ipv4Addr, SocketAddr};
use wgengine_core::wire::uapi::{endpoint, hex};

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    key(text);
    let scope = |name: &str| (name == "eth0").then_some(7);
    if let Ok(address) = endpoint::parse(text, &scope) {
        assert_ne!(address.port(), 0);
        assert_eq!(endpoint::parse(&address.to_string(), &scope), Ok(address), "{address}");
        if let SocketAddr::V6(address) = address {
            assert!(address.ip().to_ipv4_mapped().is_none() && text.starts_with('['));
        }
    }
    // The standard library's reader is stricter in nothing but the port.
    if let Ok(SocketAddr::V4(address)) = text.parse::<SocketAddr>() {
        let ours = endpoint::parse(text, &scope);
        assert_eq!(ours.ok(), (address.port() != 0).then_some(address.into()));
        assert!(text.starts_with(&Ipv4Addr::to_string(address.ip())));
    }
}

fn key(text: &str) {
    let mut key = [0; 32];
    let right = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    assert_eq!(hex::decode(text, &mut key), right);
    if right {
        let mut back = String::new();
        hex::encode(&key, &mut back);
        assert_eq!(back, text.to_ascii_lowercase());
    }
}
