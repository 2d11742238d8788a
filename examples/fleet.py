"""A netmap with very many peers, reconfigured again and again beside whatever else the tunnel carries.

    python examples/fleet.py NETMAP.json [SECONDS]

Needs CAP_NET_ADMIN, as every real interface does; `unshare -Urn` gives it in a network of your own.
"""

import asyncio
import sys
import time
from dataclasses import replace

import wgengine


async def main(path: str, seconds: float = 10.0) -> None:
    netmap, prefs = wgengine.NetMap.from_file(path), wgengine.Prefs(accept_routes=True)
    async with wgengine.Engine(name="fleet0") as engine:
        await engine.apply(netmap, prefs=prefs)
        end, turns = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            node = netmap.peers[turns % len(netmap.peers)]
            moved = replace(node, allowed_ips=(*node.addresses, f"10.{turns // 250 % 250}.{turns % 250}.0/24"))
            netmap = netmap.with_peer(moved)
            changes = await engine.apply(netmap, prefs=prefs)
            turns += 1
            if turns % 100 == 0:
                first = netmap.peers[0].addresses[0].partition("/")[0]
                pong = await engine.ping(first, timeout=1)
                print(f"{turns} reconfigurations; the last one: {changes}")
                print(f"ping {first}: {pong.error or f'{1000 * (pong.latency or 0):.2f} ms'}")
            await asyncio.sleep(0.01)
        status = await engine.status()
        print(f"{len(status.peers)} peers, of which {sum(peer.trimmed for peer in status.peers)} are trimmed")
        print(await engine.metrics_text())


asyncio.run(main(sys.argv[1], *map(float, sys.argv[2:])))
