"""`wgengine up` while it runs: reloads that touch only what differs, its ends, and what it says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import is_wgengine, until
from peers import without
from peers.tunnel import PORT
from peers.up import WGENGINE, Up, up

if TYPE_CHECKING:
    from lab import Host, Lab
    from peers.device import Device

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="a command of wgengine")

OTHER = "nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U="


class Served:
    """A tunnel by `up` on host a, and the device at its far end on host b."""

    def __init__(self, lab: Lab) -> None:
        self.a, self.b = lab.pair()
        self.far = lab.wgengine(self.b)
        self.tunnel = up(lab, self.a, "")
        self.far.setconf(
            f"{self.far.interface_section(PORT)}[Peer]\nPublicKey = {self.near.public}\n"
            "AllowedIPs = 10.9.0.1/32, fd00:9::1/128\n"
        )
        self.far.address("10.9.0.2/24", "fd00:9::2/64")
        self.far.up()
        self.write()

    @property
    def near(self) -> Device:
        return self.tunnel.device

    def text(self, interface: str = "", peers: str = "", address: str = "10.9.0.1/24, fd00:9::1/64") -> str:
        return (
            f"[Interface]\nPrivateKey = {self.near.private}\nListenPort = {PORT}\nAddress = {address}\n{interface}\n"
            f"[Peer]\nPublicKey = {self.far.public}\nAllowedIPs = 10.9.0.2/32, fd00:9::2/128\n"
            f"Endpoint = {self.b.ipv4}:{PORT}\n{peers}"
        )

    def write(self, interface: str = "", peers: str = "", **more: str) -> None:
        self.tunnel.write(self.text(interface, peers, **more))

    def reload(self) -> str:
        """What it said to a SIGHUP."""
        before = self.tunnel.log
        self.tunnel.signal(signal.SIGHUP)
        until(
            lambda: re.search(rf"^wgengine: {self.tunnel.name}.*\n", self.tunnel.log[len(before) :], re.MULTILINE),
            f"it answers a SIGHUP: {self.tunnel.log[len(before) :]}",
        )
        return self.tunnel.log[len(before) :]


def peer(key: str, allowed: str) -> str:
    return f"[Peer]\nPublicKey = {key}\nAllowedIPs = {allowed}\n"


def test_a_reload_changes_what_differs_and_no_packet_of_others_is_lost(lab: Lab) -> None:
    served = Served(lab)
    served.tunnel.start()
    assert served.a.ping("10.9.0.2") == 1
    handshake, inodes = served.near.peer(served.far).latest_handshake, served.near.udp_inodes()
    pings = served.a.spawn("ping", "-n", "-q", "-i", "0.002", "-c", "2000", "-W", "5", "10.9.0.2")
    reloads = 0
    while pings.running:
        reloads += 1
        served.write(peers=peer(OTHER, f"10.{reloads % 200 + 10}.0.0/16") if reloads % 3 else "")
        served.reload()
    assert "2000 received" in pings.output()
    assert reloads >= 5
    assert served.near.peer(served.far).latest_handshake == handshake
    assert served.near.udp_inodes() == inodes
    assert served.tunnel.stop() == 0


def test_a_reload_sets_addresses_mtu_routes_and_peers(lab: Lab) -> None:
    served = Served(lab)
    before = served.a.snapshot()
    served.tunnel.start()
    served.write("MTU = 1380\nTable = 1234", peer(OTHER, "10.20.0.0/16, ::/0"), address="10.9.0.1/24, 10.9.7.1/32")
    assert "changes" in served.reload()
    shown = served.a.run("ip", "address", "show", "dev", served.tunnel.name)
    assert "mtu 1380" in shown
    assert re.findall(r"inet6? (\S+) scope global", shown) == ["10.9.0.1/24", "10.9.7.1/32"]
    assert "10.20.0.0/16" in served.a.run("ip", "route", "show", "table", "1234")
    assert f"default dev {served.tunnel.name}" in served.a.run("ip", "-6", "route", "show", "table", "1234")
    assert served.near.peer(OTHER).allowed_ips == {"10.20.0.0/16", "::/0"}
    assert served.a.ping("10.9.0.2") == 1
    assert "0 changes" in served.reload()
    served.write()
    served.reload()
    assert set(served.near.show().peers) == {served.far.public}
    assert not served.a.run("ip", "route", "show", "table", "1234", check=False)
    assert served.a.ping("fd00:9::2") == 1
    assert served.tunnel.stop() == 0
    served.a.assert_clean(before)


@pytest.mark.parametrize(
    ("interface", "peers", "words"),
    [
        ("MTU = many", "", ":5: MTU: "),
        ("", "AlowedIPs = 10.0.0.0/8", ":10: "),
        ("DNS = 198.51.100.53", "", "wg-quick"),
        ("", peer(OTHER, "0.0.0.0/0"), "wg-quick"),
        ("", peer("AAAA", "10.0.0.0/8"), ":11: PublicKey: "),
        ("ListenPort = 51999", "", "Address already in use"),
    ],
)
def test_a_bad_file_is_told_and_changes_nothing(lab: Lab, interface: str, peers: str, words: str) -> None:
    served = Served(lab)
    other = lab.wgengine(served.a)
    other.setconf(other.interface_section(51999))
    served.tunnel.start()
    assert served.a.ping("10.9.0.2") == 1
    before, state = served.a.snapshot(), served.near.show()
    served.write(interface, peers)
    said = served.reload()
    assert f"{served.tunnel.name} goes on as it was: " in said
    assert words in said
    assert served.a.snapshot() == before
    assert served.near.show() == state
    assert served.a.ping("10.9.0.2") == 1
    served.write(peers=peer(OTHER, "10.20.0.0/16"))
    assert "2 changes" in served.reload()  # the peer and its route: what was refused is forgotten
    assert served.tunnel.stop() == 0


def test_what_was_changed_past_the_file_is_set_back(lab: Lab) -> None:
    served = Served(lab)
    served.tunnel.start()
    assert served.a.ping("10.9.0.2") == 1
    state, handshake = served.near.show(), served.near.peer(served.far).latest_handshake
    served.near.wg_set("fwmark", "7", "peer", served.far.public, "persistent-keepalive", "9", "peer", OTHER)
    assert "3 changes" in served.reload()
    after = served.near.show()
    assert (after.fwmark, set(after.peers)) == (state.fwmark, set(state.peers))
    assert after.peers[served.far.public].keepalive == "off"
    assert after.peers[served.far.public].latest_handshake == handshake
    assert served.tunnel.stop() == 0


def test_reloads_in_a_burst_are_all_heard(lab: Lab) -> None:
    served = Served(lab)
    served.tunnel.start()
    for number in range(30):
        served.write(peers=peer(OTHER, f"10.20.{number}.0/24"))
        served.tunnel.signal(signal.SIGHUP)
    until(lambda: served.near.peer(OTHER).allowed_ips == {"10.20.29.0/24"}, "the last file counts")
    assert served.a.ping("10.9.0.2") == 1
    assert served.tunnel.stop() == 0


def test_a_dry_run_tells_what_is_then_done(lab: Lab) -> None:
    """Step by step, beside the engine's own log of what it did."""
    host = lab.host()
    tunnel = plain(lab, host, env={"LOG_LEVEL": "debug"})
    text = tunnel.file.read_text().replace("PreDown", "MTU = 1380\nFwMark = 7\nListenPort = 51000\nPreDown", 1)
    tunnel.write(text)
    shown = tunnel.attempt("--dry-run").stdout.splitlines()
    up_begins, down_begins = shown.index(f"{tunnel.name} up:"), shown.index(f"{tunnel.name} down:")
    steps = [line.strip() for line in shown[up_begins + 1 : down_begins]]
    tunnel.start()
    prefix = f"wgengine: {tunnel.name}: "
    done = [line.removeprefix(prefix) for line in tunnel.log.splitlines() if line.startswith(prefix)]
    done = [line for line in done if line[:2] in ("+ ", "~ ", "- ")]
    not_logged = {f"+ interface {tunnel.name}", "~ link up"}
    assert not_logged < set(steps)
    assert [step for step in steps if step not in not_logged] == done
    assert tunnel.stop() == 0
    assert [line.strip() for line in shown[down_begins + 1 :: 2]] == [
        f"$ {line.removeprefix('[#] ').replace('echo', phase + ' echo', 1)}"
        for phase, line in zip(
            ("PreDown", "PostDown"),
            (line for line in tunnel.log.splitlines() if line.startswith("[#] ")),
            strict=True,
        )
    ]


