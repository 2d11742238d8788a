"""Prefixes and endpoints: one text for each, and words for what is wrong."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wgengine.address import Endpoint, Prefix, interface_address, ip_address, literal_endpoint, prefix
from wgengine.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "canonical", "host_bits"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", False),
        ("10.9.0.77/24", "10.9.0.0/24", True),
        ("10.8.0.1", "10.8.0.1/32", False),
        ("0.0.0.0/0", "0.0.0.0/0", False),
        ("10.0.0.1/0", "0.0.0.0/0", True),
        ("10.0.0.0/024", "10.0.0.0/24", False),
        ("2001:DB8:0:5::5/64", "2001:db8:0:5::/64", True),
        ("2001:db8:1::9", "2001:db8:1::9/128", False),
        ("2001:0db8:0000::/032", "2001:db8::/32", False),
        ("::/0", "::/0", False),
    ],
)
def test_a_prefix_has_one_text(text, canonical, host_bits):
    assert prefix(text) == (canonical, host_bits)


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "10.9.0.2/33", "10.9.0/24", "10.9.0.2/-1", "10.9.0.2/+1", "2001:db8::/129", "10.9.0.2/ 24x", "(none)",
        "10.0.0.1/", "/24", "010.0.0.1", "10.0.0.256", "10.0.0.1/24/24", "fe80::1%eth0/64", "+10.0.0.1", "-10.0.0.1",
        "10.0.0.1/255.255.255.0", "vpn.example/24", "10.0.0.1/²", "١٠.0.0.1/24", "1", "10.0.0.1/99999999999999999999",
        "10.0.0.1\n", "1:2:3:4:5:6:7::8/128",
        "1:2:3:4::5:6:7:8/128", "1::2::3/128", "1:2:3:4:5:6:7/128", "10.0.0.1./32",
    ],
)  # fmt: skip
@pytest.mark.parametrize("read", [prefix, interface_address])
def test_a_malformed_prefix_is_refused_by_name(read, text):
    with pytest.raises(ConfigError, match="write") as caught:
        read(text)
    assert text.encode("unicode_escape").decode() in str(caught.value) or text in str(caught.value)


networks = st.one_of(
    st.builds(lambda n, p: ipaddress.IPv4Interface((n, p)), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(lambda n, p: ipaddress.IPv6Interface((n, p)), st.integers(0, 2**128 - 1), st.integers(0, 128)),
)


@given(networks)
def test_prefixes_agree_with_the_standard_library(interface):
    text, host_bits = prefix(str(interface))
    assert ipaddress.ip_network(text) == interface.network
    assert host_bits == (interface.ip != interface.network.network_address)
    assert prefix(text) == (text, False)
    assert ipaddress.ip_interface(interface_address(str(interface))) == interface


@given(networks, networks)
def test_covering_agrees_with_the_standard_library(one, other):
    same_family = one.version == other.version
    expected = same_family and other.network.subnet_of(one.network)
    assert Prefix.parse(str(one)).covers(Prefix.parse(str(other))) == expected
    assert Prefix.parse(str(one)).covers(Prefix.parse(f"{one.ip}"))


def test_an_address_alone_takes_no_prefix_length():
    assert ip_address("2001:DB8::53") == "2001:db8::53"
    for text in ("192.0.2.53/32", "fe80::1%eth0", "ns.example", ""):
        with pytest.raises(ConfigError, match="not an IP address"):
            ip_address(text)


@pytest.mark.parametrize(
    ("text", "host", "port", "literal"),
    [
        ("192.0.2.1:51820", "192.0.2.1", 51820, True),
        ("[2001:DB8::1]:51820", "2001:db8::1", 51820, True),
        ("vpn.example:0", "vpn.example", 0, False),
        ("bücher.example:65535", "bücher.example", 65535, False),
        ("[fe80::1%eth0]:51820", "fe80::1%eth0", 51820, False),
        ("my_host-1:1", "my_host-1", 1, False),
    ],
)
def test_an_endpoint_is_read_and_written(text, host, port, literal):
    endpoint = Endpoint.parse(text)
    assert endpoint == Endpoint(host, port)
    assert endpoint.is_literal == literal
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("vpn.example", "Missing port from endpoint"),
        ("vpn.example:", "Missing port from endpoint"),
        ("[2001:db8::1]", "Missing port from endpoint"),
        ("", "Missing port from endpoint"),
        (":51820", "Invalid endpoint host"),
        ("a b:1", "Invalid endpoint host"),
        ("a#b:1", "Invalid endpoint host"),
        ("192.0.2:51820", "Invalid endpoint host"),
        ("192.0.2.256:51820", "Invalid endpoint host"),
        ("vpn.example:x", "Invalid endpoint port"),
        ("vpn.example:-1", "Invalid endpoint port"),
        ("vpn.example:65536", "Invalid endpoint port"),
        ("vpn.example:٣", "Invalid endpoint port"),
        ("2001:db8::1:51820", "Brackets must contain an IPv6 address"),
        ("[192.0.2.1]:51820", "Brackets must contain an IPv6 address"),
        ("[]:51820", "Brackets must contain an IPv6 address"),
        ("[::1:51820", "Brackets must contain an IPv6 address"),
        ("[vpn:x]:51820", "Brackets must contain an IPv6 address"),
        ("[fe80::1%]:51820", "Invalid endpoint host"),
        ("(none)", "Missing port from endpoint"),
    ],
)
def test_a_malformed_endpoint_is_refused_with_its_reason(text, reason):
    with pytest.raises(ConfigError, match=f"{reason}: .*; write") as caught:
        Endpoint.parse(text)
    assert caught.value.field == "endpoint"


@pytest.mark.parametrize("port", [-1, 65536, True, "51820", None])
def test_an_endpoint_wants_a_port_number(port):
    with pytest.raises(ConfigError, match="Invalid endpoint port"):
        Endpoint("vpn.example", port)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.1:51820", "192.0.2.1:51820"),
        ("192.0.2.1:65535", "192.0.2.1:65535"),
        ("192.0.2.1:0", "192.0.2.1:0"),
        ("[2001:DB8::0:1]:00080", "[2001:db8::1]:80"),
        ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ("[fe80::1%eth0]:80", "[fe80::1%eth0]:80"),
    ],
)
def test_a_literal_endpoint_has_one_text(text, canonical):
    assert literal_endpoint(text) == canonical


@pytest.mark.parametrize(
    "text",
    ["vpn.example:51820", "192.0.2.1", "192.0.2.1:", "192.0.2.1:65536", "[1:2:3:4::5:6:7:8]:80", "2001:db8::1:80"],
)
def test_what_is_no_literal_endpoint_is_refused(text):
    with pytest.raises(ConfigError, match=r"write|contain"):
        literal_endpoint(text)
