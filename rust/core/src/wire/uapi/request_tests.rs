use super::super::errno_reply;
use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

const P1: &str = "9f1af8c43245eb176eaf53aa9e7767425830c25d98e93a4d037b7390d74e7765";
const P2: &str = "1369fee20a08cac6bea6172a8fd6fc46465df92c68080de6821512058c524902";
const ONES: &str = "1111111111111111111111111111111111111111111111111111111111111111";

fn plan(text: &str) -> Plan {
    parse_set(text).expect(text)
}

fn refusal(text: &str) -> Refusal {
    parse_set(text).expect_err(text)
}

fn add(text: &str) -> AllowedChange {
    AllowedChange::Add(prefix(text).expect(text))
}

fn take_away(text: &str) -> AllowedChange {
    AllowedChange::Remove(prefix(text).expect(text))
}

#[test]
fn whole_requests() {
    let none = |_: &str| None;
    assert!(matches!(parse("get=1\n\n", &none), Ok(Request::Get)));
    assert!(matches!(parse("get=1\n", &none), Ok(Request::Get)));
    assert!(matches!(parse("get=1", &none), Ok(Request::Get)));
    assert!(matches!(parse("set=1\n\n", &none), Ok(Request::Set(_))));
    for text in ["", "\n", "get=2\n\n", "get=1\nx=1\n\n", "get=1\r\n\r\n", "set=true\n\n", "get=1\n\n\nx"] {
        assert_eq!(parse(text, &none).expect_err(text).errno, -EPROTO, "{text:?}");
    }
}

#[test]
fn an_empty_set_changes_nothing() {
    for text in ["", "\n", "\n\n\n"] {
        let plan = plan(text);
        assert!(plan.private_key.is_none() && plan.listen_port.is_none() && plan.fwmark.is_none());
        assert!(!plan.replace_peers && plan.peers.is_empty());
    }
}

#[test]
fn every_key_reaches_its_field() {
    let plan = plan(&format!(
        "private_key={ONES}\nlisten_port=51820\nfwmark=51820\nreplace_peers=true\n\
         public_key={P1}\nprotocol_version=1\nupdate_only=true\npreshared_key={ONES}\nendpoint=192.0.2.7:7\n\
         persistent_keepalive_interval=21\nreplace_allowed_ips=true\n\
         allowed_ip=10.9.7.1/24\nallowed_ip=-10.9.8.0/24\nallowed_ip=+2001:db8::1/32\n\
         public_key={P2}\nremove=true\n"
    ));
    assert!(plan.private_key.is_some_and(|key| key.same(&Secret([0x11; 32]))));
    assert_eq!((plan.listen_port, plan.fwmark, plan.replace_peers), (Some(51820), Some(51820), true));
    let [first, second] = &plan.peers[..] else { panic!("two peers") };
    assert_eq!(first.public_key.0[..2], [0x9f, 0x1a]);
    assert!(first.update_only && first.replace_allowed_ips && !first.remove);
    assert!(first.preshared_key.as_ref().is_some_and(|key| key.same(&Secret([0x11; 32]))));
    assert_eq!(first.endpoint, "192.0.2.7:7".parse().ok());
    assert_eq!(first.persistent_keepalive, Some(21));
    assert_eq!(first.allowed_ips, [add("10.9.7.0/24"), take_away("10.9.8.0/24"), add("2001:db8::/32")]);
    assert!(second.remove);
}

/// Case 18: what one peer is given, the next one does not have.
#[test]
fn case_18_nothing_leaks_into_the_next_peer() {
    let plan = plan(&format!(
        "public_key={P1}\nremove=true\nupdate_only=true\npreshared_key={ONES}\nendpoint=192.0.2.7:7\n\
         persistent_keepalive_interval=21\nreplace_allowed_ips=true\nallowed_ip=10.9.7.0/24\n\
         public_key={P2}\nallowed_ip=10.9.8.0/24\n"
    ));
    let [_, second] = &plan.peers[..] else { panic!("two peers") };
    assert!(!second.remove && !second.update_only && !second.replace_allowed_ips);
    assert!(second.preshared_key.is_none() && second.endpoint.is_none() && second.persistent_keepalive.is_none());
    assert_eq!(second.allowed_ips, [add("10.9.8.0/24")]);
}

#[test]
fn the_same_peer_twice_is_two_steps_in_order() {
    let plan = plan(&format!("public_key={P1}\nremove=true\npublic_key={P1}\nallowed_ip=10.0.0.0/8\n"));
    let [first, second] = &plan.peers[..] else { panic!("two steps") };
    assert_eq!(first.public_key, second.public_key);
    assert!(first.remove && !second.remove);
}

