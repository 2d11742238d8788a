//! The real `wg` on our socket. It looks into `/var/run/wireguard` only, so these tests want root.

use super::fake::FakeDevice;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use wgengine_core::time::Wall;
use wgengine_io::uapi::{listen, Server};

const PRIVATE: &str = "8HVbNOh8bpKUGeXo08E97c2GohkHFQ6hfSQA5pvs4nY=";
const PSK: &str = "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=";
const P1: &str = "nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U=";
const P2: &str = "E2n+4goIysa+phcqj9b8RkZd+SxoCA3mghUSBYxSSQI=";

/// A made-up device that `wg` takes for a real one.
struct Lab {
    name: String,
    device: Arc<FakeDevice>,
    _server: Server,
    files: Vec<PathBuf>,
}

impl Lab {
    /// `None`, with a word why, where there is no `wg` or no right to its directory; in CI that is a failure.
    fn new() -> Option<Lab> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wgu{}-{number}", std::process::id());
        let wg = Command::new("wg").arg("--version").output().map_err(|error| format!("no wg: {error}"));
        let made = wg.and_then(|_| listen(&name).map_err(|error| format!("no socket in /var/run/wireguard: {error}")));
        let (listener, path) = match made {
            Ok(made) => made,
            Err(why) if std::env::var_os("CI").is_some() => panic!("{why}"),
            Err(why) => {
                eprintln!("skipped: {why}");
                return None;
            }
        };
        let device = FakeDevice::new();
        let server = Server::start(listener, Some(path), device.clone(), Box::new(|| ())).unwrap();
        Some(Lab { name, device, _server: server, files: Vec::new() })
    }

    fn run(&self, arguments: &[&str]) -> Output {
        // Without a set limit `wg set` tries the names of endpoints for long.
        Command::new("wg").args(arguments).env("WG_ENDPOINT_RESOLUTION_RETRIES", "0").output().unwrap()
    }

    fn wg(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "wg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// `wg VERB NAME …`
    fn on(&self, verb: &str, rest: &[&str]) -> String {
        self.wg(&[&[verb, &self.name], rest].concat())
    }

    fn file(&mut self, text: &str) -> String {
        let path = std::env::temp_dir().join(format!("{}-{}", self.name, self.files.len()));
        fs::write(&path, text).unwrap();
        self.files.push(path.clone());
        path.to_str().unwrap().into()
    }

    fn set_up(&mut self) {
        let (private, psk) = (self.file(PRIVATE), self.file(PSK));
        let first = ["peer", P1, "preshared-key", &psk, "endpoint", "192.0.2.2:51820", "persistent-keepalive", "25"];
        let device = ["listen-port", "51820", "fwmark", "0xca6c", "private-key", &private];
        let second = ["allowed-ips", "10.9.0.2/32,fd00::/64", "peer", P2, "allowed-ips", "10.20.0.0/16"];
        self.on("set", &[&device[..], &first, &second].concat());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.files.iter().for_each(|file| drop(fs::remove_file(file)));
    }
}

fn public_key_of(private: &str) -> String {
    let mut wg = Command::new("wg").arg("pubkey").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(wg.stdin.take().unwrap(), "{private}").unwrap();
    String::from_utf8(wg.wait_with_output().unwrap().stdout).unwrap().trim().into()
}

#[test]
fn set_and_show() {
    let Some(mut lab) = Lab::new() else { return };
    assert!(lab.wg(&["show", "interfaces"]).split_whitespace().any(|name| name == lab.name));
    lab.set_up();
    let own = public_key_of(PRIVATE);
    let expected = format!(
        "{PRIVATE}\t{own}\t51820\t0xca6c\n\
         {P1}\t{PSK}\t192.0.2.2:51820\t10.9.0.2/32,fd00::/64\t0\t0\t0\t25\n\
         {P2}\t(none)\t(none)\t10.20.0.0/16\t0\t0\t0\toff\n"
    );
    assert_eq!(lab.on("show", &["dump"]), expected);
    assert_eq!(lab.on("show", &["transfer"]), format!("{P1}\t0\t0\n{P2}\t0\t0\n"));
    assert!(lab.wg(&["show", "all", "dump"]).contains(&format!("{}\t{P1}\t", lab.name)));
    assert!(lab.on("showconf", &[]).contains("FwMark = 0xca6c"));
}

