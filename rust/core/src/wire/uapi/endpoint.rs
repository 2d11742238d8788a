//! Where a peer is, in the protocol's text: `192.0.2.1:51820`, `[2001:db8::1]:51820`, `[fe80::1%2]:51820`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Gives the index of a network interface by its name; the edge knows, the core does not.
pub type InterfaceIndex<'a> = &'a dyn Fn(&str) -> Option<u32>;

/// Reads an endpoint; the error says what to write instead.
pub fn parse(text: &str, interface_index: InterfaceIndex<'_>) -> Result<SocketAddr, &'static str> {
    let (host, port) = text.rsplit_once(':').ok_or("write a port too, as in 192.0.2.1:51820")?;
    let port = super::request::decimal(port, u64::from(u16::MAX))
        .and_then(|port| u16::try_from(port).ok())
        .filter(|&port| port != 0)
        .ok_or("the port is a number from 1 to 65535, as in 192.0.2.1:51820")?;
    let Some(bracketed) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        if host.contains(':') {
            return Err("an IPv6 address stands in brackets, as in [2001:db8::1]:51820");
        }
        let host: Ipv4Addr = host.parse().map_err(|_| "write an address, not a name, as in 192.0.2.1:51820")?;
        return Ok(SocketAddr::new(host.into(), port));
    };
    let (host, scope) = match bracketed.split_once('%') {
        Some((host, scope)) => (host, Some(scope)),
        None => (bracketed, None),
    };
    let host: Ipv6Addr = host.parse().map_err(|_| "brackets hold an IPv6 address, as in [2001:db8::1]:51820")?;
    let scope = match scope {
        None => 0,
        Some(scope) => decimal_scope(scope)
            .or_else(|| interface_index(scope))
            .ok_or("no interface has this scope; write a name or an index, as in [fe80::1%2]:51820")?,
    };
    if let Some(mapped) = host.to_ipv4_mapped() {
        // An IPv6 socket of ours takes IPv6 only; such a peer is reached over IPv4.
        return Ok(SocketAddr::new(mapped.into(), port));
    }
    Ok(SocketAddrV6::new(host, port, 0, scope).into())
}

fn decimal_scope(text: &str) -> Option<u32> {
    super::request::decimal(text, u64::from(u32::MAX)).and_then(|index| u32::try_from(index).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(name: &str) -> Option<u32> {
        (name == "eth0").then_some(7)
    }

    #[test]
    fn what_it_takes() {
        for (text, shown) in [
            ("192.0.2.1:51820", "192.0.2.1:51820"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("[2001:db8::1]:65535", "[2001:db8::1]:65535"),
            ("[fe80::1%2]:5", "[fe80::1%2]:5"),
            ("[fe80::1%eth0]:5", "[fe80::1%7]:5"),
            ("[::ffff:192.0.2.1]:5", "192.0.2.1:5"),
        ] {
            let endpoint = parse(text, &index).expect(text);
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(parse(shown, &index), Ok(endpoint), "what is shown is taken back");
        }
    }

    #[test]
    fn what_it_refuses() {
        for text in [
            "",
            ":",
            "192.0.2.1",
            "192.0.2.1:",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "192.0.2.1:+5",
            "192.0.2.1: 5",
            "192.0.2.1:5 ",
            "192.0.2.256:5",
            "192.0.2:5",
            "[192.0.2.1]:5",
            "2001:db8::1:5",
            "[2001:db8::1]",
            "[2001:db8::1:5",
            "2001:db8::1]:5",
            "[]:5",
            "[fe80::1%]:5",
            "[fe80::1%eth9]:5",
            "[fe80::1%4294967296]:5",
            "vpn.example.com:5",
        ] {
            assert!(parse(text, &index).is_err(), "{text:?} was taken");
        }
    }
}
