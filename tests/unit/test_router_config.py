"""What the host's routing is to be."""

import logging

import pytest
from wgengine.errors import ConfigError
from wgengine.router_config import RouterConfig

WHOLE = RouterConfig(
    local_addrs=["10.9.0.1/24", "FD00::1"],
    routes=["10.0.0.1/8", "::/0"],
    local_routes=["192.168.1.0/24"],
    new_mtu=1280,
    subnet_routes=["10.7.0.0/16"],
    snat_subnet_routes=True,
    stateful_filtering=True,
    netfilter_mode="nodivert",
    netfilter_kind="nftables",
)


def test_texts_are_canonical_and_in_order(caplog):
    assert WHOLE.local_addrs == ("10.9.0.1/24", "fd00::1/128")
    assert WHOLE.routes == ("10.0.0.0/8", "::/0")
    assert WHOLE.replace(routes=("::/0", "10.0.0.0/8")) != WHOLE
    RouterConfig(routes=["10.0.0.1/8"])
    assert [(record.name, record.levelno) for record in caplog.records] == [("wgengine.router_config", logging.WARNING)]


def test_absent_is_empty():
    assert RouterConfig() == RouterConfig(routes=[], local_addrs=()) == RouterConfig.from_dict({"routes": None})
    assert (RouterConfig().netfilter_mode, RouterConfig().to_dict()) == ("off", {})
    assert hash(RouterConfig()) == hash(RouterConfig(routes=[]))


def test_what_is_written_is_read_again():
    assert RouterConfig.from_dict(WHOLE.to_dict()) == WHOLE
    assert set(WHOLE.to_dict()) == set(RouterConfig.__dataclass_fields__)


def test_routes_that_are_canonical_need_no_second_look():
    routes = ("10.0.0.0/8", "192.0.2.0/24")
    assert WHOLE.with_canonical_routes(routes) == WHOLE.replace(routes=routes)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"local_addrs": "10.9.0.1/24"}, "local_addrs"),
        ({"routes": 5}, "routes"),
        ({"new_mtu": 65536}, "new_mtu"),
        ({"new_mtu": True}, "new_mtu"),
        ({"snat_subnet_routes": 1}, "snat_subnet_routes"),
        ({"stateful_filtering": "on"}, "stateful_filtering"),
        ({"netfilter_mode": "maybe"}, "netfilter_mode"),
        ({"netfilter_kind": "pf"}, "netfilter_kind"),
        ({"netfilter_kind": 5}, "netfilter_kind"),
    ],
)
def test_what_is_wrong_is_named(data, where):
    with pytest.raises(ConfigError, match="write") as caught:
        RouterConfig.from_dict(data)
    assert caught.value.field == where
    if data != {"routes": 5}:
        with pytest.raises(ConfigError, match="write") as caught:
            RouterConfig(**data)
        assert caught.value.field == where


def test_what_is_wrong_in_a_list_is_named():
    with pytest.raises(ConfigError) as caught:
        RouterConfig.from_dict({"local_routes": ["10.0.0.0/8", "x"]})
    assert caught.value.field == "local_routes[1]"
    with pytest.raises(ConfigError, match="write routes"):
        RouterConfig.from_dict({"route": []})
