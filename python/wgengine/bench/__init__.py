"""The benchmark: devices of several WireGuard implementations, interleaved on this machine.

``rows`` says what is measured, ``compare`` how many rounds become one figure, ``implementation`` which programs take
part; ``host`` and ``testbed`` build machines, ``uapi`` and ``generator`` talk to what runs on them. ``run`` measures:
``traffic`` through a tunnel, ``scale`` of what a device knows, what is ``hostile``, and changes to a ``live`` tunnel.
``report`` says it. Only ``wgengine bench`` uses this room.
"""
