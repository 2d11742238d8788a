"""One end of a bulk transfer that is checked byte by byte: `send ADDRESS PORT SIZE` or `receive ADDRESS PORT`.

Prints a line of JSON: the SHA-256 of what went through, the seconds it took, and the sender's TCP retransmits.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import sys
import time

BLOCK = 1 << 20
STALLED_S = 30  # without a byte: the transfer is dead
TCP_INFO_TOTAL_RETRANS = 8 + 23 * 4  # struct tcp_info: eight bytes of flags, then 32-bit words


def send(address: str, port: int, size_bytes: int) -> dict[str, object]:
    digest = hashlib.sha256()
    noise = os.urandom(BLOCK)
    begun = time.monotonic()
    with socket.create_connection((address, port), timeout=STALLED_S) as stream:
        for number in range((size_bytes + BLOCK - 1) // BLOCK):
            # every block differs from every other, so that one block in the place of another is noticed
            block = struct.pack(">Q", number) + noise[8 : min(BLOCK, size_bytes - number * BLOCK)]
            digest.update(block)
            stream.sendall(block)
        stream.shutdown(socket.SHUT_WR)
        stream.recv(1)  # the receiver closes when it has everything
        info = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_TOTAL_RETRANS + 4)
    retransmits = struct.unpack_from("=I", info, TCP_INFO_TOTAL_RETRANS)[0]
    return {"sha256": digest.hexdigest(), "seconds": time.monotonic() - begun, "retransmits": retransmits}


def receive(address: str, port: int) -> dict[str, object]:
    digest = hashlib.sha256()
    size_bytes = 0
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as server:
        server.settimeout(STALLED_S)
        stream, _ = server.accept()
    begun = time.monotonic()
    with stream:
        stream.settimeout(STALLED_S)
        buffer = bytearray(BLOCK)
        while count := stream.recv_into(buffer):
            digest.update(memoryview(buffer)[:count])
            size_bytes += count
    return {"sha256": digest.hexdigest(), "seconds": time.monotonic() - begun, "size_bytes": size_bytes}


if __name__ == "__main__":
    role, address, port, *rest = sys.argv[1:]
    done = send(address, int(port), int(rest[0])) if role == "send" else receive(address, int(port))
    print(json.dumps(done))
