"""`wgengine device`: its command line, its small memory, and its life as a daemon in a namespace."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab import Host, Lab, until
from wgengine.cli import device, interface
from wgengine.cli.outcome import UsageError
from wgengine.errors import PrivilegeError

DEVICE = [sys.executable, "-m", "wgengine", "device"]


def parse(*arguments: str, **environment: str) -> device.Order:
    return device.parse(arguments, environment, program="wgengine device")


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("-f", "wg0"), ("wg0", "-f"), ("--foreground", "wg0")])
def test_foreground_may_stand_anywhere(arguments: tuple[str, ...]) -> None:
    order = parse(*arguments)
    assert (order.name, order.foreground) == ("wg0", True)


def test_background_is_the_default_and_the_environment_can_ask_otherwise() -> None:
    assert not parse("wg0").foreground
    assert parse("wg0", WG_PROCESS_FOREGROUND="1").foreground
    assert not parse("wg0", WG_PROCESS_FOREGROUND="0").foreground


@pytest.mark.parametrize(
    ("level", "number", "kept"),
    [("", 1, False), ("silent", 0, False), ("error", 1, True), ("verbose", 2, True), ("DEBUG", 2, True)],
)
def test_log_level_is_wireguard_gos(level: str, number: int, kept: bool) -> None:
    order = parse("wg0", LOG_LEVEL=level)
    assert (order.level, order.keep_output) == (number, kept)


def test_descriptors_and_knobs_come_from_the_environment() -> None:
    order = parse("wg0", WG_TUN_FD="5", WG_UAPI_FD="6", WGENGINE_SHARDS="3", WGENGINE_UDP_GSO="0")
    assert (order.tun_fd, order.uapi_fd, order.shards) == (5, 6, 3)
    assert (order.tun_offload, order.udp_gso, order.udp_gro) == (True, False, True)
    assert parse("wg0").tun_fd is None
    assert (parse("wg0").nice, parse("wg0", WGENGINE_NICE="0").nice, parse("wg0", WGENGINE_NICE="-20").nice) == (
        -5,
        0,
        -20,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "named"),
    [
        ([], {}, "write `wgengine device wg0`"),
        (["wg0", "wg1"], {}, "wg0 wg1"),
        (["sixteen-letters-"], {}, "1 to 15 letters"),
        (["a/b"], {}, "'a/b' is no interface name"),
        ([".."], {}, "no interface name"),
        (["wg%d"], {}, "no interface name"),
        ([""], {}, "no interface name"),
        (["wg\n0"], {}, "no interface name"),
        (["--daemon", "wg0"], {}, "--daemon"),
        (["wg0"], {"LOG_LEVEL": "loud"}, "silent, error or verbose"),
        (["wg0"], {"WG_TUN_FD": "-1"}, "WG_TUN_FD=-1"),
        (["wg0"], {"WG_UAPI_FD": "three"}, "WG_UAPI_FD=three"),
        (["wg0"], {"WGENGINE_SHARDS": "²"}, "WGENGINE_SHARDS"),
        (["wg0"], {"WGENGINE_TUN_OFFLOAD": "off"}, "write 0 or 1"),
        (["wg0"], {"WGENGINE_NICE": "-21"}, "write a number from -20 to 19"),
        (["wg0"], {"WGENGINE_NICE": "--5"}, "WGENGINE_NICE=--5"),
        (["wg0"], {"WGENGINE_NICE": "high"}, "WGENGINE_NICE=high"),
    ],
)
def test_bad_usage_says_what_to_write(arguments: list[str], environment: dict[str, str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        parse(*arguments, **environment)


def test_bad_usage_is_exit_2_and_one_line() -> None:
    done = subprocess.run([*DEVICE, "-x", "wg0"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("wgengine: ")
    assert done.stderr.count("\n") == 1


def test_loads_neither_parser_nor_event_loop() -> None:
    code = (
        "import sys; from wgengine.cli.main import main; code = main(['device', '-f', 'a', 'b']); "
        "import wgengine._native; print(code, sorted({m.partition('.')[0] for m in sys.modules} "
        "& {'click', 'rich', 'asyncio', 'dataclasses', 'inspect', 'pyroute2', 'ssl', 'ctypes'}), "
        "'wgengine.engine' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "2 [] False\n", done.stderr


def test_root_of_a_user_namespace_is_told_about_the_socket_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the TUN is allowed and its socket is not: advice about the TUN would send them in a circle."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    refused = PrivilegeError("no permission")
    monkeypatch.setattr(interface, "sockets_are_ours", lambda: False)
    assert "mount -t tmpfs tmpfs /run" in device.explain(refused, parse("wg0"))
    monkeypatch.setattr(interface, "sockets_are_ours", lambda: True)
    assert device.explain(refused, parse("wg0")) == "no permission"


def test_socket_directory_that_does_not_exist_yet_is_its_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "SOCKETS", str(tmp_path / "run" / "wireguard"))
    assert interface.sockets_are_ours()
    monkeypatch.setattr(os, "access", lambda path, _mode: path != str(tmp_path))
    assert not interface.sockets_are_ours()


# -- its life, in a network namespace ---------------------------------------------------------------------------------


def start(host: Host, name: str, *, env: dict[str, str] | None = None) -> int:
    """A daemon for `name`; its process id."""
    words = [f"{key}={value}" for key, value in (env or {}).items()]
    said = json.loads(host.run("env", *words, *DEVICE, "--json", name))
    assert said["interface"] == name
    assert said["socket"] == str(socket_of(name))
    return int(said["pid"])


def socket_of(name: str) -> Path:
    return Path(f"/var/run/wireguard/{name}.sock")


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_daemon_serves_before_its_parent_returns(lab: Lab) -> None:
    host, name = lab.host(), lab.interface()
    pid = start(host, name)
    assert name in host.links()
    assert host.run("wg", "show", name).startswith(f"interface: {name}")
    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    assert int(status[3]) != pid, "a session's leader could get a terminal"
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}
    os.kill(pid, signal.SIGTERM)
    until(lambda: ended(pid) and not socket_of(name).exists() and name not in host.links(), "it ends clean")


def test_daemon_lets_go_of_its_callers_pipes(lab: Lab) -> None:
    host, name = lab.host(), lab.interface()
    # attempt() reads until every holder of the pipes is gone
    done = host.attempt(*DEVICE, name, timeout_s=20)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_daemon_whose_starter_is_gone_leaves_nothing(lab: Lab) -> None:
    host, name = lab.host(), lab.interface()
    code = (
        "import os, sys; from wgengine.cli import device; reading, writing = os.pipe(); os.close(reading); "
        "order = device.parse(sys.argv[1:], {}, program='x'); sys.exit(device._serve(order, ready=writing))"
    )
    done = host.attempt(sys.executable, "-c", code, name, timeout_s=20)
    assert (done.returncode, done.stderr) == (1, "")
    assert name not in host.links()
    assert not socket_of(name).exists()


def test_small_memory(lab: Lab) -> None:
    host, name = lab.host(), lab.interface()
    status = Path(f"/proc/{start(host, name)}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    assert resident < 32 * 1024  # kB; the bound under load is 64 MB


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_foreground_ends_clean_on_a_signal(lab: Lab, number: int) -> None:
    host, name = lab.host(), lab.interface()
    process = host.spawn(*DEVICE, "-f", name)
    until(lambda: f"wg set {name}" in process.log, "it says how to configure it")
    assert process.log.count("\n") == 1
    process.send_signal(number)
    assert process.wait(5) == 0
    assert not socket_of(name).exists()
    assert name not in host.links()


def test_ends_when_its_link_is_removed(lab: Lab) -> None:
    host, name = lab.host(), lab.interface()
    process = host.spawn(*DEVICE, "-f", name)
    until(lambda: f"wg set {name}" in process.log, "started")
    host.run("ip", "link", "delete", name)
    assert process.wait(5) == 0
    assert not socket_of(name).exists()


def test_ends_when_its_socket_file_is_removed(lab: Lab) -> None:
    host, name = lab.host(), lab.interface()
    process = host.spawn(*DEVICE, "-f", name)
    until(lambda: f"wg set {name}" in process.log, "started")
    socket_of(name).unlink()
    assert process.wait(5) == 0
    assert name not in host.links()


@pytest.mark.parametrize("foreground", [[], ["-f"]])
def test_name_in_use_is_said_and_its_owner_untouched(lab: Lab, foreground: list[str]) -> None:
    host, name = lab.host(), lab.interface()
    pid = start(host, name)
    done = host.attempt(*DEVICE, *foreground, name, timeout_s=20)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"wgengine: {name}: ")
    assert done.stderr.count("\n") == 1
    assert not ended(pid)
    assert host.run("wg", "show", name, "listen-port")
    assert name in host.links()


def test_socket_in_use_is_said_and_its_owner_untouched(lab: Lab) -> None:
    """The same name in another network namespace: the interface would be free, the socket's path is not."""
    first, second, name = lab.host(), lab.host(), lab.interface()
    start(first, name)
    done = second.attempt(*DEVICE, name, timeout_s=20)
    assert done.returncode == 1
    assert "another process serves this interface" in done.stderr
    assert name not in second.links()
    assert first.run("wg", "show", name, "listen-port")


