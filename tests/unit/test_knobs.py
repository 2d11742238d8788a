"""Knobs: their bounds, and the environment."""

import dataclasses

import pytest
from wgengine.errors import ConfigError
from wgengine.knobs import Knobs


def test_an_empty_environment_gives_the_defaults():
    assert Knobs.from_env({}) == Knobs()
    assert Knobs.from_env({"WGENGINE_SHARDS": "", "PATH": "/bin"}) == Knobs()


def test_each_knob_has_its_variable():
    environ = {
        "WGENGINE_SHARDS": "2",
        "WGENGINE_TUN_OFFLOAD": "off",
        "WGENGINE_UDP_GSO": "0",
        "WGENGINE_UDP_GRO": " No ",
        "WGENGINE_EVENT_QUEUE": "16",
    }
    knobs = Knobs.from_env(environ)
    assert knobs == Knobs(shards=2, tun_offload=False, udp_gso=False, udp_gro=False, event_queue=16)
    assert len(environ) == len(dataclasses.fields(Knobs))


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
        ("WGENGINE_EVENT_QUEUE", "0"),
    ],
)
def test_a_bad_variable_is_named(variable, word):
    with pytest.raises(ConfigError, match="write") as caught:
        Knobs.from_env({variable: word})
    assert caught.value.field == variable


@pytest.mark.parametrize("wrong", [{"shards": 0}, {"shards": True}, {"udp_gro": 1}, {"event_queue": None}])
def test_a_bad_value_is_named(wrong):
    with pytest.raises(ConfigError) as caught:
        Knobs(**wrong)
    assert [caught.value.field] == list(wrong)
