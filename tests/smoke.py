"""What must work wherever a wheel was installed: run by that environment's Python, which has nothing else of the tests.

python tests/smoke.py
Nothing is started as a process of its own, so that it also runs where the processor is emulated.
"""

import asyncio
import contextlib
import io
import ipaddress
import os
import select
import struct
import sys
import time
from collections.abc import Callable

import wgengine
import wgengine.sync

PLAIN = bytes(10)  # the virtio header of a packet that is complete as it is


def keys_keep_to_themselves() -> None:
    private = wgengine.PrivateKey.generate()
    again = wgengine.PrivateKey.from_base64(private.to_base64())
    assert again == private
    assert again.public_key == private.public_key
    assert private.to_base64() not in repr(private) + str(private)


def a_file_is_read_and_written() -> None:
    private, peer = wgengine.PrivateKey.generate(), wgengine.PrivateKey.generate().public_key
    text = f"[Interface]\nPrivateKey = {private.to_base64()}\nAddress = 10.9.0.1/24\n\n[Peer]\nPublicKey = {peer}\n"
    config = wgengine.Config.from_text(text)
    assert wgengine.Config.from_text(config.to_text()) == config
    assert "3" in refusal(text.replace("Address", "Adress")), "the line is named"


def refusal(text: str) -> str:
    try:
        wgengine.Config.from_text(text)
    except wgengine.ConfigError as error:
        return str(error)
    raise AssertionError("a misspelt key was taken")


def packet(source: str, target: str, payload: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram in it, without checksums of its own that anybody here would look at."""
    udp = struct.pack("!HHHH", 4000, 5000, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    head += ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(target).packed
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:] + udp


async def tunnel() -> None:
    a, b = wgengine.PrivateKey.generate(), wgengine.PrivateKey.generate()
    near = wgengine.Peer(public_key=a.public_key, allowed_ips=["10.0.0.1/32"])
    far = wgengine.Peer(public_key=b.public_key, allowed_ips=["10.0.0.2/32"])
    async with wgengine.Engine(wgengine.Config(private_key=b, peers=[near]), mode="memory") as there:
        port = (await there.status()).listen_port
        config = wgengine.Config(private_key=a, peers=[far.replace(endpoint=f"127.0.0.1:{port}")])
        async with wgengine.Engine(config, mode="memory") as here:
            assert here.memory_fd is not None
            assert there.memory_fd is not None
            sent = packet("10.0.0.1", "10.0.0.2", b"through the tunnel")
            os.write(here.memory_fd, PLAIN + sent)
            ready, _, _ = await asyncio.to_thread(select.select, [there.memory_fd], [], [], 20)
            assert ready, "nothing came out within 20 s"
            assert os.read(there.memory_fd, 1 << 17)[10:] == sent


def a_handshake_carries_a_packet() -> None:
    asyncio.run(tunnel())


def the_synchronous_engine_ends_in_order() -> None:
    with wgengine.sync.Engine(wgengine.Config(private_key=wgengine.PrivateKey.generate()), mode="memory") as engine:
        assert engine.status().state == "running"
        assert not engine.plan(wgengine.Config(private_key=wgengine.PrivateKey.generate())).skipped


def the_command_answers() -> None:
    from wgengine.cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["--version"]) == 0
    assert wgengine.__version__ in said.getvalue(), said.getvalue()


TESTS: tuple[Callable[[], None], ...] = (
    keys_keep_to_themselves,
    a_file_is_read_and_written,
    a_handshake_carries_a_packet,
    the_synchronous_engine_ends_in_order,
    the_command_answers,
)


def main() -> None:
    for test in TESTS:
        started = time.monotonic()
        test()
        print(f"✓ {test.__name__} ({time.monotonic() - started:.2f} s)", flush=True)
    machine = os.uname().machine
    print(f"{len(TESTS)} passed: wgengine {wgengine.__version__}, Python {sys.version.split()[0]}, {machine}")


if __name__ == "__main__":
    main()
