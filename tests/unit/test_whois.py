"""Who is behind an address: of a netmap, of a configuration, of nobody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from served import NETMAP
from wgengine.config import Config, Peer
from wgengine.control.values import plain
from wgengine.keys import PrivateKey
from wgengine.peers import PeerIndex
from wgengine.whois import Whois, whois

if TYPE_CHECKING:
    from wgengine.netmap import NetMap

ALICE, BOB, _ = NETMAP.peers
KEY = PrivateKey.generate()


def look(ip: str, netmap: NetMap | None = NETMAP) -> Whois | None:
    index = PeerIndex()
    index.set_netmap(netmap)
    index.set_config(
        Config(
            private_key=KEY, peers=(Peer(public_key=ALICE.key, allowed_ips=("10.0.0.0/8",)), Peer(public_key=BOB.key))
        )
    )
    return whois(ip, netmap, index)


@pytest.mark.parametrize("ip", ["100.64.0.2", "fd7a:115c:a1e0::2"])
def test_node_of_a_netmap_with_its_user_and_what_it_may(ip: str) -> None:
    found = look(ip)
    assert found is not None
    assert (found.node, found.key, found.is_self) == (ALICE, ALICE.key, False)
    assert found.user is not None
    assert found.user.login_name == "alice@example.net"
    assert found.capabilities == {"cap/ssh": ["root"]}


def test_address_behind_a_node_names_the_route() -> None:
    found = look("10.1.2.3")
    assert found is not None
    assert (found.node, found.route) == (ALICE, "10.0.0.0/8")


def test_own_address_is_ours() -> None:
    found = look("100.64.0.1")
    assert found is not None
    assert (found.node, found.is_self, found.user) == (NETMAP.self_node, True, None)


def test_peer_of_a_configuration_is_known_by_its_key_only() -> None:
    found = look("10.1.2.3", None)
    assert found is not None
    assert found.as_dict() == {
        "ip": "10.1.2.3",
        "route": "10.0.0.0/8",
        "is_self": False,
        "node": {"key": str(ALICE.key)},
        "user": None,
        "capabilities": {},
    }


def test_nobodys_address_is_none() -> None:
    assert look("192.0.2.1") is None
    assert look("192.0.2.1", None) is None


def test_capability_without_values_is_told_too() -> None:
    node = ALICE.replace(capabilities=("is-admin", "cap/ssh"))
    found = Whois(ip="100.64.0.2", key=node.key, route="100.64.0.2/32", node=node)
    assert found.capabilities == {"is-admin": [], "cap/ssh": ["root"]}


def test_it_is_plain_for_json() -> None:
    found = look("100.64.0.2")
    assert found is not None
    told = json.loads(json.dumps(plain(found)))
    assert told == found.as_dict()
    assert told["node"]["os"] == "linux"
