"""What goes through the demo's tunnel: pings, and as many bytes as fit into a few seconds.

`KernelTraffic` uses sockets over a real TUN. `MemoryTraffic` makes the packets itself and hands them to an in-memory
device. Both block, so they run in a thread.
"""

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from wgengine.cli import demo_packets as packets

NOTE_EVERY: Final = 0.1  # seconds between two reports of progress
PING_TIMEOUT: Final = 1.0
PING_EVERY: Final = 0.02
_TCP_PORT: Final = 5001
_CHUNK: Final = 1 << 20
_ACKNOWLEDGE_EVERY: Final = 32  # datagrams; less than one burst, so that even the smallest window opens again
_ACKNOWLEDGED_WITHIN: Final = 0.02
_SILENCE: Final = 3.0


class Transfer(NamedTuple):
    """A bulk transfer as its receiver saw it."""

    received: int  # bytes
    seconds: float
    lost: int = 0  # datagrams; TCP loses none


Note = Callable[[int, float], None]  # bytes received until now, seconds


class Traffic(Protocol):
    """Both ends have one; pings and bytes go from one `Traffic` to the other."""

    def ping(self, count: int) -> list[float | None]:
        """Round trips in seconds, `None` for one that never came back."""
        ...

    def send(self, seconds: float) -> None:
        """Sends as fast as it can."""
        ...

    def receive(self, note: Note) -> Transfer:
        """Counts what the other end sends until it stops."""
        ...

    def close(self) -> None:
        """Lets go of sockets and threads."""
        ...


class KernelTraffic:
    """Traffic of the kernel's own network stack over a TUN. Needs CAP_NET_RAW, as the lab's namespaces give."""

    def __init__(self, own: str, other: str) -> None:
        self._other = other
        self._listener = socket.create_server((own, _TCP_PORT))
        self._listener.settimeout(10)

    def ping(self, count: int) -> list[float | None]:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
            raw.connect((self._other, 0))
            return [self._ping_once(raw, sequence) for sequence in range(count)]

    def _ping_once(self, raw: socket.socket, sequence: int) -> float | None:
        identifier = os.getpid() & 0xFFFF
        request = packets.Echo(packets.ECHO_REQUEST, identifier, sequence, bytes(56))
        sent = time.perf_counter()
        raw.send(packets.icmp(request))
        while (left := sent + PING_TIMEOUT - time.perf_counter()) > 0:
            raw.settimeout(left)
            try:
                answer = packets.parse_icmp(raw.recv(2048))
            except TimeoutError:
                break
            took = time.perf_counter() - sent
            if answer is not None and answer[:3] == (packets.ECHO_REPLY, identifier, sequence):
                time.sleep(PING_EVERY)
                return took
        return None

    def send(self, seconds: float) -> None:
        chunk = memoryview(bytes(_CHUNK))
        with socket.create_connection((self._other, _TCP_PORT), timeout=10) as connection:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                connection.sendall(chunk)

    def receive(self, note: Note) -> Transfer:
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(10)
            meter = _Meter(note)
            buffer = bytearray(_CHUNK)
            while size := connection.recv_into(buffer):
                meter.add(size)
        return Transfer(meter.received, meter.seconds)

    def close(self) -> None:
        self._listener.close()