def test_a_file_that_is_gone_is_told_and_the_tunnel_stays(lab: Lab) -> None:
    served = Served(lab)
    served.tunnel.start()
    served.tunnel.file.unlink()
    assert "No such file" in served.reload()
    assert served.a.ping("10.9.0.2") == 1
    assert served.tunnel.stop() == 0


def test_a_route_of_another_is_told_and_the_rest_is_done(lab: Lab) -> None:
    served = Served(lab)
    served.a.run("ip", "route", "add", "10.20.0.0/16", "dev", served.a.link)
    served.tunnel.start()
    served.write(peers=peer(OTHER, "10.20.0.0/16, 10.30.0.0/16"))
    said = served.reload()
    assert "10.20.0.0/16" in said
    assert "another route has this prefix" in said
    assert served.near.peer(OTHER).allowed_ips == {"10.20.0.0/16", "10.30.0.0/16"}
    assert f"dev {served.tunnel.name}" in served.a.run("ip", "route", "show", "10.30.0.0/16")
    assert served.tunnel.stop() == 0
    # at the start the same is an error, and nothing stays
    done = served.tunnel.attempt()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "another route has this prefix" in done.stderr
    assert served.tunnel.name not in served.a.links()


def test_hooks_that_change_count_when_it_goes_down(lab: Lab) -> None:
    served, log = Served(lab), lab.scratch / "notes"
    served.write(f"PostUp = echo first up >> {log}\nPreDown = echo first down >> {log}")
    served.tunnel.start()
    served.write(f"PostUp = echo second up >> {log}\nPreDown = echo second down >> {log}")
    served.reload()
    assert log.read_text() == "first up\n"
    assert served.tunnel.stop() == 0
    assert log.read_text() == "first up\nsecond down\n"


