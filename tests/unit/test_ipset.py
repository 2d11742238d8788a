"""Sets of addresses."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from wgengine.ipset import AddressSet


@pytest.mark.parametrize(
    ("prefixes", "same_as"),
    [
        ([], ()),
        (["10.0.0.0/9", "10.128.0.0/9"], ("10.0.0.0/8",)),
        (["10.0.0.0/8", "10.1.0.0/16", "10.0.0.0/8"], ("10.0.0.0/8",)),
        (["10.0.0.1", "10.0.0.2", "10.0.0.3/32"], ("10.0.0.1/32", "10.0.0.2/31")),
        (["::/0", "0.0.0.0/0"], ("0.0.0.0/0", "::/0")),
        (["255.255.255.255", "255.255.255.254"], ("255.255.255.254/31",)),
        (["192.168.1.7/24"], ("192.168.1.0/24",)),
    ],
)
def test_as_few_prefixes_as_can_be(prefixes, same_as):
    assert AddressSet.of(prefixes).prefixes() == same_as


def test_what_is_taken_away_is_gone():
    assert (AddressSet.of(["10.0.0.0/8"]) - AddressSet.of(["10.0.0.0/9", "11.0.0.0/8"])).prefixes() == ("10.128.0.0/9",)
    assert (AddressSet.of(["0.0.0.0/0"]) - AddressSet.of(["0.0.0.0/1"])).prefixes() == ("128.0.0.0/1",)
    assert not AddressSet.of(["10.0.0.0/8"]) - AddressSet.of(["0.0.0.0/0"])


def test_overlaps_do_not_mix_families():
    assert not AddressSet.of(["0.0.0.0/0"]).overlaps(AddressSet.of(["::/0"]))
    assert AddressSet.of(["10.0.0.0/8"]).overlaps(AddressSet.of(["9.0.0.0/8", "10.255.255.255/32"]))
    assert not AddressSet.of(["10.0.0.0/8"]).overlaps(AddressSet.of(["9.0.0.0/8", "11.0.0.0/8"]))


def test_ranges():
    low, high = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.4")
    assert AddressSet.between(low, high).prefixes() == ("10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/32")
    assert AddressSet.between(IPv6Address("::"), IPv6Address("::1")).prefixes() == ("::/127",)
    assert not AddressSet.between(high, low)
    assert not AddressSet.between(low, IPv6Address("::1"))
