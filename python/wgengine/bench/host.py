"""A host on this machine: a network namespace, gone with the process that made it.

The namespaces have no names. Each is held by one sleeping process that the kernel kills when the benchmark ends, in
whatever way; with the last process in it a namespace goes, and with it the veth, the TUN devices and the routes. A
tmpfs over /var/run hides the UAPI sockets in the same way, so even `kill -9` leaves nothing behind.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

PROGRAMS: Mapping[str, str] = {
    "ip": "iproute2",
    "ethtool": "ethtool",
    "iperf3": "iperf3",
    "ping": "iputils-ping",
    "wg": "wireguard-tools",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
}
"""What must be installed, and the Debian package that has it."""

_ONLY_WITH_PARENT = 'test "$PPID" = "$0" && exec "$@"'
_HOLD = (
    'set -e; mount -t tmpfs tmpfs "$(readlink -f /var/run)"; mount -t sysfs sysfs /sys;'
    " ip link set lo up; echo ready; exec sleep infinity"
)


class HostError(Exception):
    """A host, a tunnel or a load could not be set up; the message names the command and what it said."""


def _dies_with_us(*words: str) -> list[str]:
    """The command with the kernel told to kill it when the thread that starts it is gone.

    One that was gone before the kernel was told would go unnoticed, so the child looks who its parent is.
    """
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", _ONLY_WITH_PARENT, str(os.getpid()), *words]


def missing_programs() -> dict[str, str]:
    """Returns the needed programs that are not installed, with their Debian packages."""
    return {program: package for program, package in PROGRAMS.items() if shutil.which(program) is None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What an interface has carried, from the side of the kernel."""

    rx_bytes: int
    rx_packets: int
    tx_bytes: int
    tx_packets: int
    tx_dropped: int

    def __sub__(self, earlier: Self) -> Self:
        return type(self)(
            rx_bytes=self.rx_bytes - earlier.rx_bytes,
            rx_packets=self.rx_packets - earlier.rx_packets,
            tx_bytes=self.tx_bytes - earlier.tx_bytes,
            tx_packets=self.tx_packets - earlier.tx_packets,
            tx_dropped=self.tx_dropped - earlier.tx_dropped,
        )


def parse_counters(proc_net_dev: str, interface: str) -> Counters:
    """Reads one interface's line of /proc/net/dev."""
    for line in proc_net_dev.splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == interface:
            n = [int(word) for word in rest.split()]
            return Counters(rx_bytes=n[0], rx_packets=n[1], tx_bytes=n[8], tx_packets=n[9], tx_dropped=n[11])
    raise HostError(f"interface {interface} is gone")


class Process:
    """A program that runs on a host, with everything it started itself."""

    def __init__(self, popen: subprocess.Popen[bytes], log: IO[bytes], words: tuple[str, ...]) -> None:
        self._popen = popen
        self._log = log
        self._words = words

    @property
    def pid(self) -> int:
        """Of the program itself: what enters the namespace replaces itself by it."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def complaint(self) -> str:
        """What it was, how it ended and the last line it wrote."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
        state = "still runs" if self.running else f"ended with {self._popen.returncode}"
        return f"{' '.join(self._words)} {state}: {last}"

    def cpu_seconds(self) -> float:
        """User and system time of the process and all it started, ended children included."""
        ticks = sum(sum(int(word) for word in stat[11:15]) for stat in self._session())
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_rss(self) -> int:
        """The most memory, in bytes, that was resident at a time."""
        return self._memory("VmHWM")

    def _memory(self, row: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{row}:"))

    def _session(self) -> Iterator[list[str]]:
        """Yields /proc/PID/stat from its third field on, of each process in our session (its id is our pid)."""
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                fields = (directory / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # ended while we looked
            if int(fields[3]) == self._popen.pid:
                yield fields

    def rss(self) -> int:
        """Bytes of memory that are resident now."""
        return self._memory("VmRSS")

    def wakeups(self) -> int:
        """How often its threads have gone to sleep and been woken so far."""
        status = (path.read_text() for path in Path(f"/proc/{self.pid}/task").glob("*/status"))
        key = "voluntary_ctxt_switches:"
        return sum(int(line.split()[1]) for text in status for line in text.splitlines() if line.startswith(key))

    def result(self, *, seconds: float) -> str:
        """Everything it said, once it ended well.

        Raises:
            HostError: when it fails or takes longer than ``seconds``.
        """
        try:
            code = self._popen.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise HostError(f"{' '.join(self._words)}: not done after {seconds:g} s") from None
        if code:
            raise HostError(self.complaint())
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def stop(self) -> None:
        """Ends it, politely at first."""
        self._signal(signal.SIGTERM)
        try:
            self._popen.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._popen.wait()
        self._log.close()

    def _signal(self, number: signal.Signals) -> None:
        """Signals the whole session, for the command may be a wrapper that passes nothing on."""
        try:
            os.killpg(self._popen.pid, number)
        except ProcessLookupError:
            pass  # all of it has ended


class Host:
    """One network namespace."""

    def __init__(self, holder: subprocess.Popen[str], address: str, inner: str) -> None:
        self.pid = holder.pid
        self.address = address
        self.inner = inner

    def _enter(self, words: tuple[str, ...]) -> list[str]:
        return _dies_with_us("nsenter", "--target", str(self.pid), "--net", "--mount", "--", *words)

    def run(self, *words: str, stdin: str | None = None, timeout: float = 10.0) -> str:
        """Runs a command to its end and returns its standard output.

        Raises:
            HostError: when it fails or takes longer than ``timeout`` seconds.
        """
        try:
            done = subprocess.run(
                self._enter(words),
                input=stdin or "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HostError(f"{' '.join(words)}: not done after {timeout:g} s") from None
        if done.returncode:
            said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
            raise HostError(f"{' '.join(words)}: {said.splitlines()[-1]}")
        return done.stdout

    @contextmanager
    def spawn(self, *words: str, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
        """Runs a program until the block is left."""
        log = tempfile.TemporaryFile()  # noqa: SIM115, closed by Process.stop
        popen = subprocess.Popen(
            self._enter(words),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        process = Process(popen, log, words)
        try:
            yield process
        finally:
            process.stop()

    def counters(self, interface: str) -> Counters:
        """What ``interface`` has carried since it was made."""
        return parse_counters(Path(f"/proc/{self.pid}/net/dev").read_text(), interface)

    def listens_on(self, port: int) -> bool:
        """Whether a TCP socket of this host listens on ``port``."""
        listening, suffix = "0A", f":{port:04X}"
        lines = [
            line.split()
            for table in ("tcp", "tcp6")
            if (path := Path(f"/proc/{self.pid}/net/{table}")).exists()
            for line in path.read_text().splitlines()[1:]
        ]
        return any(words[1].endswith(suffix) and words[3] == listening for words in lines)


def wait_until(ready: Callable[[], bool], *, seconds: float, what: Callable[[], str]) -> None:
    """Waits until ``ready()``, at most ``seconds``.

    Raises:
        HostError: with ``what()``, when time is up.
    """
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise HostError(what())
        time.sleep(0.05)


@contextmanager
def host(address: str, inner: str) -> Iterator[Host]:
    command = _dies_with_us("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _HOLD)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stderr is not None
            if holder.stdout.readline() != "ready\n":
                raise HostError(f"cannot make a network namespace: {holder.stderr.read().strip()}")
            yield Host(holder, address, inner)
        finally:
            holder.kill()
