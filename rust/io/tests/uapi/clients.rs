//! Clients: many, slow, greedy, several requests each.

use super::fake::{ask, connect, is_over, receive, send, serve, FakeDevice, Folder, PANIC};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

const P1: &str = "9f1af8c43245eb176eaf53aa9e7767425830c25d98e93a4d037b7390d74e7765";

#[test]
fn a_connection_carries_many_requests() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let mut client = connect(&path);
    for port in 1..200 {
        assert_eq!(ask(&mut client, &format!("set=1\nlisten_port={port}\n\n")), "errno=0\n\n");
        assert_eq!(ask(&mut client, "get=1\n\n"), format!("listen_port={port}\nerrno=0\n\n"));
    }
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let mut client = connect(&path);
    let requests: String = (1..=500).map(|port| format!("set=1\nlisten_port={port}\n\n\nget=1\n\n")).collect();
    send(&mut client, requests.as_bytes());
    client.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).unwrap();
    let expected: String = (1..=500).map(|port| format!("errno=0\n\nlisten_port={port}\nerrno=0\n\n")).collect();
    assert_eq!(answers, expected);
}

#[test]
fn what_the_device_answers_comes_back_negative() {
    let folder = Folder::new();
    let device = FakeDevice::new();
    let (_server, path) = serve(&folder, device.clone());
    for errno in [libc::EADDRINUSE, libc::EPERM, libc::EACCES] {
        device.errno.store(errno, Ordering::Relaxed);
        assert_eq!(ask(&mut connect(&path), "set=1\nlisten_port=1\n\n"), format!("errno=-{errno}\n\n"));
    }
}

#[test]
fn a_panic_of_the_device_is_an_answer() {
    let folder = Folder::new();
    let device = FakeDevice::new();
    let (_server, path) = serve(&folder, device.clone());
    let mut client = connect(&path);
    device.errno.store(PANIC, Ordering::Relaxed);
    assert_eq!(ask(&mut client, "set=1\n\n"), format!("errno=-{}\n\n", libc::EIO));
    device.errno.store(0, Ordering::Relaxed);
    assert_eq!(ask(&mut client, "set=1\n\n"), "errno=0\n\n");
}

#[test]
fn a_bad_line_changes_nothing_and_is_told_to_the_device() {
    let folder = Folder::new();
    let device = FakeDevice::new();
    let (_server, path) = serve(&folder, device.clone());
    let mut client = connect(&path);
    let bad = format!("set=1\nlisten_port=7\npublic_key={P1}\nallowed_ip=10.0.0.0/8\nendpoint=nowhere\n\n");
    assert_eq!(ask(&mut client, &bad), "errno=-22\n\n");
    assert_eq!(ask(&mut client, "get=1\n\n"), "errno=0\n\n", "the connection goes on, the device is as it was");
    let refusals = device.refusals.lock().unwrap();
    assert_eq!((refusals.len(), refusals[0].line), (1, 5));
    assert!(refusals[0].text.starts_with("line 5: endpoint: "), "{}", refusals[0]);
}

#[test]
fn a_scope_may_be_the_name_of_an_interface() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let mut client = connect(&path);
    let set = |endpoint: &str| format!("set=1\npublic_key={P1}\nendpoint={endpoint}\n\n");
    let loopback = if cfg!(target_os = "linux") { "lo" } else { "lo0" };
    assert_eq!(ask(&mut client, &set(&format!("[fe80::1%{loopback}]:5"))), "errno=0\n\n");
    assert!(ask(&mut client, "get=1\n\n").contains("\nendpoint=[fe80::1%1]:5\n"));
    assert_eq!(ask(&mut client, &set("[fe80::1%no-such-if]:5")), "errno=-22\n\n");
}

/// I-13: keys in upper-case hex.
#[test]
fn i13_keys_in_upper_case() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let mut client = connect(&path);
    assert_eq!(ask(&mut client, &format!("set=1\npublic_key={}\n\n", P1.to_uppercase())), "errno=0\n\n");
    assert!(ask(&mut client, "get=1\n\n").starts_with(&format!("public_key={P1}\n")));
}

/// I-13: half a request, then the end. It changes nothing.
#[test]
fn i13_a_request_without_its_end_is_not_taken() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    for half in ["get=1\n", "set=1\nlisten_port=7", "set=1\nlisten_port=7\n"] {
        let mut client = connect(&path);
        send(&mut client, half.as_bytes());
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(receive(&mut client), format!("errno=-{}\n\n", libc::EPROTO));
        assert!(is_over(&mut client));
    }
    // Gone without a word is no request either.
    send(&mut connect(&path), b"set=1\nlisten_port=7\n");
    assert_eq!(ask(&mut connect(&path), "get=1\n\n"), "errno=0\n\n");
}

