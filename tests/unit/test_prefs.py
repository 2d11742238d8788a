"""What the user of a node wants."""

import logging

import pytest
from wgengine.errors import ConfigError
from wgengine.prefs import Prefs


def test_the_defaults():
    assert Prefs() == Prefs.from_dict({}) == Prefs(exit_node="")
    assert Prefs().to_dict() == {}
    assert (Prefs().accept_dns, Prefs().snat) == (True, True)
    others = ("allow_lan", "accept_routes", "shields_up", "stateful_filtering", "exit_node", "advertise_routes")
    assert not any(getattr(Prefs(), name) for name in others)


def test_what_is_written_is_read_again(caplog):
    prefs = Prefs(
        exit_node="n1", allow_lan=True, accept_routes=True, accept_dns=False,
        advertise_routes=("10.0.0.1/8", "10.0.0.0/8", "::/0"), snat=False, shields_up=True, stateful_filtering=True,
    )  # fmt: skip
    assert prefs.advertise_routes == ("10.0.0.0/8", "::/0")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert set(prefs.to_dict()) == set(Prefs.__dataclass_fields__)
    assert Prefs.from_dict(prefs.to_dict()) == prefs
    assert prefs.replace(exit_node=None).exit_node is None


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"exit_node": 5}, "exit_node"),
        ({"allow_lan": "yes"}, "allow_lan"),
        ({"accept_routes": 1}, "accept_routes"),
        ({"advertise_routes": "10.0.0.0/8"}, "advertise_routes"),
        ({"snat": []}, "snat"),
    ],
)
def test_what_is_wrong_is_named_however_it_comes(data, where):
    for make in (Prefs.from_dict, lambda data: Prefs(**data)):
        with pytest.raises(ConfigError, match="write") as caught:
            make(data)
        assert caught.value.field == where


def test_what_is_wrong_in_a_document_is_named():
    with pytest.raises(ConfigError) as caught:
        Prefs.from_dict({"advertise_routes": ["10.0.0.0/8", "x"]})
    assert caught.value.field == "advertise_routes[1]"
    with pytest.raises(ConfigError) as caught:
        Prefs(advertise_routes=("x",))
    assert caught.value.field == "advertise_routes"
    with pytest.raises(ConfigError, match="write accept_routes"):
        Prefs.from_dict({"accept_route": True})
