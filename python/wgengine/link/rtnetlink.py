"""Routes over our own interface, many in one system call: ten thousand peers bring ten thousand of them.

pyroute2 takes a millisecond to put one such request together. It has three fields that differ from one to the next, so
it is put together here, as rtnetlink(7) lays it out; everything else is pyroute2's.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from wgengine.address import Prefix
from wgengine.reconfig import MAIN_TABLE, AddRoute, RemoveRoute

__all__ = ["exchange", "request"]

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ROUTE: Final = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
_NUMBER: Final = struct.Struct("=I")
_ERROR: Final = struct.Struct("=i")  # a negative errno, 0: done

RTM_NEWROUTE, RTM_DELROUTE, NLMSG_ERROR = 24, 25, 2
NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL, NLM_F_CREATE = 1, 4, 0x200, 0x400
RTA_DST, RTA_OIF, RTA_TABLE = 1, 4, 15
RTPROT_STATIC, RTN_UNICAST = 4, 1
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
SOL_NETLINK, NETLINK_CAP_ACK = 270, 10

# The answers to one call wait in the socket's buffer, which takes some two hundred of them by default.
_AT_ONCE: Final = 100


def request(step: AddRoute | RemoveRoute, ifindex: int, sequence: int) -> bytes:
    """One step as a message. A route that is there already is refused, wherever it leads."""
    target = Prefix.parse(step.prefix)
    table = MAIN_TABLE if step.table is None else step.table
    family = socket.AF_INET if target.bits == 32 else socket.AF_INET6
    # no gateway: everything there is on the link; IPv6 knows no scopes of routes
    scope = SCOPE_LINK if family == socket.AF_INET else SCOPE_UNIVERSE
    flags = NLM_F_REQUEST | NLM_F_ACK
    if isinstance(step, AddRoute):
        kind, protocol, sort = RTM_NEWROUTE, RTPROT_STATIC, RTN_UNICAST
        flags |= NLM_F_CREATE | NLM_F_EXCL
    else:
        kind, protocol, sort = RTM_DELROUTE, 0, 0  # whoever put it there
    short = table if table < 256 else 0
    body = _ROUTE.pack(family, target.length, 0, 0, short, protocol, scope, sort, 0)
    if target.length:
        body += _attribute(RTA_DST, target.network.to_bytes(target.bits // 8, "big"))
    body += _attribute(RTA_OIF, _NUMBER.pack(ifindex)) + _attribute(RTA_TABLE, _NUMBER.pack(table))
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value  # all of ours end on a multiple of four


def exchange(steps: Sequence[AddRoute | RemoveRoute], ifindex: int) -> list[int]:
    """Have the kernel do them, in order; the errno of each, 0 where it was done."""
    numbered = iter(enumerate(steps))
    errors = [0] * len(steps)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        netlink.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)  # answers without the question
        netlink.bind((0, 0))
        while batch := list(islice(numbered, _AT_ONCE)):
            netlink.send(b"".join(request(step, ifindex, number) for number, step in batch))
            for number, code in _answers(netlink, len(batch)):
                errors[number] = code
    return errors


def _answers(netlink: socket.socket, count: int) -> Iterable[tuple[int, int]]:
    """The answers to `count` requests: sequence number and errno. The kernel has put them there before it returned."""
    while count > 0:
        data = netlink.recv(1 << 16)
        while data:
            length, kind, _, sequence, _ = _HEADER.unpack_from(data)
            if kind == NLMSG_ERROR:
                yield sequence, -_ERROR.unpack_from(data, _HEADER.size)[0]
                count -= 1
            data = data[(length + 3) & ~3 :]