/// Case 16: never is never, and a handshake is shown by its age.
#[test]
fn case_16_latest_handshake() {
    let Some(mut lab) = Lab::new() else { return };
    lab.set_up();
    assert_eq!(lab.on("show", &["latest-handshakes"]), format!("{P1}\t0\n{P2}\t0\n"));
    assert!(!lab.on("show", &[]).contains("latest handshake"));
    let secs = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - 3;
    lab.device.state.lock().unwrap().peers[0].last_handshake = Some(Wall { secs, nanos: 999_999_999 });
    assert_eq!(lab.on("show", &["latest-handshakes"]), format!("{P1}\t{secs}\n{P2}\t0\n"));
    let shown = lab.on("show", &[]);
    let line = shown.lines().find(|line| line.contains("latest handshake")).unwrap();
    assert!(line.contains("seconds ago"), "{line}");
}

/// Case 20: shown as set, and `off` when it is off.
#[test]
fn case_20_fwmark() {
    let Some(lab) = Lab::new() else { return };
    for (given, shown) in [("0xca6c", "0xca6c\n"), ("off", "off\n"), ("4294967295", "0xffffffff\n"), ("0", "off\n")] {
        lab.on("set", &["fwmark", given]);
        assert_eq!(lab.on("show", &["fwmark"]), shown);
    }
}

/// Case 11.3 and case 22: a prefix moves to the peer that is given it; a list is replaced; a peer is removed.
#[test]
fn allowed_ips_move_and_peers_go() {
    let Some(mut lab) = Lab::new() else { return };
    lab.set_up();
    lab.on("set", &["peer", P2, "allowed-ips", "10.9.0.2/32"]);
    assert_eq!(lab.on("show", &["allowed-ips"]), format!("{P1}\tfd00::/64\n{P2}\t10.9.0.2/32\n"));
    lab.on("set", &["peer", P1, "remove", "peer", P2, "allowed-ips", ""]);
    assert_eq!(lab.on("show", &["allowed-ips"]), format!("{P2}\t(none)\n"));
}

/// `wg syncconf` takes away the peers that the file does not name, and leaves the rest as it is: this `wg` does the same
/// to wireguard-go, pre-shared key and keepalive included.
#[test]
fn syncconf_and_setconf() {
    let Some(mut lab) = Lab::new() else { return };
    lab.set_up();
    lab.device.state.lock().unwrap().peers[0].tx_bytes = 77;
    let conf = lab.file(&format!(
        "[Interface]\nPrivateKey = {PRIVATE}\nListenPort = 51820\n\
         [Peer]\nPublicKey = {P1}\nAllowedIPs = 10.9.0.2/32\nEndpoint = 192.0.2.2:51820\n"
    ));
    lab.on("syncconf", &[&conf]);
    let peers = lab.on("show", &["dump"]);
    assert!(!peers.contains(P2), "{peers}");
    assert!(peers.contains(&format!("{P1}\t{PSK}\t192.0.2.2:51820\t10.9.0.2/32\t0\t0\t77\t25")), "{peers}");
    lab.on("setconf", &[&conf]);
    assert!(lab.on("show", &["dump"]).contains("\t0\t0\t0\toff"), "setconf makes the peer anew");
}

#[test]
fn an_endpoint_with_a_scope() {
    let Some(lab) = Lab::new() else { return };
    lab.on("set", &["peer", P1, "endpoint", "[fe80::1%lo]:51820"]);
    assert_eq!(lab.on("show", &["endpoints"]), format!("{P1}\t[fe80::1%lo]:51820\n"));
    lab.on("set", &["peer", P1, "endpoint", "[2001:db8::1]:51820"]);
    assert_eq!(lab.on("show", &["endpoints"]), format!("{P1}\t[2001:db8::1]:51820\n"));
}

#[test]
fn an_error_of_the_device_is_the_error_of_wg() {
    let Some(lab) = Lab::new() else { return };
    lab.device.errno.store(libc::EADDRINUSE, Ordering::Relaxed);
    let output = lab.run(&["set", &lab.name, "listen-port", "51820"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Address already in use"));
}

/// N20, by the real tool: 130,560 allowed IPs in one file.
#[test]
fn n20_very_many_allowed_ips() {
    let Some(mut lab) = Lab::new() else { return };
    let mut conf = format!("[Interface]\n[Peer]\nPublicKey = {P1}\n");
    for third in 0..510u32 {
        let ips: Vec<_> = (0..256u32).map(|last| format!("10.{}.{}.{last}/32", third / 256, third % 256)).collect();
        conf.push_str(&format!("AllowedIPs = {}\n", ips.join(", ")));
    }
    let conf = lab.file(&conf);
    lab.on("setconf", &[&conf]);
    let shown = lab.on("show", &["allowed-ips"]);
    assert_eq!(shown.split_whitespace().count(), 1 + 130_560);
}
