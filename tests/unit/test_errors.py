"""Errors: their place in a message, their kin in the standard library, and what of a secret they never show."""

import pickle

import pytest
from wgengine.changes import Changes, SetMTU
from wgengine.errors import (
    ClosedError,
    ConfigError,
    Error,
    ForkedError,
    PrivilegeError,
    ReconfigError,
    StateError,
    TimedOutError,
    quoted,
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ConfigError, ValueError),
        (PrivilegeError, PermissionError),
        (TimedOutError, TimeoutError),
        (ReconfigError, ExceptionGroup),
        (ClosedError, StateError),
        (ForkedError, StateError),
        (StateError, Exception),
    ],
)
def test_each_error_is_ours_and_the_standard_librarys(ours, theirs):
    assert issubclass(ours, Error)
    assert issubclass(ours, theirs)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "no such thing"),
        ({"file": "wg0.conf", "line": 7, "field": "MTU"}, "wg0.conf:7: MTU: no such thing"),
        ({"file": "wg0.conf"}, "wg0.conf: no such thing"),
        ({"line": 7}, "line 7: no such thing"),
        ({"field": "mtu"}, "mtu: no such thing"),
    ],
)
def test_a_config_error_names_its_place(place, text):
    assert str(ConfigError("no such thing", **place)) == text


def test_at_fills_in_a_place_and_keeps_what_is_known():
    error = ConfigError("bad", field="mtu").at(file="a.conf", line=3)
    assert (error.file, error.line, error.field, error.message) == ("a.conf", 3, "mtu", "bad")


def test_a_config_error_survives_pickle():
    error = pickle.loads(pickle.dumps(ConfigError("bad", file="a.conf", line=3, field="MTU")))
    assert str(error) == "a.conf:3: MTU: bad"


def test_a_privilege_error_keeps_its_errno():
    error = PrivilegeError(1, "not allowed")
    assert error.errno == 1
    assert error.strerror == "not allowed"


def make_group():
    return ReconfigError("two failed", [OSError(2, "no file"), ValueError("bad")], Changes((SetMTU(None, 1280),)))


def test_a_reconfig_error_is_split_by_except_star():
    caught = []
    try:
        raise make_group()
    except* OSError as group:
        caught.append(group)
    except* ValueError as group:
        caught.append(group)
    assert [type(group) for group in caught] == [ReconfigError, ReconfigError]
    assert [group.changes for group in caught] == [make_group().changes] * 2
    assert caught[0].exceptions[0].errno == 2


def test_a_reconfig_error_split_keeps_message_and_changes():
    match, rest = make_group().split(OSError)
    assert match.message == rest.message == "two failed"
    assert str(rest.changes) == "~ mtu default → 1280"
    assert "2 sub-exceptions" in str(make_group())


def test_a_reconfig_error_survives_pickle():
    again = pickle.loads(pickle.dumps(make_group()))
    assert again.changes == make_group().changes
    assert [type(each) for each in again.exceptions] == [FileNotFoundError, ValueError]


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("abc", '"abc"'),
        ("a\x1b[31mb\u200b", '"a\\x1b[31mb\\u200b"'),
        ("x" * 30 + "." + "y" * 100, '"' + "x" * 30 + "." + '(hidden key)"'),
        ("a." * 100, '"' + "a." * 30 + '…"'),
        ("k=8HVbNOh8bpKUGeXo08E97c2GohkHFQ6hfSQA5pvs4nY=", '"k=(hidden key)"'),
        ("f075" * 16, '"(hidden key)"'),
    ],
)
def test_a_refused_word_is_quoted_printable_short_and_never_a_key(word, shown):
    assert quoted(word) == shown
