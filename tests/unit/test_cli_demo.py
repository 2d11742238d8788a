"""The demo: the packets it makes itself, its window, and the whole of it with in-memory devices."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import lab as labs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wgengine.cli import demo_packets as packets
from wgengine.cli.demo_traffic import Window

NEAR, FAR = socket.inet_aton("10.9.0.1"), socket.inet_aton("10.9.0.2")
DEMO = [sys.executable, "-m", "wgengine", "demo", "--memory", "--seconds", "0.5"]


def plain_sum(data: bytes) -> int:
    """The Internet checksum, slowly: one's complement sum of big-endian words (RFC 1071)."""
    total = 0
    for index in range(0, len(data), 2):
        total += int.from_bytes(data[index : index + 2].ljust(2, b"\0"))
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(st.binary(max_size=300))
def test_checksum_is_the_plain_sum(data: bytes) -> None:
    assert packets.checksum(data) in (plain_sum(data), plain_sum(data) % 0xFFFF)


def test_echo_has_valid_checksums_and_reads_back() -> None:
    sent = packets.Echo(packets.ECHO_REQUEST, 7, 42, b"odd")
    message = packets.echo(NEAR, FAR, sent)
    packet = message[packets.VNET.size :]
    assert message[: packets.VNET.size] == bytes(packets.VNET.size)
    assert plain_sum(packet[:20]) == 0xFFFF
    assert plain_sum(packet[20:]) == 0xFFFF
    assert packet[12:20] == NEAR + FAR
    assert packets.parse_icmp(packet) == sent


@given(st.binary(max_size=64))
def test_parse_icmp_survives_anything(packet: bytes) -> None:
    parsed = packets.parse_icmp(packet)
    assert parsed is None or packet[9] == 1


def test_burst_is_one_super_packet_of_stamped_datagrams() -> None:
    burst = packets.Burst(NEAR, FAR, 1420)
    message = bytes(burst.stamped(1000))
    flags, gso_type, header, step, start, offset = packets.VNET.unpack_from(message)
    packet = message[packets.VNET.size :]
    assert (flags, gso_type, header, start, offset) == (1, 5, 28, 20, 6)
    assert step == 1420 - 28
    assert len(packet) == 28 + step * burst.count <= 0xFFFF
    assert int.from_bytes(packet[2:4]) == len(packet)
    stamps = [struct.unpack_from("!Q", packet, 28 + index * step)[0] for index in range(burst.count)]
    assert stamps == list(range(1000, 1000 + burst.count))
    # with NEEDS_CSUM the field holds the sum over the pseudo-header alone
    assert int.from_bytes(packet[26:28]) == plain_sum(NEAR + FAR + struct.pack("!HH", 17, len(packet) - 20))
    assert packets.parse_datagrams(message) == (packets.BULK, 1000, burst.count, step * burst.count)


def test_acknowledgement_reads_back() -> None:
    message = packets.acknowledgement(NEAR, FAR, 1 << 40, 3)
    assert packets.is_udp(message)
    assert packets.parse_datagrams(message).port == packets.ACKNOWLEDGE
    assert packets.parse_acknowledgement(message) == (1 << 40, 3)


def test_window_grows_once_a_round_trip_and_halves_on_loss() -> None:
    window = Window(burst=10)
    sizes = []
    for _ in range(4):
        while window.is_open():
            window.sent += 10
        sizes.append(window.sent)
        window.acknowledged(window.sent, 0)
    assert [after - before for before, after in zip([0, *sizes], sizes, strict=False)] == [40, 50, 60, 70]
    window.acknowledged(window.sent, 5)
    room = window.sent
    while window.is_open():
        window.sent += 10
    assert window.sent - room == 40


def test_window_opens_again_when_nothing_comes_back() -> None:
    window = Window(burst=10)
    while window.is_open():
        window.sent += 10
    window.timed_out()
    assert window.is_open()


@pytest.fixture(scope="module")
def story() -> dict[str, object]:
    done = subprocess.run([*DEMO, "--json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_memory_demo_tells_the_whole_story(story: dict) -> None:
    assert story["devices"] == "memory"
    assert 0 < story["handshake_seconds"] < 2
    assert story["ping"]["received"] == story["ping"]["sent"] > 0
    assert 0 < story["ping"]["min"] <= story["ping"]["median"] <= story["ping"]["p99"] <= story["ping"]["max"]
    assert story["bulk"]["bytes"] > 1_000_000
    assert story["bulk"]["bits_per_second"] == pytest.approx(
        story["bulk"]["bytes"] * 8 / story["bulk"]["seconds"], rel=1e-6
    )
    assert story["seconds"] < 15


def test_memory_demo_shows_both_engines_and_what_they_moved(story: dict) -> None:
    near, far = story["engines"]
    assert near["peers"][0]["public_key"] == far["public_key"]
    assert far["peers"][0]["public_key"] == near["public_key"]
    assert near["peers"][0]["last_handshake"] == pytest.approx(time.time(), abs=60)
    assert far["peers"][0]["rx_bytes"] >= story["bulk"]["bytes"]
    assert '"private_key"' not in json.dumps(story)


def test_demo_in_a_pipe_prints_plain_lines() -> None:
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    for word in ("in-memory devices", "handshake", "median", "Gbit/s", "latest handshake", "nothing is left behind"):
        assert word in done.stdout


ROOT: list[str] = []
ROOT_OF_A_USER_NAMESPACE = ["unshare", "-Ur"]
ORDINARY_USER = ["unshare", "-U", "--map-user=1000", "--map-group=1000"]
NO_CAPABILITIES = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
NO_TUN = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /dev/net && exec "$@"', "sh"]


@pytest.mark.parametrize(
    ("who", "devices", "told"),
    [
        (ROOT, "tun", "TUN devices in two private network namespaces"),
        (ROOT_OF_A_USER_NAMESPACE, "tun", "TUN devices in two private network namespaces"),
        (ORDINARY_USER, "tun", "TUN devices in two private network namespaces of a user namespace"),
        (NO_CAPABILITIES, "memory", "no private network namespace: Operation not permitted"),
        (NO_TUN, "memory", "no TUN devices: /dev/net/tun: No such file or directory"),
    ],
    ids=["root", "root-of-a-user-namespace", "ordinary-user", "no-capabilities", "no-tun"],
)
def test_demo_uses_the_best_that_is_allowed_and_leaves_nothing(who: list[str], devices: str, told: str) -> None:
    with labs.opened():  # which looks at the machine before and after
        done = subprocess.run(
            [*who, *DEMO[:-3], "--seconds", "0.5", "--json"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        story = json.loads(done.stdout)
        assert story["devices"] == devices
        assert told in (story["kind"], *story["notes"])
        assert story["ping"]["received"] == story["ping"]["sent"]
        assert story["bulk"]["bytes"] > 1_000_000
        assert story["bulk"]["carrier"] == ("TCP" if devices == "tun" else "UDP")


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # dead, and not yet fetched by whoever inherited it


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ends_of_an_interrupted_demo_end_too(number: int) -> None:
    demo = subprocess.Popen([*DEMO[:-1], "30"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while len(ends := children(demo.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)  # well into the handshake or the transfer
        os.kill(demo.pid, number)
        _, complaint = demo.communicate(timeout=10)
        if number == signal.SIGINT:
            assert demo.returncode == 130
            assert complaint.strip() == "wgengine: interrupted"  # click ends the line of the ^C first
        while not all(gone(pid) for pid in ends):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        if demo.poll() is None:
            demo.kill()
            demo.wait()
