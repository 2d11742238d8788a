"""The text form against slow and obvious models: what is written is read again, and noise changes nothing."""

import codecs
import random
import string

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model.strategies import configs
from wgengine import wgquick
from wgengine.config import Config
from wgengine.errors import ConfigError

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(configs())
def test_what_is_written_is_read_again(config):
    text = config.to_text()
    again = Config.from_text(text)
    assert again == config
    assert again.warnings == () or "IPv6" in again.warnings[0]
    assert wgquick.decode(text.encode(), "x") == text


@relaxed
@given(configs())
def test_what_was_read_is_written_alike_with_every_comment_in_its_place(config):
    text = config.to_text()
    again = Config.from_text(text)
    assert again.to_text() == text
    assert Config.from_text(again.to_text()).comments == again.comments


@relaxed
@given(configs())
def test_no_comment_of_a_present_peer_is_lost(config):
    text = config.to_text()
    present = {None, *(peer.public_key for peer in config.peers)}
    for comment in config.comments:
        assert comment.peer not in present or f"#{comment.text}" in text


def with_noise(text, rng):
    """The same configuration as another hand would have typed it."""
    lines = []
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("["):
            line = "".join(rng.choice([c.lower(), c.upper()]) for c in line)
        elif "=" in line:
            key, value = line.split(" = ", 1)
            key = "".join(rng.choice([c.lower(), c.upper()]) for c in key)
            if key.lower() in ("allowedips", "address", "dns") and rng.random() < 0.5:
                # one line for each value, or only commas between them
                values = value.split(", ")
                if rng.random() < 0.5:
                    lines += [f"{key}={each}" for each in values[:-1]]
                    value = values[-1]
                else:
                    value = ",".join(values)
            line = f"{key}{rng.choice(['', ' ', chr(9)])}={rng.choice(['', ' ', chr(9) * 2])}{value}"
        line = rng.choice(["", " ", "\t"]) + line + rng.choice(["", " ", "\t", " # noise", "#[Peer]"])
        lines.append(line)
        if rng.random() < 0.2:
            lines.append(rng.choice(["", "   ", "# [Interface]", "#PublicKey = x", "\t#"]))
    end = rng.choice(["\n", "\r\n"])
    return rng.choice(["", "\ufeff"]) + end.join(lines) + rng.choice(["", end])


@relaxed
@given(configs(), st.integers(0, 2**32))
def test_letter_case_blanks_comments_and_line_ends_change_nothing(config, seed):
    noisy = with_noise(config.replace(comments=()).to_text(), random.Random(seed))
    assert Config.from_text(noisy) == config


SECRET = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICEg="
PUBLIC = "FRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRU="
WORDS = [
    "[Interface]",
    "[Peer]",
    "PrivateKey",
    "PublicKey",
    "AllowedIPs",
    "Address",
    "DNS",
    "MTU",
    "PostUp",
    "10.0.0.0/8",
    "::/0",
    "1400",
    "off",
    "=",
    "#",
    ",",
]
pieces = st.sampled_from([*WORDS, SECRET, PUBLIC, "\n", "\n", "\r\n", " ", "\0", "\ufeff", "\u00a0", "\u2028", "\x85"])


def read(text):
    """The configuration, or the error that refuses it."""
    try:
        return Config.from_text(text, source="any.conf")
    except ConfigError as error:
        return error


def is_sound(outcome):
    if isinstance(outcome, Config):
        return Config.from_text(outcome.to_text()) == outcome
    text = str(outcome)
    return text.startswith("any.conf") and len(text) < 500 and text.isprintable()


@relaxed
@given(st.lists(pieces | st.text(string.printable, max_size=6), max_size=40).map("".join))
def test_any_text_is_read_or_refused(text):
    assert is_sound(read(text))
    assert is_sound(read(f"[Interface]\nPrivateKey = {SECRET}\n{text}"))


@relaxed
@given(configs(), st.data())
def test_a_damaged_file_is_read_or_refused(config, data):
    text = config.to_text()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 4))
        text = text[:at] + data.draw(pieces | st.just("")) + text[at + cut :]
    assert is_sound(read(text))


@relaxed
@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(data):
    try:
        outcome = wgquick.decode(data, "any.conf").encode()
    except ConfigError as error:
        outcome = str(error)
    expected = (data, data.removeprefix(codecs.BOM_UTF8))
    assert outcome in expected or (isinstance(outcome, str) and outcome.endswith("as UTF-8"))


def test_many_comments_cost_no_more_than_many_lines():
    lines = "".join(f"AllowedIPs = 10.0.{n >> 8}.{n & 255}/32 # {n}\n" for n in range(2000))
    text = f"[Interface]\nPrivateKey = {SECRET}\n\n[Peer]\nPublicKey = {PUBLIC}\n{lines}"
    assert Config.from_text(text).to_text() == text
