"""Names of DNS."""

import pytest
from wgengine.errors import ConfigError
from wgengine.fqdn import covers, fqdn, label_count, parent


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", "."),
        (".", "."),
        ("corp.example", "corp.example."),
        ("Corp.EXAMPLE.", "corp.example."),
        (".corp.example", "corp.example."),
        ("_dmarc.a b", "_dmarc.a b."),
        ("bücher.example", "bücher.example."),
        ("a" * 63, "a" * 63 + "."),
        (".".join(["a" * 63] * 3 + ["b" * 61]), ".".join(["a" * 63] * 3 + ["b" * 61]) + "."),
    ],
)
def test_names_are_read_in_one_form(text, name):
    assert fqdn(text) == name
    assert fqdn(name) == name


@pytest.mark.parametrize(
    "text",
    [
        "..",
        "a..b",
        "a..",
        "..a",
        "a\0b",
        "a" * 64,  # the last label counts, too
        "a." + "b" * 64,
        "ü" * 32,  # 64 bytes
        ".".join(["a" * 63] * 3 + ["b" * 62]),
        "\ud800",
    ],
)
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ConfigError, match="write"):
        fqdn(text)


def test_suffixes():
    assert covers(".", "a.b.")
    assert covers("b.", "b.")
    assert covers("b.", "a.b.")
    assert not covers("b.", "ab.")
    assert not covers("a.b.", "b.")
    assert [label_count(name) for name in (".", "a.", "a.b.")] == [0, 1, 2]
    assert [parent(name) for name in (".", "a.", "a.b.")] == [None, None, "b."]
