"""Requests for routes, read back by pyroute2, which knows rtnetlink from elsewhere."""

from __future__ import annotations

import sys

import pytest
from wgengine.link.rtnetlink import request
from wgengine.reconfig import AddRoute, RemoveRoute

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="rtnetlink is Linux's")

CREATE, EXCLUSIVE = 0x400, 0x200


@pytest.mark.parametrize("table", [None, 1, 255, 256, 1234, 0xFFFFFFFF])
@pytest.mark.parametrize(
    ("prefix", "family", "scope"),
    [("10.2.0.0/16", 2, 253), ("10.2.3.4/32", 2, 253), ("0.0.0.0/0", 2, 253), ("fd02::/64", 10, 0), ("::/0", 10, 0)],
)
@pytest.mark.parametrize("kind", [AddRoute, RemoveRoute])
def test_a_request_says_what_the_step_says(
    kind: type[AddRoute | RemoveRoute], prefix: str, family: int, scope: int, table: int | None
) -> None:
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    data = request(kind(prefix, table), 77, 4711)
    message = rtmsg(data)
    message.decode()
    header = message["header"]
    assert (header["length"], header["sequence_number"]) == (len(data), 4711)
    assert header["type"] == (24 if kind is AddRoute else 25)
    assert header["flags"] == 5 | (CREATE | EXCLUSIVE if kind is AddRoute else 0)
    target, _, length = prefix.partition("/")
    assert (message["family"], message["dst_len"], message["scope"]) == (family, int(length), scope)
    assert message.get_attr("RTA_DST") == (target if length != "0" else None)
    assert message.get_attr("RTA_OIF") == 77
    assert message.get_attr("RTA_TABLE") == (table or 254)
    assert message["table"] == (0 if (table or 254) > 255 else table or 254)
