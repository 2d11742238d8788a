"""Knobs: their bounds, the environment, what a netmap overrides, and that the document has them all."""

import dataclasses
import re
from pathlib import Path

import pytest
from wgengine import knobs as room
from wgengine.errors import ConfigError
from wgengine.knobs import Knobs

FIELDS = {field.name: field for field in dataclasses.fields(Knobs)}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "knobs.md"
# another value than the default for each type, as a variable and as a value
OTHER = {
    "bool": [("0", False), ("1", True)],
    "bool | None": [("0", False), ("1", True)],
    "int": [("7", 7)],
    "int | None": [("7", 7)],
    "float": [("7.5", 7.5)],
    "str": [("a text", "a text")],
    "NetfilterKind | None": [("iptables", "iptables"), ("nftables", "nftables")],
    "MetricsPrefix": [("tailscaled_", "tailscaled_")],
}


def test_an_empty_environment_gives_the_defaults():
    assert Knobs.from_env({}) == Knobs()
    assert Knobs.from_env({"WGENGINE_SHARDS": "", "WGENGINE_ONE_CGNAT": " ", "PATH": "/bin"}) == Knobs()


@pytest.mark.parametrize("name", FIELDS)
def test_each_knob_has_its_variable(name):
    for word, value in OTHER[FIELDS[name].type]:
        knobs = Knobs.from_env({f"WGENGINE_{name.upper()}": f" {word} "})
        assert knobs == dataclasses.replace(Knobs(), **{name: value})


@pytest.mark.parametrize("word", ["1", "t", "T", "TRUE", "true", "True", "y", "yes", "ON"])
def test_every_word_for_on(word):
    assert Knobs.from_env({"WGENGINE_TRIM_WIREGUARD": word}).trim_wireguard is True


@pytest.mark.parametrize("word", ["0", "f", "F", "FALSE", "false", "False", "n", "No", "off"])
def test_every_word_for_off(word):
    assert Knobs.from_env({"WGENGINE_TRIM_WIREGUARD": word}).trim_wireguard is False


def test_the_process_environment_is_read_by_default(monkeypatch):
    monkeypatch.setenv("WGENGINE_SHARDS", "3")
    assert Knobs.from_env().shards == 3


@pytest.mark.parametrize(
    ("variable", "word"),
    [
        ("WGENGINE_SHARDS", "two"),
        ("WGENGINE_SHARDS", "0"),
        ("WGENGINE_SHARDS", "-1"),
        ("WGENGINE_SHARDS", "257"),
        ("WGENGINE_SHARDS", "9" * 5000),
        ("WGENGINE_UDP_GSO", "maybe"),
        ("WGENGINE_ONE_CGNAT", "maybe"),
        ("WGENGINE_EVENT_QUEUE", "0"),
        ("WGENGINE_WATCHDOG_LIMIT", "0"),
        ("WGENGINE_WATCHDOG_LIMIT", "nan"),
        ("WGENGINE_WATCHDOG_LIMIT", "soon"),
        ("WGENGINE_NETFILTER_KIND", "pf"),
        ("WGENGINE_METRICS_PREFIX", "my_"),
        ("WGENGINE_FAKE_HEALTH_ERROR", "x" * 501),
        ("WGENGINE_NICE", "-21"),
        ("WGENGINE_NICE", "--5"),
    ],
)
def test_a_bad_variable_is_named(variable, word):
    with pytest.raises(ConfigError, match="write") as caught:
        Knobs.from_env({variable: word})
    assert caught.value.field == variable


@pytest.mark.parametrize(
    "wrong",
    [
        {"shards": 0},
        {"shards": True},
        {"shards": 2.0},
        {"udp_gro": 1},
        {"udp_gro": None},
        {"one_cgnat": 0},
        {"event_queue": None},
        {"watchdog_limit": float("inf")},
        {"watchdog_limit": "45"},
        {"netfilter_kind": ""},
        {"metrics_prefix": None},
        {"fake_health_error": "two\nlines"},
        {"fake_health_error": None},
    ],
)
def test_a_bad_value_is_named(wrong):
    with pytest.raises(ConfigError, match="write") as caught:
        Knobs(**wrong)
    assert [caught.value.field] == list(wrong)


@pytest.mark.parametrize("name", FIELDS)
def test_no_knob_takes_just_anything(name):
    with pytest.raises(ConfigError) as caught:
        Knobs(**{name: object()})
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        (["debug-no-wg-trim"], {"keep_full_wg_config": True}),
        (["randomize-client-port"], {"randomize_client_port": True}),
        (["peer-mtu-enable"], {"peer_mtu_enable": True}),
        (["user-dial-routes"], {"user_dial_routes": True}),
        (["silent-disco"], {"silent_disco": True}),
        (["linux-netfilter?v=iptables"], {"netfilter_kind": "iptables"}),
        (["linux-netfilter?v=nftables"], {"netfilter_kind": "nftables"}),
        (["one-cgnat?v=true"], {"one_cgnat": True}),
        (["one-cgnat?v=false"], {"one_cgnat": False}),
        (["seamless-key-renewal"], {"seamless_key_renewal": True}),
        (["disable-seamless-key-renewal"], {"seamless_key_renewal": False}),
        (["disable-seamless-key-renewal", "seamless-key-renewal"], {"seamless_key_renewal": True}),
        (["one-cgnat?v=false", "one-cgnat?v=true"], {"one_cgnat": True}),
        (["one-cgnat", "linux-netfilter?v=pf", "https://tailscale.com/cap/is-admin"], {}),
        ([], {}),
    ],
)
def test_a_netmap_overrides_what_it_names(attributes, wanted):
    ours = Knobs(udp_gso=False, shards=2)
    assert ours.overridden_by(dict.fromkeys(attributes, ())) == dataclasses.replace(ours, **wanted)


def test_what_a_netmap_does_not_name_stays_as_we_set_it():
    ours = Knobs(seamless_key_renewal=True, one_cgnat=False, netfilter_kind="iptables")
    assert ours.overridden_by({"silent-disco": ()}) == dataclasses.replace(ours, silent_disco=True)
    assert ours.overridden_by({"disable-seamless-key-renewal": ()}).seamless_key_renewal is False


@pytest.mark.parametrize(
    ("explicit", "keep_full", "trims"),
    [(None, False, True), (None, True, False), (True, True, True), (False, False, False)],
)
def test_the_explicit_switch_decides_about_trimming(explicit, keep_full, trims):
    assert Knobs(trim_wireguard=explicit, keep_full_wg_config=keep_full).trims is trims
    assert not Knobs(trim_wireguard=explicit, keep_full_wg_config=keep_full, has_lazy_wg=False).trims


def rows():
    """The document's table: knob → its other cells."""
    found = re.findall(r"^\| `(\w+)` \| `([^|]*)` \| ([^|]+) \| ([^|]*)\|$", DOCUMENT.read_text(), re.MULTILINE)
    return {name: (default, text, re.findall(r"`([^`]+)`", attributes)) for name, default, text, attributes in found}


def test_the_document_has_every_knob_its_default_and_its_attributes():
    assert {name: default for name, (default, _, _) in rows().items()} == {
        name: repr(field.default) for name, field in FIELDS.items()
    }
    attributes = {name: [a for a, knob, _ in room._ATTRIBUTES if knob == name] for name in FIELDS}
    assert {name: cell for name, (_, _, cell) in rows().items()} == attributes