def test_a_reload_that_comes_too_early_waits(lab: Lab) -> None:
    served, log = Served(lab), lab.scratch / "notes"
    served.write(f"PostUp = echo here >> {log}; until test -e {log}.go; do sleep 0.05; done")
    served.tunnel.begin()
    until(log.exists, "the hook runs")
    served.write(peers=peer(OTHER, "10.20.0.0/16"))
    served.tunnel.signal(signal.SIGHUP)
    assert set(served.near.show().peers) == {served.far.public}
    log.with_name("notes.go").touch()
    until(lambda: served.tunnel.said("2 changes"), "it reads the file again")
    assert set(served.near.show().peers) == {served.far.public, OTHER}
    assert served.tunnel.stop() == 0


# -- How it ends.


def plain(lab: Lab, host: Host, **more: object) -> Up:
    tunnel = up(lab, host, "", **more)  # type: ignore[arg-type]
    log = lab.scratch / "notes"
    tunnel.write(
        f"[Interface]\nPrivateKey = {tunnel.device.private}\nAddress = 10.9.0.1/24, fd00:9::1/64\n"
        f"PreDown = echo PreDown >> {log}\nPostDown = echo PostDown >> {log}\n" + peer(OTHER, "10.20.0.0/16, fd20::/64")
    )
    return tunnel


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_takes_it_down_within_two_seconds(lab: Lab, number: signal.Signals) -> None:
    host = lab.host()
    before = host.snapshot()
    tunnel = plain(lab, host)
    for _ in range(3):
        tunnel.start()
        begun = time.monotonic()
        assert tunnel.device.process is not None
        assert tunnel.device.process.stop(number) == 0
        assert time.monotonic() - begun < 2
        assert tunnel.log.endswith(f"wgengine: {tunnel.name} is down\n")
        assert not tunnel.device.socket_path.exists()
        host.assert_clean(before)
    assert (lab.scratch / "notes").read_text() == "PreDown\nPostDown\n" * 3


def test_asked_to_end_at_any_moment_of_its_start_it_leaves_nothing(lab: Lab) -> None:
    host = lab.host()
    before = host.snapshot()
    tunnel = plain(lab, host)
    for step in range(20):
        tunnel.begin()
        time.sleep(0.03 * step)
        assert tunnel.stop() in (0, -signal.SIGTERM)  # the latter: before it looks for signals
        assert not host.pids()
        host.assert_clean(before)


def test_a_link_that_is_deleted_ends_it_with_an_error_and_its_hooks(lab: Lab) -> None:
    host = lab.host()
    tunnel = plain(lab, host)
    tunnel.start()
    host.run("ip", "link", "delete", tunnel.name)
    assert tunnel.device.process is not None
    assert tunnel.device.process.wait(5) == 1
    assert tunnel.said(f"the interface {tunnel.name} is gone")
    assert (lab.scratch / "notes").read_text() == "PreDown\nPostDown\n"


def test_a_socket_file_that_is_removed_takes_it_down_in_order(lab: Lab) -> None:
    host = lab.host()
    before = host.snapshot()
    tunnel = plain(lab, host)
    tunnel.start()
    tunnel.device.socket_path.unlink()
    assert tunnel.device.process is not None
    assert tunnel.device.process.wait(5) == 0
    host.assert_clean(before)


def test_a_terminal_that_is_closed_takes_it_down(lab: Lab) -> None:
    """SIGHUP comes then too, and nobody could end it any more."""
    host = lab.host()
    before = host.snapshot()
    tunnel = plain(lab, host)
    outer, inner = os.openpty()
    command = ["setsid", "--ctty", "ip", "netns", "exec", host.name, *tunnel.device.command]
    with subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner) as process:
        os.close(inner)
        said = b""
        while b" is up; " not in said:
            said += os.read(outer, 4096)
        os.close(outer)
        assert process.wait(5) == 0
    assert (lab.scratch / "notes").read_text() == "PreDown\nPostDown\n"
    host.assert_clean(before)


