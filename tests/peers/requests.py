"""Small requests over fresh TCP connections: `serve ADDRESS PORT`, or `ask ADDRESS PORT INTERVAL_S FOR_S`.

The asker prints a line for each request, `ok` or `failed` with the time and the reason, and goes on after a failure.
"""

from __future__ import annotations

import socket
import sys
import time

PATIENCE_S = 2
QUESTION, ANSWER = b"how are you", b"well" * 1000


def read(stream: socket.socket, length: int) -> bytes:
    taken = b""
    while len(taken) < length and (more := stream.recv(length - len(taken))):
        taken += more
    return taken


def serve(address: str, port: int) -> None:
    with socket.create_server((address, port)) as server:
        while True:
            stream, _ = server.accept()
            with stream:
                stream.settimeout(PATIENCE_S)
                try:
                    if read(stream, len(QUESTION)) == QUESTION:
                        stream.sendall(ANSWER)
                except OSError as fault:
                    print(f"lost a client: {fault}", flush=True)


def ask(address: str, port: int, interval_s: float, for_s: float) -> None:
    begun = time.monotonic()
    for turn in range(int(for_s / interval_s)):
        time.sleep(max(0.0, begun + turn * interval_s - time.monotonic()))
        try:
            with socket.create_connection((address, port), timeout=PATIENCE_S) as stream:
                stream.sendall(QUESTION)
                whole = read(stream, len(ANSWER)) == ANSWER
            print("ok" if whole else f"failed after {time.monotonic() - begun:.1f} s: cut short", flush=True)
        except OSError as fault:
            print(f"failed after {time.monotonic() - begun:.1f} s: {fault}", flush=True)


if __name__ == "__main__":
    role, address, port, *rest = sys.argv[1:]
    if role == "serve":
        serve(address, int(port))
    else:
        ask(address, int(port), *map(float, rest))