/// I-13: one byte a second, or nothing at all: closed after ten seconds, and nobody else waits.
#[test]
fn i13_ten_seconds_for_a_request() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let start = Instant::now();
    let mut quiet = connect(&path);
    let mut slow = connect(&path);
    let mut writer = slow.try_clone().unwrap();
    let drip = thread::spawn(move || {
        for byte in b"set=1\nlisten_port=7\n\n" {
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
    let mut asked = 0;
    let mut other = connect(&path);
    while start.elapsed() < Duration::from_secs(9) {
        let before = Instant::now();
        assert_eq!(ask(&mut other, "get=1\n\n"), "errno=0\n\n");
        assert!(before.elapsed() < Duration::from_secs(1), "others wait for a slow client");
        asked += 1;
        thread::sleep(Duration::from_millis(200));
    }
    assert!(asked > 10);
    assert!(is_over(&mut quiet) && is_over(&mut slow));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(14), "closed after {took:?}");
    assert_eq!(ask(&mut other, "get=1\n\n"), "errno=0\n\n", "each request has its own ten seconds");
    drip.join().unwrap();
}

/// I-13: a thousand clients at once. More than 64 wait in the socket's queue, and all are answered.
#[test]
fn i13_a_thousand_clients() {
    allow_descriptors(4096);
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let clients: Vec<_> = (0..1000)
        .map(|_| {
            let mut client = connect(&path);
            send(&mut client, b"get=1\n\n");
            client
        })
        .collect();
    for mut client in clients {
        assert_eq!(receive(&mut client), "errno=0\n\n");
    }
}

/// I-13: a thousand clients that send a byte now and then, or nothing: whoever has a request is served within a second.
#[test]
fn i13_a_thousand_slow_clients_and_one_with_a_request() {
    allow_descriptors(4096);
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let slow: Vec<_> = (0..1000)
        .map(|number| {
            let mut client = connect(&path);
            send(&mut client, &b"set=1\n"[..number % 7]);
            client
        })
        .collect();
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(ask(&mut connect(&path), "get=1\n\n"), "errno=0\n\n");
        assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    }
    drop(slow);
}

/// More clients than are served at once, all of them quiet, and one with an answer that it does not take.
#[cfg(target_os = "linux")]
#[test]
fn waiting_takes_no_processor() {
    let folder = Folder::new();
    let device = FakeDevice::large(20_000);
    let (_server, path) = serve(&folder, device.clone());
    let mut lazy = connect(&path);
    send(&mut lazy, b"get=1\n\n");
    let _quiet: Vec<_> = (0..80).map(|_| connect(&path)).collect();
    thread::sleep(Duration::from_millis(500));
    let used = || {
        let file = std::path::Path::new("/proc").join(&*device.thread.lock().unwrap()).join("schedstat");
        let text = std::fs::read_to_string(file).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    let before = used();
    thread::sleep(Duration::from_secs(1));
    let spent = used() - before;
    assert!(spent < Duration::from_millis(50), "{spent:?} in a second of waiting");
}

/// A large answer that nobody takes keeps nobody waiting, and comes whole when it is taken.
#[test]
fn a_large_answer_does_not_block_others() {
    let folder = Folder::new();
    let device = FakeDevice::large(20_000);
    let (_server, path) = serve(&folder, device);
    let mut lazy = connect(&path);
    send(&mut lazy, b"get=1\n\n");
    let mut other = connect(&path);
    for _ in 0..20 {
        let start = Instant::now();
        assert_eq!(ask(&mut other, "set=1\n\n"), "errno=0\n\n");
        assert!(start.elapsed() < Duration::from_secs(2));
    }
    let answer = receive(&mut lazy);
    assert!(answer.ends_with("\nerrno=0\n\n"));
    assert_eq!(answer.matches("public_key=").count(), 20_000);
    assert!(answer.len() > 4 << 20, "larger than any socket buffer");
}

#[test]
fn a_client_that_goes_before_its_answer_harms_nobody() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::large(20_000));
    for _ in 0..20 {
        send(&mut connect(&path), b"get=1\n\n");
    }
    assert_eq!(ask(&mut connect(&path), "set=1\n\n"), "errno=0\n\n");
}

/// netns.sh N20: 130,560 allowed IPs in, and out again.
#[test]
fn l9_very_many_allowed_ips_go_through_the_socket() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let mut client = connect(&path);
    let mut request = format!("set=1\npublic_key={P1}\nupdate_only=true\n");
    for n in 0..130_560u32 {
        request.push_str(&format!("allowed_ip=10.{}.{}.{}/32\n", n >> 16, n >> 8 & 255, n & 255));
    }
    request.push('\n');
    let start = Instant::now();
    assert_eq!(ask(&mut client, &request), "errno=0\n\n");
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
}

/// Lets this process have many descriptors open, as far as it may.
fn allow_descriptors(count: libc::rlim_t) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a writable rlimit that outlives both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_cur.max(count.min(limit.rlim_max));
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}
