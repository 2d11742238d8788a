"""Odd configuration files (C7 I-12): whatever one line holds, it is read, or refused with that line's number, and what
was read is written back as the same."""

import resource

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model.strategies import configs
from wgengine.config import Config
from wgengine.errors import ConfigError

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SECRET = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICEg="
HEAD = f"[Interface]\nPrivateKey = {SECRET}\n"
PEER = "\n[Peer]\nPublicKey = FRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRUVFRU=\n"
# each is wrong wherever it stands
WRONG = [
    "Frobnicate = 1",
    "ListenPort\0 = 1",
    "\0",
    "List\renPort = 1",
    "no equals sign",
    "[Stranger]",
    "= 1",
    "MTU = many",
    "AllowedIPs = 10.0.0.0/33",
    "Endpoint = [fe80::1:5",
    "Address = 10.0.0.256/8",
    "Table = nowhere",
    "ListenPort = 65536",
    "PersistentKeepalive = -1",
]


@relaxed
@given(configs(), st.sampled_from(WRONG), st.data())
def test_i12_one_wrong_line_anywhere_is_named_by_its_number(config, wrong, data):
    lines = config.to_text().split("\n")
    at = data.draw(st.integers(1, len(lines)))  # below the first line, which begins a section
    lines.insert(at, wrong)
    with pytest.raises(ConfigError) as refusal:
        Config.from_text("\n".join(lines), source="odd.conf")
    assert refusal.value.line == at + 1
    assert str(refusal.value).startswith(f"odd.conf:{at + 1}")
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("lines", "same_as"),
    [
        ("ListenPort = 51820 # office, since 2019", "ListenPort = 51820"),
        ("ListenPort = 51820#office", "ListenPort = 51820"),
        ("Address = 10.0.0.1/8 ,  fd00::1/64", "Address = 10.0.0.1/8, fd00::1/64"),
        ("ListenPort = 1\nListenPort = 51820", "ListenPort = 51820"),
        ("PostUp = ip rule add dev %i; echo %%i", "PostUp = ip rule add dev %i; echo %%i"),
        ("DNS = bücher.example", "DNS = bücher.example"),
    ],
)
def test_i12_odd_lines_mean_what_wg_quick_means(lines, same_as):
    config = Config.from_text(HEAD + lines + "\n" + PEER)
    assert config == Config.from_text(HEAD + same_as + "\n" + PEER)
    assert Config.from_text(config.to_text()) == config
    for text in ("\ufeff" + HEAD + lines + "\n" + PEER, (HEAD + lines + "\n" + PEER).replace("\n", "\r\n")):
        assert Config.from_text(text) == config


@pytest.mark.parametrize("host", ["bücher.example", "xn--bcher-kva.example", "भारत.example", "例え.jp"])
def test_i12_an_endpoint_by_an_international_name_is_kept(host):
    config = Config.from_text(f"{HEAD}{PEER}Endpoint = {host}:51820\n")
    assert Config.from_text(config.to_text()) == config
    (peer,) = config.peers
    assert str(peer.endpoint).endswith(":51820")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("PostUp = " + "x" * 10_000_000, None),
        ("# " + "x" * 10_000_000, None),
        ("ListenPort = " + "1" * 10_000_000, "ListenPort"),
        ("A" * 10_000_000 + " = 1", "key"),
        ("Address = " + ", ".join(["10.0.0.1/33"] * 900_000), "Address"),
        ("\0" * 10_000_000, "NUL"),
    ],
)
def test_i12_a_line_of_ten_megabytes_is_read_or_refused_briefly_and_in_bounded_memory(line, reason):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = f"{HEAD}{line}\n{PEER}"
    if reason is None:
        assert Config.from_text(text).to_text().count("x") >= 10_000_000
    else:
        with pytest.raises(ConfigError, match=reason) as refusal:
            Config.from_text(text, source="long.conf")
        assert refusal.value.line == 3
        assert len(str(refusal.value)) < 500
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 600 << 10, f"{grown} KiB for a line of ten megabytes"
