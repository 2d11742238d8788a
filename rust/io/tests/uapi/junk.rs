//! Bytes that are no requests: whatever comes, an answer or a closed connection, and the next client is served.

use super::fake::{ask, connect, receive, send, serve, FakeDevice, Folder};
use std::io::Read;
use std::net::Shutdown;
use wgengine_io::uapi::client::REQUEST_MAX;

/// Numbers that look random and are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

const PIECES: [&[u8]; 20] = [
    b"get=1\n",
    b"set=1\n",
    b"\n",
    b"\n\n",
    b"listen_port=1\n",
    b"listen_port=65536\n",
    b"fwmark=0x\n",
    b"public_key=9f1af8c43245eb176eaf53aa9e7767425830c25d98e93a4d037b7390d74e7765\n",
    b"public_key=\n",
    b"remove=true\n",
    b"update_only=false\n",
    b"allowed_ip=10.0.0.0/8\n",
    b"allowed_ip=-::/0",
    b"endpoint=[\n",
    b"=\n",
    b"\0",
    b"\r\n",
    b"\xff\xfe",
    "é".as_bytes(),
    b"private_key",
];

/// Every answer is lines that end in `errno=N` and an empty line, however odd the request was.
fn assert_answers(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).unwrap();
    for answer in text.split_inclusive("\n\n") {
        let last = answer.strip_suffix("\n\n").and_then(|answer| answer.lines().last()).unwrap_or_default();
        let number = last.strip_prefix("errno=").and_then(|errno| errno.parse::<i32>().ok());
        assert!(number.is_some_and(|errno| errno <= 0), "{answer:?}");
    }
}

fn exchange(path: &std::path::Path, bytes: &[u8]) {
    let mut client = connect(path);
    send(&mut client, bytes);
    let _ = client.shutdown(Shutdown::Write);
    let mut answers = Vec::new();
    // A connection that is closed with bytes of ours unread ends in a reset, behind the answers.
    let _ = client.read_to_end(&mut answers);
    assert_answers(&answers);
}

#[test]
fn random_bytes() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..500 {
        let mut bytes: Vec<u8> = (0..dice.roll(300)).map(|_| dice.roll(256) as u8).collect();
        if dice.roll(2) == 0 {
            bytes.splice(0..0, *b"set=1\n");
        }
        exchange(&path, &bytes);
    }
    assert!(ask(&mut connect(&path), "get=1\n\n").ends_with("errno=0\n\n"));
}

#[test]
fn requests_out_of_odd_pieces() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for _ in 0..1000 {
        let mut bytes: Vec<u8> = (0..dice.roll(12)).flat_map(|_| PIECES[dice.roll(PIECES.len())]).copied().collect();
        bytes.truncate(dice.roll(bytes.len() + 1).max(bytes.len() / 2));
        exchange(&path, &bytes);
    }
    assert!(ask(&mut connect(&path), "get=1\n\n").ends_with("errno=0\n\n"));
}

#[test]
fn every_cut_of_a_request() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    let whole = b"set=1\nlisten_port=51820\nreplace_peers=true\n\nget=1\n\n";
    for cut in 0..whole.len() {
        let mut client = connect(&path);
        send(&mut client, &whole[..cut]);
        send(&mut client, &whole[cut..]);
        client.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).unwrap();
        assert_eq!(answers, "errno=0\n\nlisten_port=51820\nerrno=0\n\n", "cut at {cut}");
    }
}

#[test]
fn a_huge_line_and_nuls() {
    let folder = Folder::new();
    let (_server, path) = serve(&folder, FakeDevice::new());
    for (byte, errno) in [(b'a', libc::EPROTO), (0, libc::EPROTO), (b'=', libc::EINVAL), (0xff, libc::EPROTO)] {
        let mut client = connect(&path);
        send(&mut client, b"set=1\n");
        send(&mut client, &vec![byte; 1 << 20]);
        send(&mut client, b"\n\n");
        assert_eq!(receive(&mut client), format!("errno=-{errno}\n\n"), "byte {byte:#x}");
        assert_eq!(ask(&mut client, "get=1\n\n"), "errno=0\n\n", "the end of the request was found");
    }
}

/// One request is bounded, and so are all that wait together.
#[test]
fn too_much_is_refused_and_small_requests_go_on() {
    let folder = Folder::new();
    let device = FakeDevice::new();
    let (_server, path) = serve(&folder, device.clone());
    let mut client = connect(&path);
    send(&mut client, b"set=1\n");
    send(&mut client, &vec![b'a'; REQUEST_MAX]);
    assert_eq!(receive(&mut client), format!("errno=-{}\n\n", libc::EMSGSIZE));
    assert!(device.refusals.lock().unwrap()[0].text.contains("67108864 bytes"));

    let half = vec![b'a'; REQUEST_MAX / 2 + 1];
    let _hoarders: Vec<_> = (0..2)
        .map(|_| {
            let mut hoarder = connect(&path);
            send(&mut hoarder, b"set=1\n");
            send(&mut hoarder, &half);
            hoarder
        })
        .collect();
    let mut client = connect(&path);
    send(&mut client, b"set=1\n");
    send(&mut client, &vec![b'a'; 100_000]);
    assert_eq!(receive(&mut client), format!("errno=-{}\n\n", libc::ENOBUFS));
    assert_eq!(ask(&mut connect(&path), "set=1\nlisten_port=5\n\n"), "errno=0\n\n");
}