# -- What it says.


def test_json_is_an_object_a_line_and_hooks_print_elsewhere(lab: Lab) -> None:
    served = Served(lab)
    served.write("PostUp = echo noise from a hook")
    out = lab.scratch / "out"
    out.touch()
    command = ["sh", "-c", f'exec "$0" "$@" > {out}', *served.near.command, "--json"]
    process = served.a.spawn(*command)
    until(lambda: out.read_text().count("\n") == 1, "it is up")
    served.write("PostUp = echo noise from a hook", peer(OTHER, "10.20.0.0/16"))
    process.send_signal(signal.SIGHUP)
    until(lambda: out.read_text().count("\n") == 2, "it has read the file again")
    assert process.stop() == 0
    first, second, third = map(json.loads, out.read_text().splitlines())
    assert first == {
        "event": "up",
        "interface": served.tunnel.name,
        "mtu": 1420,
        "listen_port": PORT,
        "pid": process.pid,
        "socket": str(served.near.socket_path),
        "control": f"/run/wgengine/{served.tunnel.name}.sock",
    }
    assert (second["event"], second["changes"][1:]) == ("reloaded", ["+ route 10.20.0.0/16"])
    assert third == {"event": "down", "interface": served.tunnel.name}
    assert "noise from a hook" in process.log


def test_readers_that_leave_do_not_end_it(lab: Lab) -> None:
    host = lab.host()
    before = host.snapshot()
    tunnel = plain(lab, host)
    command = ["sh", "-c", '"$0" "$@" --json 2>&1 | head -n 1', *tunnel.device.command]
    process = host.spawn(*command)
    until(lambda: '"event": "up"' in process.log, "it is up")
    pid = json.loads(process.log)["pid"]
    for _ in range(3):
        os.kill(pid, signal.SIGHUP)
        time.sleep(0.2)
    assert tunnel.device.answers()
    os.kill(pid, signal.SIGTERM)
    process.wait(5)
    assert (lab.scratch / "notes").read_text() == "PreDown\nPostDown\n"
    host.assert_clean(before)


def test_a_name_is_looked_up_where_wg_quick_looks(lab: Lab) -> None:
    host = lab.host()
    tunnel = plain(lab, host)
    if not Path("/etc/wireguard").is_dir():
        pytest.skip("there is no /etc/wireguard to mount over")
    script = (
        f"mount -t tmpfs none /etc/wireguard && cp {tunnel.file} /etc/wireguard && exec {WGENGINE} up {tunnel.name}"
    )
    process = host.spawn("unshare", "--mount", "sh", "-c", script)
    until(lambda: f"{tunnel.name} is up" in process.log or not process.running, f"it is up: {process.log}")
    assert process.stop() == 0, process.log


@pytest.mark.parametrize("way", ["no privilege", "no device"])
def test_without_a_tun_it_says_what_would_help(lab: Lab, way: str) -> None:
    host = lab.host()
    tunnel = plain(lab, host)
    if way == "no privilege":
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    else:
        command = [sys.executable, str(Path(without.__file__)), "tun"]
    for options, code in (((), 3), (("--dry-run",), 0)):
        done = host.attempt(*command, *tunnel.device.command, *options)
        assert done.returncode == code, done.stderr
        if code:
            assert done.stderr.count("\n") == 1
            assert "--cap-add NET_ADMIN --device /dev/net/tun" in done.stderr
            assert done.stdout == ""
    assert not (lab.scratch / "notes").exists()


def test_a_look_up_without_an_answer_does_not_keep_it_from_ending(lab: Lab) -> None:
    """A resolver waits for many seconds for a server that says nothing."""
    served = Served(lab)
    before = served.a.snapshot()
    served.b.nft("table inet lab { chain in { type filter hook input priority 0; udp dport 53 drop; }; }")
    resolv = lab.scratch / "resolv.conf"
    resolv.write_text(f"nameserver {served.b.ipv4}\n")
    served.write(peers=f"{peer(OTHER, '10.20.0.0/16')}Endpoint = vpn.example:51820\n")
    script = f'mount --bind {resolv} /etc/resolv.conf && exec "$0" "$@"'
    process = served.a.spawn("unshare", "--mount", "sh", "-c", script, *served.near.command)
    until(lambda: f"{served.tunnel.name} is up" in process.log or not process.running, f"it is up: {process.log}")
    assert served.a.ping("10.9.0.2") == 1
    begun = time.monotonic()
    assert process.stop() == 0, process.log
    assert time.monotonic() - begun < 2
    served.a.assert_clean(before)