@pytest.mark.parametrize("name", ["lo", "u0"])
def test_interface_of_another_kind_is_not_taken(lab: Lab, name: str) -> None:
    host, _ = lab.pair()
    done = host.attempt(*DEVICE, "-f", name, timeout_s=20)
    assert done.returncode == 1
    assert "exists already" in done.stderr


@pytest.mark.parametrize("foreground", [[], ["-f"]])
def test_no_privilege_is_exit_3_and_names_what_helps(lab: Lab, foreground: list[str]) -> None:
    host, name = lab.host(), lab.interface()
    done = host.attempt("setpriv", "--bounding-set=-all", "--inh-caps=-all", *DEVICE, *foreground, name, timeout_s=20)
    assert done.returncode == 3, done.stderr
    assert "--cap-add NET_ADMIN --device /dev/net/tun" in done.stderr
    assert "unshare -Urn" in done.stderr
    assert done.stderr.count("\n") == 1


def test_adopts_a_tun_that_someone_else_made(lab: Lab) -> None:
    """WG_TUN_FD: the name is the TUN's own, whatever the command line says."""
    import fcntl
    import struct

    host, name = lab.host(), lab.interface()

    def make() -> int:
        tun = os.open("/dev/net/tun", os.O_RDWR)
        flags = 0x0001 | 0x1000 | 0x4000  # IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
        fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", name.encode(), flags))
        return tun

    tun = host.call(make)
    process = host.spawn(*DEVICE, "-f", "given", env={"WG_TUN_FD": str(tun)}, pass_fds=[tun])
    os.close(tun)
    until(lambda: f"wg set {name}" in process.log, f"it serves the TUN it was given; it says: {process.log}")
    assert host.run("wg", "show", name).startswith(f"interface: {name}")
    assert process.stop() == 0
    assert name not in host.links()


