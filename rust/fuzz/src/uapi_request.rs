//! UAPI requests: taken whole and written back as the same plan, or refused with a line, without repeating a key.

use std::fmt::Write;
use wgengine_core::plan::{AllowedChange, Plan};
use wgengine_core::wire::uapi::{hex, parse, parse_set, Refusal, Request, EINVAL, EPROTO};

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let scope = |name: &str| (name == "eth0").then_some(7);
    match parse(text, &scope) {
        Ok(Request::Get) => assert!(text == "get=1" || text == "get=1\n" || text == "get=1\n\n"),
        Ok(Request::Set(plan)) => round(&plan),
        Err(refusal) => refused(&refusal, text),
    }
    match parse_set(text) {
        Ok(plan) => round(&plan),
        Err(refusal) => refused(&refusal, &format!("set=1\n{text}")),
    }
}

fn round(plan: &Plan) {
    let text = written(plan);
    let again =
        parse_set(&text).unwrap_or_else(|refusal| panic!("{refusal}: of our own {} lines", text.lines().count()));
    assert_eq!(written(&again), text);
}

fn refused(refusal: &Refusal, text: &str) {
    assert!(refusal.errno == -EINVAL || refusal.errno == -EPROTO);
    let lines = text.split('\n').count();
    assert!((1..=lines.max(2)).contains(&refusal.line), "line {} of {lines}", refusal.line);
    assert!(refusal.text.starts_with(&format!("line {}: ", refusal.line)));
    let longest = refusal.text.split(|c: char| !c.is_ascii_hexdigit()).map(str::len).max();
    assert!(longest < Some(33), "half a key is shown");
}

/// A plan in the protocol's words, every line that it stands for.
fn written(plan: &Plan) -> String {
    let mut text = String::new();
    let key = |text: &mut String, name: &str, bytes: &[u8; 32]| {
        text.push_str(name);
        hex::encode(bytes, text);
        text.push('\n');
    };
    let mut lines = Vec::new();
    if let Some(secret) = &plan.private_key {
        key(&mut text, "private_key=", &secret.0);
    }
    lines.extend(plan.listen_port.map(|port| format!("listen_port={port}")));
    lines.extend(plan.fwmark.map(|mark| format!("fwmark={mark:#x}")));
    lines.extend(plan.replace_peers.then(|| "replace_peers=true".into()));
    flush(&mut text, &mut lines);
    for peer in &plan.peers {
        key(&mut text, "public_key=", &peer.public_key.0);
        if let Some(secret) = &peer.preshared_key {
            key(&mut text, "preshared_key=", &secret.0);
        }
        lines.extend(peer.remove.then(|| "remove=true".into()));
        lines.extend(peer.update_only.then(|| "update_only=true".into()));
        lines.extend(peer.endpoint.map(|endpoint| format!("endpoint={endpoint}")));
        lines.extend(peer.persistent_keepalive.map(|secs| format!("persistent_keepalive_interval={secs}")));
        lines.extend(peer.replace_allowed_ips.then(|| "replace_allowed_ips=true".into()));
        lines.extend(peer.allowed_ips.iter().map(|change| match change {
            AllowedChange::Add(prefix) => format!("allowed_ip={prefix}"),
            AllowedChange::Remove(prefix) => format!("allowed_ip=-{prefix}"),
        }));
        flush(&mut text, &mut lines);
    }
    text
}

fn flush(text: &mut String, lines: &mut Vec<String>) {
    for line in lines.drain(..) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
}