class MemoryTraffic:
    """Traffic of our own making, through the far end of an in-memory device; a thread of it answers pings."""

    def __init__(self, far_end: int, own: str, other: str, mtu: int) -> None:
        self._socket = socket.socket(fileno=os.dup(far_end))
        self._socket.setblocking(False)
        self._addresses = socket.inet_aton(own), socket.inet_aton(other)
        self._mtu = mtu
        self._changed = threading.Condition()  # guards the three below
        self._echo: packets.Echo | None = None
        self._window: Window | None = None
        self._tally: _Tally | None = None
        self._ending = False
        self._reader = threading.Thread(target=self._read, name="wgengine-demo-reader", daemon=True)
        self._reader.start()

    def ping(self, count: int) -> list[float | None]:
        return [self._ping_once(sequence) for sequence in range(count)]

    def _ping_once(self, sequence: int) -> float | None:
        request = packets.Echo(packets.ECHO_REQUEST, os.getpid() & 0xFFFF, sequence, bytes(56))
        wanted = request._replace(kind=packets.ECHO_REPLY)
        sent = time.perf_counter()
        self._write(packets.echo(*self._addresses, request))
        with self._changed:
            came = self._changed.wait_for(lambda: self._echo == wanted, PING_TIMEOUT)
        took = time.perf_counter() - sent
        if not came:
            return None
        time.sleep(PING_EVERY)
        return took

    def send(self, seconds: float) -> None:
        burst = packets.Burst(*self._addresses, self._mtu)
        window = Window(burst.count)
        with self._changed:
            self._window = window
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self._write(burst.stamped(window.sent))
            with self._changed:
                window.sent += burst.count
                if not self._changed.wait_for(window.is_open, _ACKNOWLEDGED_WITHIN):
                    window.timed_out()
        for _ in range(3):  # the end may get lost too
            time.sleep(_ACKNOWLEDGED_WITHIN)
            self._write(packets.datagram(*self._addresses, packets.END, bytes(8)))

    def receive(self, note: Note) -> Transfer:
        tally = _Tally(note)
        with self._changed:
            self._tally = tally
        while not tally.ended.wait(timeout=1) and not tally.meter.is_silent():
            pass
        with self._changed:
            self._tally = None
        return Transfer(tally.meter.received, tally.meter.seconds, tally.lost)

    def close(self) -> None:
        self._ending = True
        self._reader.join(timeout=2)
        self._socket.close()

    def _write(self, message: bytes | bytearray) -> None:
        while not self._ending:
            try:
                self._socket.send(message)
                return
            except BlockingIOError:
                select.select([], [self._socket], [], 0.5)

    def _answer(self, message: bytes) -> None:
        """Writes from the reader's thread, which must go on reading: with no room the answer is lost."""
        try:
            self._socket.send(message)
        except BlockingIOError:
            pass

    def _read(self) -> None:
        buffer = bytearray(1 << 17)
        view = memoryview(buffer)
        while not self._ending:
            if not select.select([self._socket], [], [], 0.2)[0]:
                continue
            size = self._socket.recv_into(buffer)
            if size == 0:
                return
            if packets.is_udp(view[:size]):
                self._take_udp(view[:size])
            elif (echo := packets.parse_icmp(bytes(view[packets.VNET.size : size]))) is not None:
                self._take_echo(echo)

    def _take_echo(self, echo: packets.Echo) -> None:
        if echo.kind == packets.ECHO_REQUEST:
            self._answer(packets.echo(*self._addresses, echo._replace(kind=packets.ECHO_REPLY)))
            return
        with self._changed:
            self._echo = echo
            self._changed.notify_all()

    def _take_udp(self, message: memoryview) -> None:
        datagrams = packets.parse_datagrams(message)
        with self._changed:
            window, tally = self._window, self._tally
            if datagrams.port == packets.ACKNOWLEDGE and window is not None:
                window.acknowledged(*packets.parse_acknowledgement(message))
                self._changed.notify_all()
        if tally is None:
            return
        if datagrams.port == packets.END:
            tally.ended.set()
        elif datagrams.port == packets.BULK and tally.add(datagrams):
            self._answer(packets.acknowledgement(*self._addresses, tally.highest, tally.lost))


class Window:
    """How many datagrams may be under way: one burst more per round trip, half after a loss, as TCP does it.

    UDP has no flow control of its own, and a sender without any would measure the kernel's receive buffer.
    """

    def __init__(self, burst: int) -> None:
        self.sent = 0
        self._burst = burst
        self._bursts = 4
        self._acknowledged = 0
        self._lost = 0
        self._grows_at = 0

    def is_open(self) -> bool:
        return self.sent - self._acknowledged < self._bursts * self._burst

    def acknowledged(self, highest: int, lost: int) -> None:
        """Takes what the receiver says: the number after the highest that came, and how many before it did not."""
        self._acknowledged = max(self._acknowledged, highest)
        if lost > self._lost:
            self._lost = lost
            self._bursts = max(self._bursts // 2, 2)
        elif highest >= self._grows_at:
            self._bursts = min(self._bursts + 1, 64)
            self._grows_at = self.sent

    def timed_out(self) -> None:
        """Nothing came back: whatever is under way counts as lost."""
        self._acknowledged = self.sent
        self._bursts = 2


class _Meter:
    """Counts bytes from the first one on, and tells how it goes ten times a second."""

    def __init__(self, note: Note) -> None:
        self.received = 0
        self.seconds = 0.0
        self._note = note
        self._first = self._latest = time.perf_counter()
        self._next_note = NOTE_EVERY

    def add(self, size: int) -> None:
        self._latest = time.perf_counter()
        if self.received == 0:
            self._first = self._latest
        self.received += size
        self.seconds = self._latest - self._first
        if self.seconds >= self._next_note:
            self._next_note = self.seconds + NOTE_EVERY
            self._note(self.received, self.seconds)

    def is_silent(self) -> bool:
        return time.perf_counter() - self._latest > _SILENCE


class _Tally:
    """What the receiver of bursts knows: bytes, and the datagrams that are missing."""

    def __init__(self, note: Note) -> None:
        self.meter = _Meter(note)
        self.ended = threading.Event()
        self.highest = 0
        self._count = 0
        self._unacknowledged = 0

    @property
    def lost(self) -> int:
        return self.highest - self._count

    def add(self, datagrams: packets.Datagrams) -> bool:
        """Counts them; true when it is time to acknowledge."""
        self.meter.add(datagrams.size)
        self.highest = max(self.highest, datagrams.stamp + datagrams.number)
        self._count += datagrams.number
        self._unacknowledged += datagrams.number
        if self._unacknowledged < _ACKNOWLEDGE_EVERY:
            return False
        self._unacknowledged = 0
        return True
