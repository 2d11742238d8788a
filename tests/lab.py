"""The lab: hosts made of network namespaces, joined by veth, with WireGuard devices of several programs in them.

Everything a lab makes bears the number of this process, so that runs beside each other do not meet; everything is
removed in any outcome, and what a killed run left is swept by the next one. The machine's own namespace is only read.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from peers import build, load
from peers.device import Device, Program
from peers.echo import answered
from peers.process import LabError, Process, run, until

__all__ = [
    "Host",
    "Lab",
    "LabError",
    "Process",
    "Snapshot",
    "dut",
    "is_wgengine",
    "lacking",
    "need",
    "need_load",
    "opened",
    "program",
    "run",
    "sweep",
    "until",
]

T = TypeVar("T")

WATCHED = Path(__file__).with_name("peers") / "watched.py"
WITHOUT = WATCHED.with_name("without.py")
SOCKETS = Path("/var/run/wireguard")
CONTROL = Path("/run/wgengine")
TOOLS = ("ip", "nft", "ping", "wg", "iperf3", "setpriv")
CLONE_NEWNET = 0x40000000
PREFIX = f"wge-{os.getpid()}-"  # of namespaces
TAG = f"{os.getpid():x}"  # in names of interfaces, which have 15 letters

_serial = itertools.count()


def need(met: object, reason: str) -> None:
    """A missing prerequisite skips on a user's machine and fails where CI is set: nothing is lost in silence."""
    if met:
        return
    if os.environ.get("CI"):
        pytest.fail(f"missing on a CI machine: {reason}", pytrace=False)
    pytest.skip(reason)


def _plain_ping(options: Sequence[str]) -> dict[str, Any] | None:
    """What `answered` takes for these options of ping; `None` where there is one that it does not know."""
    plain: dict[str, Any] = {"interval_s": 1.0}
    words = iter(options)
    for option in words:
        match option:
            case "-f":
                plain["interval_s"] = None
            case "-i":
                plain["interval_s"] = float(next(words))
            case "-s":
                plain["size"] = int(next(words))
            case "-W":
                plain["wait_s"] = float(next(words))
            case _:
                return None
    return plain


