"""The benchmark: whole tunnels of several WireGuard implementations, interleaved on this machine.

``rows`` says what is measured and how a ratio is made, ``implementation`` which programs take part,
``testbed`` builds the two hosts, ``run`` measures, ``report`` says it. Only ``wgengine bench`` uses this room.
"""
