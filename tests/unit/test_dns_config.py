"""What DNS is to do."""

import pytest
from wgengine.dns_config import DNSConfig, Resolver
from wgengine.errors import ConfigError

WHOLE = DNSConfig(
    default_resolvers=["192.0.2.53", Resolver("https://dns.example/q", ("192.0.2.1",), True)],
    routes={"Corp.Example": ["[2001:DB8::0:1]:5353"], "ours.example.": []},
    search_domains=["b.example", "A.example"],
    hosts={"Host.Ours.Example": ["10.0.0.1", "FD00::1"]},
    subdomain_hosts=["host.ours.example."],
    only_ipv6=True,
    accept_dns=True,
    magic_hosts_unrouted=True,
)


def test_all_is_canonical_and_mappings_have_no_order():
    assert WHOLE.routes == (("corp.example.", (Resolver("[2001:db8::1]:5353"),)), ("ours.example.", ()))
    assert WHOLE.search_domains == ("b.example.", "a.example.")
    assert WHOLE.hosts == (("host.ours.example.", ("10.0.0.1", "fd00::1")),)
    assert DNSConfig(routes={"a.": [], "b.": ["192.0.2.1"]}) == DNSConfig(routes={"B": ["192.0.2.1"], "a": ()})
    assert DNSConfig(routes=WHOLE.routes).routes == WHOLE.routes
    assert dict(WHOLE.routes)["ours.example."] == ()
    assert hash(WHOLE) == hash(WHOLE.replace())


def test_absent_is_empty():
    assert DNSConfig() == DNSConfig(routes={}, hosts=()) == DNSConfig.from_dict({"routes": None, "hosts": {}})
    assert DNSConfig().to_dict() == {}


def test_what_is_written_is_read_again():
    assert DNSConfig.from_dict(WHOLE.to_dict()) == WHOLE
    assert set(WHOLE.to_dict()) == set(DNSConfig.__dataclass_fields__)


@pytest.mark.parametrize(
    "addr", ["192.0.2.53", "192.0.2.53:53", "[::1]:53", "::1", "tls://x", "http://10.0.0.1:80/q", "x:y"]
)
def test_forms_of_a_resolver(addr):
    assert Resolver(addr).addr == addr


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"default_resolvers": ["192.0.2.53"]}, "default_resolvers[0]"),
        ({"default_resolvers": [{"addr": "a b"}]}, "default_resolvers[0].addr"),
        ({"default_resolvers": [{"addr": "x:y\n"}]}, "default_resolvers[0].addr"),
        ({"default_resolvers": [{"addr": "fd00:::1"}]}, "default_resolvers[0].addr"),
        ({"default_resolvers": [{}]}, "default_resolvers[0].addr"),
        ({"default_resolvers": [{"addr": "::1", "bootstrap": ["x"]}]}, "default_resolvers[0].bootstrap[0]"),
        ({"default_resolvers": [{"addr": "::1", "use_with_exit_node": 1}]}, "default_resolvers[0].use_with_exit_node"),
        ({"default_resolvers": [{"adr": "::1"}]}, "default_resolvers[0].adr"),
        ({"routes": []}, "routes"),
        ({"routes": {"a..b": []}}, "routes"),
        ({"routes": {"a": [], "A.": []}}, "routes"),
        ({"routes": {"a": {}}}, "routes.a"),
        ({"search_domains": ["a", "a..b"]}, "search_domains[1]"),
        ({"hosts": {"a": ["10.0.0.1/32"]}}, "hosts.a[0]"),
        ({"subdomain_hosts": ["a"]}, "subdomain_hosts"),  # no such host
        ({"only_ipv6": "no"}, "only_ipv6"),
        ({"accept_dns": 1}, "accept_dns"),
        ({"nameservers": []}, "nameservers"),
    ],
)
def test_what_is_wrong_in_a_document_is_named(data, where):
    with pytest.raises(ConfigError, match=r"write|keep") as caught:
        DNSConfig.from_dict(data)
    assert caught.value.field == where


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"default_resolvers": "192.0.2.53"}, "default_resolvers"),
        ({"default_resolvers": ["a b"]}, "default_resolvers.addr"),
        ({"routes": {"a": "192.0.2.53"}}, "routes"),
        ({"search_domains": "a"}, "search_domains"),
        ({"hosts": {"a": "10.0.0.1"}}, "hosts"),
        ({"hosts": {"a": ["x"]}}, "hosts"),
        ({"magic_hosts_unrouted": 1}, "magic_hosts_unrouted"),
    ],
)
def test_what_is_wrong_in_arguments_is_named(fields, where):
    with pytest.raises(ConfigError, match="write") as caught:
        DNSConfig(**fields)
    assert caught.value.field == where
