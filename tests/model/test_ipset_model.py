"""Sets of addresses against sets of numbers, within a small network; and canonical text against `ipaddress`."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st
from wgengine.address import interface_address, is_canonical_host, literal_endpoint, prefix
from wgengine.ipset import AddressSet

BASE = int(ipaddress.IPv4Address("203.0.113.0"))
small = st.builds(
    lambda n, length: str(ipaddress.IPv4Network((BASE | n, length), strict=False)),
    st.integers(0, 255),
    st.integers(24, 32),
)
prefixes = st.lists(small, max_size=6)


def numbers(texts):
    return {int(ip) for text in texts for ip in ipaddress.IPv4Network(text)}


@given(prefixes, prefixes)
def test_sets_of_addresses_are_sets(one, other):
    a, b = AddressSet.of(one), AddressSet.of(other)
    assert numbers((a | b).prefixes()) == numbers(one) | numbers(other)
    assert numbers((a - b).prefixes()) == numbers(one) - numbers(other)
    assert a.overlaps(b) == bool(numbers(one) & numbers(other))
    assert (a == b) == (numbers(one) == numbers(other))
    assert (a | b) - b == a - b
    fewest = ipaddress.collapse_addresses(map(ipaddress.IPv4Network, one))
    assert a.prefixes() == tuple(map(str, fewest))


words = st.sampled_from([0, 0, 1, 0xA, 0x10, 0xFD7A, 0xFFFF])
addresses = st.one_of(
    st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address),
    st.lists(words, min_size=8, max_size=8).map(
        lambda groups: ipaddress.IPv6Address(int("".join(f"{group:04x}" for group in groups), 16))
    ),
)


def spellings(address):
    text = str(address)
    if address.version == 4:
        return st.sampled_from([text, text + ".", text.replace(".", ".0", 1), text + "\n"])
    return st.sampled_from([text, address.exploded, text.upper(), text.replace("::", ":0:", 1), text + ":"])


@given(addresses.flatmap(spellings), st.sampled_from(["", "/32", "/128", "/0", "/032", "/31"]))
def test_what_is_called_canonical_is_what_it_would_be_read_as(text, length):
    whole = text + length
    if is_canonical_host(whole):
        network = ipaddress.ip_network(whole)
        assert str(network) == whole
        assert network.num_addresses == 1
        assert interface_address(whole) == whole
        assert prefix(whole) == (whole, False)


@given(addresses, st.integers(0, 70000))
def test_a_literal_endpoint_is_read_in_one_form(address, port):
    text = f"[{address.exploded}]:{port}" if address.version == 6 else f"{address}:{port}"
    canonical = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    try:
        assert literal_endpoint(text) == canonical == literal_endpoint(canonical)
        assert port <= 65535
    except ValueError:
        assert port > 65535
