"""A netmap with anything anywhere: read whole, and then written and read again, or refused with its place."""

import copy
import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wgengine.derive import derive
from wgengine.errors import ConfigError
from wgengine.keys import PrivateKey
from wgengine.netmap import NetMap
from wgengine.prefs import Prefs

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SECRET = PrivateKey.from_hex("08" * 32)
WHOLE = json.loads((Path(__file__).parents[1] / "unit" / "tailscale_netmap.json").read_text())

words = [
    "", "10.0.0.1/8", "100.64.0.9/32", "::/0", "0.0.0.0/0", "nodekey:00", f"discokey:{'00' * 32}", "192.0.2.1:5",
    "2026-01-01T00:00:00Z", "a..b", "x.example.", "\ud800", "ü" * 40, "cap:x", "*", "10.0.0.1-10.0.0.9",
]  # fmt: skip
texts = st.text(max_size=5) | st.sampled_from(words)
numbers = st.integers(-1, 70000) | st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | numbers | texts
anything = st.recursive(
    leaves, lambda each: st.lists(each, max_size=2) | st.dictionaries(texts, each, max_size=2), max_leaves=4
)


def places(value, path=()):
    """The way to every value of a document."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from places(part, (*path, name))


PLACES = sorted((path for path in places(WHOLE) if path), key=repr)


def attempt(make):
    """What is made, or the error that refuses it."""
    try:
        return make()
    except ConfigError as error:
        return error


@relaxed
@given(st.lists(st.tuples(st.sampled_from(PLACES), anything), min_size=1, max_size=3))
def test_anything_anywhere_is_read_or_refused_by_its_place(changes):
    document = copy.deepcopy(WHOLE)
    for (*way, last), value in changes:
        part = document
        try:
            for step in way:
                part = part[step]
            part[last] = value
        except (IndexError, KeyError, TypeError):
            continue  # an earlier change took it away
    outcome = attempt(lambda: NetMap.from_dict(document))
    if isinstance(outcome, NetMap):
        assert NetMap.from_dict(outcome.to_dict()) == outcome
        assert NetMap.from_json(outcome.to_json()) == outcome
        assert outcome.to_json().isascii()
        made = attempt(lambda: derive(outcome.with_private_key(SECRET), Prefs(accept_routes=True)))
        assert made.field if isinstance(made, ConfigError) else len(made.wg.peers) <= len(outcome.peers)
        return
    assert isinstance(outcome, ConfigError)
    assert outcome.field
    assert outcome.field.split(".")[0].split("[")[0] in {path[0] for path in PLACES}
    assert len(str(outcome)) < 600


@relaxed
@given(st.integers(0, 5000), st.text(max_size=3), st.integers(0, 3))
def test_a_damaged_text_is_read_or_refused(at, put, cut):
    text = json.dumps(WHOLE)
    at %= len(text)
    damaged = text[:at] + put + text[at + cut :]
    outcome = attempt(lambda: NetMap.from_json(damaged, source="n.json"))
    if isinstance(outcome, NetMap):
        assert NetMap.from_dict(outcome.to_dict()) == outcome
    else:
        assert str(outcome).startswith("n.json")