#[test]
fn replace_below_allowed_ips_forgets_those_above_it() {
    let plan = plan(&format!(
        "public_key={P1}\nupdate_only=true\nallowed_ip=10.0.0.0/8\nreplace_allowed_ips=true\nallowed_ip=10.1.0.0/16\n"
    ));
    let [first, second] = &plan.peers[..] else { panic!("two steps") };
    assert_eq!((first.replace_allowed_ips, &first.allowed_ips[..]), (false, &[add("10.0.0.0/8")][..]));
    assert_eq!((second.replace_allowed_ips, &second.allowed_ips[..]), (true, &[add("10.1.0.0/16")][..]));
    assert!(first.update_only && second.update_only && first.public_key == second.public_key);
}

/// Case 7, as far as it is the protocol's: numbers in hex, and the ends of the ranges.
#[test]
fn case_07_numbers_and_their_limits() {
    for (text, mark) in [
        ("0", 0),
        ("", 0),
        ("0x0", 0),
        ("0x64", 0x64),
        ("0XCA6C", 0xca6c),
        ("4294967295", u32::MAX),
        ("0xFFFFFFFF", u32::MAX),
    ] {
        assert_eq!(plan(&format!("fwmark={text}\n")).fwmark, Some(mark), "fwmark={text}");
    }
    for text in
        ["off", "-1", "+1", " 1", "1 ", "12abc", "0x", "0x+1", "0x1FFFFFFFF", "4294967296", "99999999999999999999"]
    {
        assert_eq!(refusal(&format!("fwmark={text}\n")).errno, -EINVAL, "fwmark={text}");
    }
    for (text, number) in [("0", 0), ("1", 1), ("00025", 25), ("65535", 65535)] {
        assert_eq!(plan(&format!("listen_port={text}\n")).listen_port, Some(number));
        let text = format!("public_key={P1}\npersistent_keepalive_interval={text}\n");
        assert_eq!(plan(&text).peers[0].persistent_keepalive, Some(number));
    }
    for text in ["", "off", "-1", "+1", "65536", "0x10", "1_0", "1\r", "99999999999999999999"] {
        refusal(&format!("listen_port={text}\n"));
        refusal(&format!("public_key={P1}\npersistent_keepalive_interval={text}\n"));
    }
}

#[test]
fn keys_are_64_hex_digits_of_either_case() {
    let upper = P1.to_uppercase();
    assert_eq!(
        plan(&format!("public_key={upper}\n")).peers[0].public_key,
        plan(&format!("public_key={P1}\n")).peers[0].public_key
    );
    assert!(plan(&format!("private_key={}\n", "0".repeat(64))).private_key.is_some_and(|key| key.is_zero()));
    for bad in ["", &P1[1..], &format!("{P1}0"), &P1.replace('9', "g"), "nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U="]
    {
        refusal(&format!("private_key={bad}\n"));
        refusal(&format!("public_key={bad}\n"));
        refusal(&format!("public_key={P1}\npreshared_key={bad}\n"));
    }
}

#[test]
fn prefixes_have_an_address_and_a_length() {
    for good in ["0.0.0.0/0", "10.0.0.1/32", "::/0", "2001:db8::1/128", "::ffff:10.0.0.1/104"] {
        plan(&format!("public_key={P1}\nallowed_ip={good}\n"));
    }
    for bad in [
        "",
        "-",
        "+",
        "--10.0.0.0/8",
        "10.0.0.1",
        "10.0.0.1/",
        "10.0.0.1/33",
        "10.0.0.1/-1",
        "10.0.0/8",
        "010.0.0.1/8",
        "::1/129",
        "::1%1/64",
        "10.0.0.0/8/8",
        "10.0.0.0/8,10.1.0.0/16",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/ 8",
    ] {
        refusal(&format!("public_key={P1}\nallowed_ip={bad}\n"));
    }
}

#[test]
fn only_true_is_true() {
    for bad in ["", "false", "True", "1", "true ", "yes"] {
        refusal(&format!("replace_peers={bad}\n"));
        for key in ["remove", "update_only", "replace_allowed_ips"] {
            refusal(&format!("public_key={P1}\n{key}={bad}\n"));
        }
    }
    refusal(&format!("public_key={P1}\nprotocol_version=2\n"));
}

