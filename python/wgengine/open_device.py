"""A device as an engine wants it, or what of it can be had."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING

from wgengine._native import Device
from wgengine.errors import PrivilegeError

if TYPE_CHECKING:
    from wgengine.knobs import Knobs

__all__ = ["open_device"]

log = logging.getLogger("wgengine.open_device")


def open_device(
    *,
    name: str | None,
    tun_fd: int | None,
    memory: bool,
    mtu: int,
    uapi: bool,
    respond_to_ping: bool,
    knobs: Knobs,
) -> Device:
    """Make and start it. Blocks. Raises what `Device` raises."""

    def make(uapi: bool) -> Device:
        return Device(
            name=name,
            tun_fd=tun_fd,
            memory=memory,
            mtu=mtu,
            shards=knobs.shards or 0,
            uapi=uapi,
            tun_offload=knobs.tun_offload,
            udp_gso=knobs.udp_gso,
            udp_gro=knobs.udp_gro,
            respond_to_ping=respond_to_ping,
            nice=knobs.nice,
        )

    try:
        return make(uapi)
    except PrivilegeError:
        raise
    except OSError as error:
        if not uapi or error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise
        reason = error
    # Root of a user namespace may make a TUN, but not write to /var/run: the tunnel is what matters.
    device = make(False)
    log.warning("%s: `wg` will not see it: %s", device.name, reason)
    return device
