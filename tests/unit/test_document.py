"""JSON documents: what is refused, and that every error says where."""

import pytest
from wgengine.document import Fields, data_of, loads, raw
from wgengine.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "n.json: a: this key is written twice"),
        ('{"P": [{}, {"x": {"b": 1, "c": [], "b": 3}}]}', "n.json: P[1].x.b: this key is written twice"),
        ('{"a b": {"c": 1, "c": 1}}', 'n.json: ["a b"].c: this key is written twice'),
        ('{"a": NaN}', "n.json: this is no JSON (NaN is no number of JSON)"),
        ('{"a": -Infinity}', "n.json: this is no JSON (-Infinity is no number of JSON)"),
        ('{"a": 1e999}', "n.json: this is no JSON (1e999 is too large a number)"),
        ("[1,\n2", "n.json:2: this is no JSON"),
        ("", "n.json:1: this is no JSON"),
        ("[" * 100_000, "n.json: too many levels"),
        ("1" * 5000, "n.json: this is no JSON"),
        (b'{\n"a": "\xff"}', "n.json:2: this is not UTF-8"),
        ('{"a": 1} x', "n.json:1: this is no JSON"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(text, said):
    with pytest.raises(ConfigError) as caught:
        loads(text, "n.json")
    assert str(caught.value).startswith(said)
    assert len(str(caught.value)) < 300


def test_a_byte_order_mark_is_fine():
    assert loads(b'\xef\xbb\xbf{"a": 1}', "x") == loads('\ufeff{"a": 1}', "x") == {"a": 1}


READERS = {
    "text": lambda f: f.text("x"),
    "integer": lambda f: f.integer("x", 0, 9),
    "flag": lambda f: f.flag("x"),
    "time": lambda f: f.time("x"),
    "texts": lambda f: f.texts("x"),
    "integers": lambda f: f.integers("x"),
    "part": lambda f: f.part("x"),
    "parts": lambda f: list(f.parts("x")),
    "raw_list": lambda f: f.raw_list("x"),
    "raw_lists": lambda f: f.raw_lists("x"),
}


@pytest.mark.parametrize(
    ("reader", "value", "where"),
    [
        ("text", 12, "x"),
        ("text", ["a"], "x"),
        ("text", True, "x"),
        ("text", "\ud800", "x"),
        ("integer", "5", "x"),
        ("integer", 5.0, "x"),
        ("integer", True, "x"),
        ("integer", 10, "x"),
        ("integer", -1, "x"),
        ("flag", 1, "x"),
        ("flag", "true", "x"),
        ("time", "yesterday", "x"),
        ("time", "2026-01-31T12:00:00", "x"),  # without a zone
        ("time", 5, "x"),
        ("texts", "abc", "x"),
        ("texts", ["a", 5], "x[1]"),
        ("texts", ["a", None], "x[1]"),
        ("texts", ["\ud800"], "x[0]"),
        ("integers", [1, True], "x[1]"),
        ("part", [], "x"),
        ("part", "{}", "x"),
        ("parts", [{}, 5], "x[1]"),
        ("parts", {}, "x"),
        ("raw_list", {}, "x"),
        ("raw_list", [object()], "x"),
        ("raw_lists", {"a": 5}, "x.a"),
        ("raw_lists", {5: []}, "x"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_path(reader, value, where):
    document = Fields({"outer": [{}, {"x": value}]})
    (_, fields) = document.parts("outer")
    with pytest.raises(ConfigError, match="write") as caught:
        READERS[reader](fields)
    assert caught.value.field == f"outer[1].{where}"


@pytest.mark.parametrize("reader", READERS)
def test_absent_and_null_are_what_is_empty(reader):
    read = READERS[reader]
    assert read(Fields({})) == read(Fields({"x": None}))
    assert not read(Fields({}))


def test_the_year_one_is_never():
    assert Fields({"x": "0001-01-01T00:00:00Z"}).time("x") == ""
    assert Fields({"x": "2026-01-31T12:00:00.123456789+02:00"}).time("x") == "2026-01-31T12:00:00.123456789+02:00"


def test_a_refused_key_is_not_shown():
    key = "ab" * 32
    for data in ({"x": [key]}, {"x": {key: 1}}):
        fields = Fields(data)
        with pytest.raises(ConfigError) as caught:
            fields.text("x") if isinstance(data["x"], list) else fields.part("x").text(key)
        assert key not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        Fields({"x": f"privkey:{key}"}).time("x")
    assert key not in str(caught.value)


def test_what_nobody_knows_is_kept_or_refused():
    fields = Fields({"a": 1, "b": {"d": 1, "c": [None, 1.5]}})
    assert data_of(fields.rest(frozenset({"a"}))) == {"b": {"d": 1, "c": [None, 1.5]}}
    assert fields.rest(frozenset({"a", "b"})) == ""
    with pytest.raises(ConfigError, match="no such field; write accept"):
        Fields({"acept": 1}).refuse_others(["accept", "other"])
    with pytest.raises(ConfigError, match="write one of accept, other"):
        Fields({"zzz": 1}).refuse_others(["accept", "other"])


def test_raw_data_are_equal_where_the_data_are():
    assert raw({"a": 1, "b": [2]}) == raw({"b": [2], "a": 1}) != raw({"a": 1})
    assert raw({}) == raw([]) == raw(None) == ""
    assert data_of(raw(None)) is None
    with pytest.raises(ConfigError):
        raw({"a": float("nan")})
    with pytest.raises(ConfigError):
        raw({"a": {1, 2}})
