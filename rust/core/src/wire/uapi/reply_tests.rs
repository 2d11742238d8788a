use super::super::request::{parse, Request};
use super::*;
use crate::plan::{AllowedChange, Prefix, PublicKey, Secret};
use crate::time::Wall;

fn peer(byte: u8) -> PeerState {
    PeerState {
        public_key: PublicKey([byte; 32]),
        preshared_key: None,
        endpoint: None,
        last_handshake: None,
        tx_bytes: 0,
        rx_bytes: 0,
        persistent_keepalive: 0,
        trimmed: false,
        allowed_ips: Vec::new(),
    }
}

fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').expect(text);
    Prefix::new(addr.parse().expect(text), len.parse().expect(text)).expect(text)
}

#[test]
fn an_empty_device_says_only_that_all_is_well() {
    let state = DeviceState { private_key: None, listen_port: 0, fwmark: 0, peers: Vec::new() };
    assert_eq!(get_reply(&state).as_str(), "errno=0\n\n");
    let state = DeviceState { private_key: Some(Secret([0; 32])), ..state };
    assert_eq!(get_reply(&state).as_str(), "errno=0\n\n", "a key of zeros is no key");
}

/// The order is that of wireguard-go; `wg` and its relatives parse it.
#[test]
fn a_full_device_in_the_order_of_the_protocol() {
    let full = PeerState {
        preshared_key: Some(Secret([0xab; 32])),
        endpoint: Some("[fe80::1%3]:51821".parse().expect("endpoint")),
        last_handshake: Some(Wall { secs: 1_700_000_000, nanos: 5 }),
        tx_bytes: u64::MAX,
        rx_bytes: 7,
        persistent_keepalive: 25,
        trimmed: false,
        allowed_ips: vec![prefix("10.9.0.2/32"), prefix("2001:db8::/32"), prefix("0.0.0.0/0")],
        ..peer(1)
    };
    let mapped = PeerState { endpoint: Some("[::ffff:192.0.2.1]:9".parse().expect("endpoint")), ..peer(2) };
    let state = DeviceState {
        private_key: Some(Secret([7; 32])),
        listen_port: 51820,
        fwmark: 0xca6c,
        peers: vec![full, mapped],
    };
    let expected = format!(
        "private_key={}\nlisten_port=51820\nfwmark=51820\n\
         public_key={}\npreshared_key={}\nprotocol_version=1\nendpoint=[fe80::1%3]:51821\n\
         last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=5\ntx_bytes=18446744073709551615\nrx_bytes=7\n\
         persistent_keepalive_interval=25\nallowed_ip=10.9.0.2/32\nallowed_ip=2001:db8::/32\nallowed_ip=0.0.0.0/0\n\
         public_key={}\npreshared_key={}\nprotocol_version=1\nendpoint=192.0.2.1:9\n\
         last_handshake_time_sec=0\nlast_handshake_time_nsec=0\ntx_bytes=0\nrx_bytes=0\n\
         persistent_keepalive_interval=0\nerrno=0\n\n",
        "07".repeat(32),
        "01".repeat(32),
        "ab".repeat(32),
        "02".repeat(32),
        "00".repeat(32),
    );
    assert_eq!(get_reply(&state).as_str(), expected);
}

/// Case 16: the time is since 1970, with nanoseconds below a second; never is 0 and 0.
#[test]
fn case_16_handshake_time_is_unix_time() {
    for (wall, secs, nanos) in [
        (Some(Wall { secs: 1_790_000_000, nanos: 999_999_999 }), 1_790_000_000, 999_999_999),
        (Some(Wall { secs: 1_790_000_000, nanos: 1_000_000_001 }), 1_790_000_001, 1),
        (Some(Wall { secs: u64::MAX, nanos: u32::MAX }), u64::MAX, 294_967_295),
        (None, 0, 0),
    ] {
        let peers = vec![PeerState { last_handshake: wall, ..peer(1) }];
        let reply = get_reply(&DeviceState { private_key: None, listen_port: 0, fwmark: 0, peers });
        assert!(reply.contains(&format!("\nlast_handshake_time_sec={secs}\nlast_handshake_time_nsec={nanos}\n")));
    }
}

/// Case 20: the mark that was set is the mark that is shown, and none when it is off.
#[test]
fn case_20_fwmark_is_shown() {
    let mut state = DeviceState { private_key: None, listen_port: 0, fwmark: 0xca6c, peers: Vec::new() };
    assert_eq!(get_reply(&state).as_str(), "fwmark=51820\nerrno=0\n\n");
    state.fwmark = 0;
    assert_eq!(get_reply(&state).as_str(), "errno=0\n\n");
}

#[test]
fn the_widest_peer_fits_into_the_room_made_for_it() {
    let widest = PeerState {
        preshared_key: Some(Secret([0xff; 32])),
        endpoint: Some("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535".parse().expect("endpoint")),
        last_handshake: Some(Wall { secs: u64::MAX, nanos: 999_999_999 }),
        tx_bytes: u64::MAX,
        rx_bytes: u64::MAX,
        persistent_keepalive: u16::MAX,
        trimmed: false,
        allowed_ips: vec![prefix("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"), prefix("255.255.255.255/32")],
        ..peer(0xff)
    };
    for count in [0, 1, 100] {
        let peers = vec![widest.clone(); count];
        let state = DeviceState { private_key: Some(Secret([0xff; 32])), listen_port: 65535, fwmark: u32::MAX, peers };
        let reply = get_reply(&state);
        assert!(reply.len() <= size_bound(&state), "{count} peers: the text grew and left copies of keys behind");
    }
}

/// Case 22, last part: the lines of a `get` that are legal in a `set` are taken back as they are.
#[test]
fn case_22_what_get_shows_set_takes() {
    let shown = PeerState {
        preshared_key: Some(Secret([3; 32])),
        endpoint: Some("192.0.2.2:51820".parse().expect("endpoint")),
        persistent_keepalive: 21,
        trimmed: false,
        allowed_ips: vec![prefix("10.9.0.2/32"), prefix("10.20.0.0/16")],
        ..peer(1)
    };
    let state = DeviceState { private_key: Some(Secret([7; 32])), listen_port: 51820, fwmark: 5, peers: vec![shown] };
    let reply = get_reply(&state);
    let legal = |line: &&str| {
        let key = line.split('=').next().unwrap_or_default();
        !matches!(key, "last_handshake_time_sec" | "last_handshake_time_nsec" | "tx_bytes" | "rx_bytes" | "errno" | "")
    };
    let body: String = reply.lines().filter(legal).map(|line| format!("{line}\n")).collect();
    let Ok(Request::Set(plan)) = parse(&format!("set=1\n{body}\n"), &|_| None) else { panic!("set refused {body}") };
    assert!(plan.private_key.is_some_and(|key| key.same(&Secret([7; 32]))));
    assert_eq!((plan.listen_port, plan.fwmark, plan.peers.len()), (Some(51820), Some(5), 1));
    let peer = &plan.peers[0];
    assert_eq!(peer.public_key, PublicKey([1; 32]));
    assert!(peer.preshared_key.as_ref().is_some_and(|key| key.same(&Secret([3; 32]))));
    assert_eq!(peer.endpoint, state.peers[0].endpoint);
    assert_eq!(peer.persistent_keepalive, Some(21));
    let added: Vec<_> = state.peers[0].allowed_ips.iter().copied().map(AllowedChange::Add).collect();
    assert_eq!(peer.allowed_ips, added);
}