@dataclass(slots=True, kw_only=True)
class Host:
    """One machine: a network namespace."""

    lab: Lab
    name: str
    ipv4: str = ""
    ipv6: str = ""
    link: str = "u0"

    def _inside(self, args: Sequence[str | Path]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *map(str, args)]

    def run(self, *args: str | Path, stdin: str | None = None, timeout_s: float = 60, check: bool = True) -> str:
        """Standard output of a command in this namespace."""
        return run(self._inside(args), stdin=stdin, timeout_s=timeout_s, check=check)

    def attempt(
        self, *args: str | Path, stdin: str | None = None, timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """A command whose failure is no error of the test."""
        return subprocess.run(self._inside(args), input=stdin, capture_output=True, text=True, timeout=timeout_s)

    def spawn(self, *args: str | Path, env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()) -> Process:
        """Starts a process; the lab ends it by its id. Should this very process be killed, the kernel ends it."""
        log_path = self.lab.scratch / f"{next(_serial)}-{Path(str(args[0])).name}.log"
        with log_path.open("wb") as log:
            popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *self._inside(args)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | (env or {}),
                start_new_session=True,
                pass_fds=pass_fds,
            )
        process = Process(name=f"{' '.join(map(str, args))} in {self.name}", popen=popen, log_path=log_path)
        self.lab.processes.append(process)
        return process

    def call(self, function: Callable[[], T]) -> T:
        """Runs a function of this process in this namespace, on a thread of its own. Sockets it makes stay there."""
        answers: list[T] = []
        faults: list[BaseException] = []

        def body() -> None:
            try:
                with Path(f"/run/netns/{self.name}").open() as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), f"setns into {self.name}")
                answers.append(function())
            except BaseException as fault:
                faults.append(fault)

        thread = threading.Thread(target=body, name=f"in {self.name}")
        thread.start()
        thread.join()
        if faults:
            raise faults[0]
        return answers[0]

    def listening(self, port: int) -> bool:
        """Whether some TCP socket of this host listens on the port."""
        tables = self.run("cat", "/proc/net/tcp", "/proc/net/tcp6")
        return re.search(rf":{port:04X} [0-9A-F:]+ 0A ", tables) is not None

    def ping(self, address: str, *options: str, count: int = 1, timeout_s: float = 30, wait_s: int = 5) -> int:
        """How many of `count` echo requests were answered. The options are those of iputils' ping."""
        if count > 1 and (plain := _plain_ping(options)) is not None:
            return self.call(lambda: answered(address, count, **{"wait_s": wait_s, **plain}))
        said = self.attempt("ping", "-n", "-c", str(count), "-W", str(wait_s), *options, address, timeout_s=timeout_s)
        found = re.search(r"(\d+) received", said.stdout)
        if not found:
            raise LabError(f"ping {' '.join(options)} {address}: {said.stderr or said.stdout}")
        return int(found[1])

    def nft(self, ruleset: str) -> None:
        self.run("nft", "-f", "-", stdin=ruleset)

    def counted(self, name: str) -> int:
        """The packets that the nftables counter `name` of table `inet lab` has seen."""
        said = self.run("nft", "list", "counter", "inet", "lab", name)
        return int(re.search(r"packets (\d+)", said)[1])  # type: ignore[index]

    def tcp_checksum_errors(self) -> int:
        """`TcpInCsumErrors` of this host, as nstat names it."""
        names, values = [line.split() for line in self.run("cat", "/proc/net/snmp").splitlines() if line[:4] == "Tcp:"]
        return int(dict(zip(names, values, strict=True))["InCsumErrors"])

    def udp_buffer_errors(self) -> int:
        """Datagrams that sockets of this host had no room for (`UdpRcvbufErrors` and `Udp6RcvbufErrors` of nstat)."""
        names, values = [line.split() for line in self.run("cat", "/proc/net/snmp").splitlines() if line[:4] == "Udp:"]
        over_ipv6 = re.search(r"^Udp6RcvbufErrors\s+(\d+)", self.run("cat", "/proc/net/snmp6"), re.MULTILINE)
        return int(dict(zip(names, values, strict=True))["RcvbufErrors"]) + (int(over_ipv6[1]) if over_ipv6 else 0)

    def cut_batches(self) -> None:
        """What leaves as one block of many datagrams is cut before the wire, so that each is seen by itself."""
        need(shutil.which("ethtool"), "ethtool is missing: apt-get install ethtool")
        self.run("ethtool", "-K", self.link, "tx-udp-segmentation", "off")

    def links(self) -> set[str]:
        return set(re.findall(r"^\d+: ([^:@]+)", self.run("ip", "-o", "link"), re.MULTILINE))

    def pids(self) -> set[int]:
        return {int(pid) for pid in run(["ip", "netns", "pids", self.name], check=False).split()}

    def snapshot(self) -> Snapshot:
        return Snapshot.of(lambda *args: self.run(*args, check=False))

    def assert_clean(self, before: Snapshot, patience_s: float = 2) -> None:
        """Nothing here differs from `before`; IPv6 takes a moment to forget the routes of a link that is gone."""
        with contextlib.suppress(LabError):
            until(lambda: self.snapshot() == before, "clean", timeout_s=patience_s)
        before.assert_same(self.snapshot(), self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a program may leave behind in one network namespace."""

    links: frozenset[str]
    addresses: frozenset[str]
    rules: frozenset[str]
    routes: frozenset[str]
    nft: str

    @classmethod
    def of(cls, say: Callable[..., str]) -> Snapshot:
        def lines(*args: str) -> frozenset[str]:
            return frozenset(
                re.sub(r"\s+(expires|valid_lft|preferred_lft) \S+", "", x).strip() for x in say(*args).splitlines()
            )

        return cls(
            links=frozenset(re.findall(r"^\d+: ([^:@]+)", say("ip", "-o", "link"), re.MULTILINE)),
            addresses=lines("ip", "-o", "address"),
            rules=lines("ip", "rule") | lines("ip", "-6", "rule"),
            routes=lines("ip", "route", "show", "table", "all") | lines("ip", "-6", "route", "show", "table", "all"),
            nft=say("nft", "list", "ruleset"),
        )

    def assert_same(self, after: Snapshot, where: str) -> None:
        for name in ("links", "addresses", "rules", "routes"):
            was, now = getattr(self, name), getattr(after, name)
            assert now == was, f"{where}: {name} left behind {sorted(now - was)}, lost {sorted(was - now)}"
        assert after.nft == self.nft, f"{where}: nftables changed to {after.nft}"


@dataclass(slots=True, kw_only=True)
class Lab:
    """Hosts, links, devices and processes of one test, or of one module that shares them."""

    scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix=PREFIX)))
    hosts: list[Host] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)

    def host(self) -> Host:
        host = Host(lab=self, name=f"{PREFIX}{next(_serial)}")
        run(["ip", "netns", "add", host.name])
        self.hosts.append(host)
        host.run("ip", "link", "set", "lo", "up")
        return host

    def join(self, a: Host, b: Host, *, link: str = "u0", subnet: int = 0) -> None:
        """A veth between two hosts, with IPv4 and IPv6 addresses at both ends (RFC 5737, RFC 3849)."""
        run(["ip", "link", "add", link, "netns", a.name, "type", "veth", "peer", "name", link, "netns", b.name])
        for number, host in enumerate((a, b), 1):
            ipv4 = f"192.0.2.{subnet + number}"
            ipv6 = f"2001:db8{f':{subnet:x}' if subnet else ''}::{number}"
            host.run("ip", "address", "add", f"{ipv4}/{24 if not subnet else 28}", "dev", link)
            host.run("ip", "address", "add", f"{ipv6}/64", "dev", link, "nodad")
            # no link-local address, which would come some seconds later and look like something left behind
            host.run("ip", "link", "set", link, "addrgenmode", "none", "up")
            host.ipv4, host.ipv6, host.link = host.ipv4 or ipv4, host.ipv6 or ipv6, host.link or link

    def pair(self) -> tuple[Host, Host]:
        """Two hosts on one wire: 192.0.2.1 and .2, 2001:db8::1 and ::2."""
        a, b = self.host(), self.host()
        self.join(a, b)
        return a, b

    def remove(self, host: Host) -> None:
        """Deletes a host's name; the namespace lasts as long as a process is in it."""
        run(["ip", "netns", "delete", host.name])
        self.hosts.remove(host)

    def interface(self) -> str:
        """A fresh interface name. UAPI sockets are files, so names must differ between namespaces too."""
        return f"wg{TAG}x{next(_serial)}"

    def device(self, program: Program, host: Host, *, name: str = "", **options: Any) -> Device:
        device = Device(program=program, host=host, name=name or self.interface(), **options)
        self.devices.append(device)
        device.start()
        return device

    def wgengine(self, host: Host, **options: Any) -> Device:
        """The device under test: ours, or the one that WGENGINE_DUT names (to know that the tests themselves hold)."""
        return self.device(dut(), host, **options)

    def watched(self, host: Host, *prefix: str) -> Device:
        """A device of ours whose drops, counters, offloads and events can be read; `prefix` runs it."""
        ours = Program(name="wgengine, watched", command=(*prefix, sys.executable, str(WATCHED)))
        name = self.interface()
        return self.device(ours, host, name=name, env={"WATCHED": str(self.scratch / name)})

    def wireguard_go(self, host: Host, **options: Any) -> Device:
        return self.device(program("wireguard-go"), host, **options)

    def tailscale_wireguard_go(self, host: Host, **options: Any) -> Device:
        return self.device(program("tailscale-wireguard-go"), host, **options)

    def boringtun(self, host: Host, **options: Any) -> Device:
        return self.device(program("boringtun-cli"), host, **options)

    @property
    def logs(self) -> Iterator[tuple[str, str]]:
        return ((process.name, process.log) for process in self.processes if process.log)

    def close(self) -> None:
        """Ends what still runs, newest first, removes every namespace, and says what a device of ours left behind."""
        left: list[str] = []
        untidy = [device.process for device in self.devices if not device.program.tidy]
        for process in reversed(self.processes):
            try:
                process.stop()
            except LabError as late:
                left += [str(late)] if process not in untidy else []
        for host in self.hosts:
            _end_namespace(host.name)
        for device in self.devices:
            for path in (device.socket_path, CONTROL / f"{device.name}.sock"):
                if path.exists():
                    path.unlink()
                    if device.program.tidy and not device.killed:
                        left.append(f"{path} of {device.program.name}")
        shutil.rmtree(self.scratch, ignore_errors=True)
        assert not left, f"left behind: {'; '.join(left)}"


def _end_namespace(name: str) -> None:
    """Ends the processes in a namespace of ours (daemons too, which nobody waits for), then the namespace."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pids = run(["ip", "netns", "pids", name], check=False).split()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), number)
        with contextlib.suppress(LabError):
            until(lambda: not run(["ip", "netns", "pids", name], check=False).split(), "processes ended", timeout_s=3)
            break
    run(["ip", "netns", "delete", name], check=False)


def program(name: str) -> Program:
    """One of the real peers that tests/peers/build.py builds."""
    path = build.path(name)
    need(path.exists(), f"{name} is not built: python tests/peers/build.py {name}")
    if name == "boringtun-cli":
        # it would give up root, and then could not set a mark
        return Program(
            name=name, command=(str(path), "-f", "--disable-drop-privileges"), env={"WG_SUDO": "true"}, tidy=False
        )
    # Tailscale's learns endpoints from the engine around it, never from packets
    return Program(name=name, command=(str(path), "-f"), roams=name != "tailscale-wireguard-go")


def dut() -> Program:
    chosen = os.environ.get("WGENGINE_DUT", "wgengine")
    if chosen != "wgengine":
        return program(chosen)
    path = Path(sys.executable).parent / "wgengine"
    need(path.exists(), f"{path} is missing: make build")
    return Program(name="wgengine", command=(str(path), "device", "-f"))


def need_load() -> None:
    """Tests of floods and numbers need the generator."""
    need(load.BINARY.exists(), f"{load.BINARY} is missing: make load")


def lacking(what: str) -> Program:
    """The device under test on a machine that lacks a family of sockets or the TUN (see without.py)."""
    ours = dut()
    launcher = (sys.executable, str(WITHOUT), what)
    return Program(name=f"{ours.name} without {what}", command=(*launcher, *ours.command), env=ours.env)


def is_wgengine() -> bool:
    return os.environ.get("WGENGINE_DUT", "wgengine") == "wgengine"


@contextlib.contextmanager
def opened() -> Iterator[Lab]:
    """A lab for as long as the block runs; afterwards the machine is as before."""
    need(sys.platform == "linux", "network namespaces are Linux's")
    need(os.geteuid() == 0, "network namespaces need root")
    need(os.path.exists("/dev/net/tun"), "/dev/net/tun is missing")
    for tool in TOOLS:
        need(
            shutil.which(tool),
            f"{tool} is missing: apt-get install iproute2 nftables iputils-ping wireguard-tools iperf3",
        )
    before = machine()
    lab = Lab()
    try:
        yield lab
    finally:
        lab.close()
    assert_machine_clean(before)


def machine() -> Snapshot:
    """The machine's own namespace, which no test may change."""
    return Snapshot.of(lambda *args: run(args, check=False))


def assert_machine_clean(before: Snapshot) -> None:
    """Rules and routes over links that were there before are the same; of links and sockets, none bears our tag.

    (Other runs may work on this machine: what bears another process's number is theirs.)
    """
    after = machine()
    assert after.rules == before.rules, f"rules changed: {sorted(after.rules ^ before.rules)}"
    lasting = before.links & after.links

    def settled(routes: frozenset[str]) -> set[str]:
        return {route for route in routes if not (dev := re.search(r"\bdev (\S+)", route)) or dev[1] in lasting}

    assert settled(after.routes) == settled(before.routes), f"routes changed: {sorted(after.routes ^ before.routes)}"
    ours = [link for link in after.links if link.startswith(f"wg{TAG}x")]
    ours += [str(path) for folder in (SOCKETS, CONTROL) for path in folder.glob(f"wg{TAG}x*")]
    ours += [line for line in run(["ip", "netns", "list"]).splitlines() if line.startswith(PREFIX)]
    assert not ours, f"left on the machine: {ours}"


def sweep() -> None:
    """Removes namespaces, sockets and files of labs whose process is gone (it was killed before it could)."""
    for line in run(["ip", "netns", "list"], check=False).splitlines():
        found = re.match(r"wge-(\d+)-\d+", line)
        if found and not Path(f"/proc/{found[1]}").exists():
            _end_namespace(found[0])
    for path in (*SOCKETS.glob("wg*x*.sock"), *CONTROL.glob("wg*x*.sock")):
        found = re.fullmatch(r"wg([0-9a-f]+)x\d+\.sock", path.name)
        if found and not Path(f"/proc/{int(found[1], 16)}").exists():
            path.unlink(missing_ok=True)
    for path in Path(tempfile.gettempdir()).glob("wge-*-*"):
        found = re.match(r"wge-(\d+)-", path.name)
        if found and not Path(f"/proc/{found[1]}").exists():
            shutil.rmtree(path, ignore_errors=True)