@pytest.mark.parametrize("foreground", [[], ["-f"]])
def test_descriptor_that_is_no_tun_is_refused(lab: Lab, foreground: list[str]) -> None:
    host, name = lab.host(), lab.interface()
    done = host.attempt("env", "WG_TUN_FD=77", *DEVICE, *foreground, name, timeout_s=20)
    assert done.returncode == 1
    assert "WG_TUN_FD=77" in done.stderr
    assert done.stderr.count("\n") == 1


def test_serves_a_uapi_socket_that_someone_else_bound(lab: Lab) -> None:
    host, name = lab.host(), lab.interface()
    socket_of(name).parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_of(name)))
        listener.listen()
        descriptor = listener.fileno()
        process = host.spawn(*DEVICE, "-f", name, env={"WG_UAPI_FD": str(descriptor)}, pass_fds=[descriptor])
        until(lambda: f"wg set {name}" in process.log, "started")
    assert host.run("wg", "show", name).startswith(f"interface: {name}")
    assert process.stop() == 0
    socket_of(name).unlink(missing_ok=True)


def test_log_level_verbose_tells_events_and_silent_nothing(lab: Lab) -> None:
    host, loud, quiet = lab.host(), lab.interface(), lab.interface()
    told = host.spawn(*DEVICE, "-f", loud, env={"LOG_LEVEL": "verbose"})
    untold = host.spawn(*DEVICE, "-f", quiet, env={"LOG_LEVEL": "silent"})
    until(lambda: {loud, quiet} <= host.links() and socket_of(quiet).exists() and "wg set" in told.log, "started")
    for name in (loud, quiet):
        host.run("ip", "link", "set", name, "up")
    until(lambda: "link changed up=True" in told.log, "the event is told")
    assert told.stop() == untold.stop() == 0
    assert "SIGTERM" in told.log
    assert untold.log == ""


def test_usr1_switches_offloads_off(lab: Lab) -> None:
    host, name = lab.host(), lab.interface()
    process = host.spawn(*DEVICE, "-f", name)
    until(lambda: f"wg set {name}" in process.log, "started")

    def segmentation() -> str:
        said = host.run("ethtool", "-k", name)
        return next(line.split()[1] for line in said.splitlines() if line.startswith("tcp-segmentation-offload"))

    assert segmentation() == "on"
    process.send_signal(signal.SIGUSR1)
    until(lambda: "every offload is switched off" in process.log, "it says so")
    assert segmentation() == "off"
    assert host.run("wg", "show", name, "listen-port")
    assert process.stop() == 0


def test_is_idle_when_nothing_happens(lab: Lab) -> None:
    host, name = lab.host(), lab.interface()
    process = host.spawn(*DEVICE, "-f", name)
    until(lambda: f"wg set {name}" in process.log, "started")
    host.run("ip", "link", "set", name, "up")
    before = process.cpu_s
    time.sleep(2)
    assert process.cpu_s - before <= 0.1  # a busy loop would take 2
    assert process.stop() == 0