#[test]
fn keys_stand_in_their_own_section() {
    for key in ["listen_port=1", "fwmark=1", "replace_peers=true", &format!("private_key={ONES}")] {
        let refusal = refusal(&format!("public_key={P1}\n{key}\n"));
        assert!(refusal.text.contains("above the first public_key"), "{refusal}");
    }
    for key in ["remove=true", "update_only=true", "allowed_ip=10.0.0.0/8", "protocol_version=1"] {
        assert!(refusal(&format!("{key}\n")).text.contains("public_key line first"));
    }
}

#[test]
fn a_refusal_names_line_and_key_and_number() {
    let refused = refusal("listen_port=1\nfwmark=x\n");
    assert_eq!((refused.errno, refused.line), (-EINVAL, 3));
    assert!(refused.text.starts_with("line 3: fwmark: write 32 bits"), "{refused}");
    assert_eq!(errno_reply(refused.errno), "errno=-22\n\n");
    let refused = refusal("listen_port=1\nlisten_port\n");
    assert_eq!((refused.errno, refused.line), (-EPROTO, 3));
    let refused = refusal("listen_port=1\n\nfwmark=1\n");
    assert_eq!((refused.errno, refused.line), (-EPROTO, 4));
}

#[test]
fn a_refusal_repeats_no_key_material() {
    let base64 = "8HVbNOh8bpKUGeXo08E97c2GohkHFQ6hfSQA5pvs4nY=";
    for text in [
        format!("{ONES}={ONES}\n"),
        format!("{base64}\n"),
        format!("{base64}=x\n"),
        format!("private_key={base64}\n"),
        format!("private_key={ONES}1\n"),
        format!("listen_port={ONES}\n"),
        format!("public_key={P1}\nendpoint={ONES}\n"),
        format!("public_key={P1}\npreshared_key={base64}\n"),
        format!("public_key={P1}\nallowed_ip={ONES}/32\n"),
    ] {
        let text = refusal(&text).text;
        assert!(!text.contains(&ONES[..8]) && !text.contains(&base64[..8]), "{text}");
    }
}

/// 130,560 allowed IPs in one request.
#[test]
fn a_very_large_request_is_read_in_linear_time() {
    let mut text = format!("public_key={P1}\nreplace_allowed_ips=true\n");
    for n in 0..130_560u32 {
        text.push_str(&format!("allowed_ip=10.{}.{}.{}/32\n", n >> 16, n >> 8 & 255, n & 255));
    }
    let mut took = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(plan(&text).peers[0].allowed_ips.len(), 130_560);
        took = took.min(start.elapsed());
    }
    assert!(took < Duration::from_millis(200), "took {took:?}; 50 ms is the aim on an idle machine");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        let _ = parse(&text, &|_| Some(1));
        let _ = parse_set(&text);
    }

    /// Text near the grammar: known keys, odd values, cut anywhere. Refusals point at a line that exists.
    #[test]
    fn near_requests_never_panic(
        lines in proptest::collection::vec(
            (
                prop::sample::select(vec![
                    "private_key", "listen_port", "fwmark", "replace_peers", "public_key", "remove", "update_only",
                    "preshared_key", "endpoint", "persistent_keepalive_interval", "replace_allowed_ips", "allowed_ip",
                    "protocol_version", "errno", "", "get", "PUBLIC_KEY", "\0",
                ]),
                prop::sample::select(vec![
                    P1, P2, "true", "1", "0", "", "65535", "65536", "-1", "0xca6c", "192.0.2.1:5", "[fe80::1%2]:5",
                    "10.0.0.0/8", "-10.0.0.0/8", "::/0", "=", "\r", "\0", "é", "off", "[", "]:", "%", "/",
                ]),
            ),
            0..12,
        ),
        cut in 0usize..600,
    ) {
        let mut text = String::from("set=1\n");
        for (key, value) in &lines {
            text.push_str(&format!("{key}={value}\n"));
        }
        let cut = (0..=cut.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        for text in [&text[..], &text[..cut]] {
            if let Err(refusal) = parse(text, &|_| None) {
                prop_assert!(refusal.line >= 1 && refusal.line <= text.split('\n').count().max(2));
                prop_assert!(refusal.errno < 0);
            }
        }
    }

    /// Numbers are taken exactly when they are digits within the range.
    #[test]
    fn numbers_as_the_slow_obvious_way_has_it(text in "[0-9a-x+ _-]{0,12}", max in any::<u32>()) {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let expected = text.parse::<u64>().ok().filter(|&n| plain && n <= u64::from(max));
        prop_assert_eq!(decimal(&text, u64::from(max)), expected);
    }
}
