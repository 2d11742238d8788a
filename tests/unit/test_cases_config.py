"""Faults from real trouble reports, as far as they lie in the configuration. Each test bears the report's number."""

import os
import socket
import subprocess
import sys
import textwrap

import pytest
from wgengine.config import Config, Endpoint
from wgengine.device_plan import device_plan
from wgengine.errors import ConfigError
from wgengine.reconfig import AddAddress, AddPeer, AddRoute, RemovePeer, SetDNS, SetListenPort, diff

SECRET = "8HVbNOh8bpKUGeXo08E97c2GohkHFQ6hfSQA5pvs4nY="
FIRST = "nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U="
SECOND = "E2n+4goIysa+phcqj9b8RkZd+SxoCA3mghUSBYxSSQI="


def make_text(interface="", peer="", *more):
    text = f"[Interface]\nPrivateKey = {SECRET}\n{interface}\n[Peer]\nPublicKey = {FIRST}\n{peer}\n"
    return text + "".join(f"[Peer]\n{section}\n" for section in more)


def read_file(tmp_path, data):
    path = tmp_path / "wgc1.conf"
    path.touch(mode=0o600)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return Config.from_file(path)


PLAIN = make_text("Address = 10.9.0.1/24\nListenPort = 51820\n", "AllowedIPs = 10.9.0.2/32")


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.rstrip("\n").encode(),
        lambda text: text.rstrip("\n").replace("\n", "\r\n").encode() + b"\r",
    ],
    ids=["bom-crlf", "bom", "crlf", "no-last-line-end", "crlf-cut"],
)
def test_case_01_bom_crlf_and_a_missing_line_end_change_nothing(tmp_path, encode):
    config = read_file(tmp_path, encode(PLAIN))
    assert config == Config.from_text(PLAIN)
    assert (config.listen_port, config.addresses) == (51820, ("10.9.0.1/24",))
    assert [peer.allowed_ips for peer in config.peers] == [("10.9.0.2/32",)]
    plan = str(diff(None, config))
    assert plan == str(diff(None, Config.from_text(PLAIN)))
    assert "\r" not in plan + config.to_text()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_case_01_another_encoding_is_named(tmp_path, encoding):
    with pytest.raises(ConfigError) as caught:
        read_file(tmp_path, ("\ufeff" + PLAIN).encode(encoding))
    assert encoding.upper().replace("-", "", 1).replace("-", "") in str(caught.value).replace("-", "")
    assert "wgc1.conf" in str(caught.value)
    assert "UTF-8" in str(caught.value)


def test_case_01_utf16_without_a_mark_is_guessed(tmp_path):
    with pytest.raises(ConfigError, match="UTF-16") as caught:
        read_file(tmp_path, PLAIN.encode("utf-16-le"))
    assert caught.value.line == 1


def test_case_03_a_commented_peer_is_no_peer():
    text = make_text(
        "Address = 10.9.0.1/24\n# [Peer]\n#PublicKey = " + SECOND + "\n#AllowedIPs = 10.9.0.3/32\n"
        "# friendly_name = the [Peer] that we lost\n",
        "# friendly_name = office\nAllowedIPs = 10.9.0.2/32",
    )
    config = Config.from_text(text)
    assert [(str(peer.public_key), peer.allowed_ips) for peer in config.peers] == [(FIRST, ("10.9.0.2/32",))]
    changes = diff(None, config)
    assert "10.9.0.3" not in str(changes) + repr(config)
    # and the comments are still there, where they stood
    assert "# friendly_name = office\n" in config.to_text()
    interface, _, peer = config.to_text().partition("\n[Peer]\n")
    assert f"# [Peer]\n#PublicKey = {SECOND}\n#AllowedIPs = 10.9.0.3/32\n" in interface
    assert SECOND not in peer


def test_case_05_prefix_forms():
    text = make_text("Address = 10.9.0.1", "AllowedIPs = 10.9.0.77/24, 10.8.0.1, 2001:db8:0:5::5/64,2001:db8:1::9")
    config = Config.from_text(text, source="wgc5.conf")
    assert config.addresses == ("10.9.0.1/32",)
    assert set(config.peers[0].allowed_ips) == {
        "10.9.0.0/24",
        "10.8.0.1/32",
        "2001:db8:0:5::/64",
        "2001:db8:1::9/128",
    }
    assert len(config.warnings) == 2
    for warning, entry in zip(config.warnings, ("10.9.0.77/24", "2001:db8:0:5::5/64"), strict=True):
        assert warning.startswith("wgc5.conf:6: AllowedIPs: ")
        assert entry in warning


@pytest.mark.parametrize(
    "entry", ["10.9.0.2/33", "10.9.0/24", "10.9.0.2/-1", "2001:db8::/129", "10.9.0.2/ 24x", "(none)"]
)
def test_case_05_a_bad_prefix_names_file_line_and_word(tmp_path, entry):
    with pytest.raises(ConfigError) as caught:
        read_file(tmp_path, make_text("Address = 10.9.0.1", f"AllowedIPs = 10.0.0.0/8, {entry}"))
    assert caught.value.file == str(tmp_path / "wgc1.conf")
    assert (caught.value.line, caught.value.field) == (6, "AllowedIPs")
    assert f'"{entry}"' in str(caught.value)


@pytest.mark.parametrize("off", ["off", "OFF", "Off"])
@pytest.mark.parametrize(
    ("fwmark", "port", "keepalive", "expected"),
    [
        ("0x64", "51820", "off", (0x64, 51820, 0)),
        ("off", "0", "0", (0, 0, 0)),
        ("4294967295", "65535", "65535", (0xFFFFFFFF, 65535, 65535)),
        ("0xFFFFFFFF", "51820", "25", (0xFFFFFFFF, 51820, 25)),
    ],
)
def test_case_07_numbers(off, fwmark, port, keepalive, expected):
    fwmark, keepalive = fwmark.replace("off", off), keepalive.replace("off", off)
    config = Config.from_text(
        make_text(f"FwMark = {fwmark}\nListenPort = {port}", f"PersistentKeepalive = {keepalive}")
    )
    assert (config.fwmark, config.listen_port, config.peers[0].persistent_keepalive) == expected
    assert Config.from_text(config.to_text()) == config


@pytest.mark.parametrize(
    ("fwmark", "port", "keepalive", "key", "line"),
    [
        ("0x1FFFFFFFF", "51820", "25", "FwMark", 3),
        ("off", "65536", "25", "ListenPort", 4),
        ("off", "51820", "65536", "PersistentKeepalive", 7),
        ("12abc", "51820", "25", "FwMark", 3),
        ("off", "51820", "-1", "PersistentKeepalive", 7),
    ],
)
def test_case_07_a_bad_number_names_key_and_line(fwmark, port, keepalive, key, line):
    with pytest.raises(ConfigError) as caught:
        Config.from_text(make_text(f"FwMark = {fwmark}\nListenPort = {port}", f"PersistentKeepalive = {keepalive}"))
    assert (caught.value.field, caught.value.line) == (key, line)


def test_case_09_letter_case_and_blanks():
    config = Config.from_text(
        f" [INTERFACE]\nprivatekey={SECRET}\n\tLISTENPORT\t=\t51999\naddress=10.9.0.1/24,2001:db8:9::1/64\n"
        f"[peer]\n  Publickey={FIRST}\nAllowedIps=10.9.0.2/32,10.9.0.3/32\n   endpoint = 192.0.2.1:1\n"
    )
    assert config.private_key.to_base64() == SECRET
    assert config.listen_port == 51999
    assert config.addresses == ("10.9.0.1/24", "2001:db8:9::1/64")
    (peer,) = config.peers
    assert str(peer.public_key) == FIRST
    assert peer.allowed_ips == ("10.9.0.2/32", "10.9.0.3/32")
    assert peer.endpoint == Endpoint("192.0.2.1", 1)


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        (make_text("", "AlowedIPs = 10.0.0.0/8"), 6, "AllowedIPs"),
        (make_text("AllowedIPs = 10.0.0.0/8"), 3, "[Peer]"),
        (make_text("", "Address = 10.0.0.1"), 6, "[Interface]"),
        (make_text("Jc = 4"), 3, "PrivateKey"),
    ],
)
def test_case_09_an_unknown_key_is_an_error(text, line, hint):
    with pytest.raises(ConfigError, match="Invalid key for") as caught:
        Config.from_text(text)
    assert caught.value.line == line
    assert hint in str(caught.value)


CLAIMS = make_text(
    "Address = 10.9.0.1/24",
    "AllowedIPs = 0.0.0.0/0, 10.9.0.2/32",
    f"PublicKey = {SECOND}\nAllowedIPs = 0.0.0.0/0, 10.9.0.0/24",
)


def test_case_11_the_last_claim_of_a_prefix_wins_and_is_told():
    config = Config.from_text(CLAIMS)
    first, second = config.peers
    assert first.allowed_ips == ("10.9.0.2/32",)
    assert second.allowed_ips == ("0.0.0.0/0", "10.9.0.0/24")
    (warning,) = config.warnings
    assert warning.startswith("0.0.0.0/0 ")
    assert warning.index(FIRST) < warning.index("loses") < warning.index(SECOND)


def test_case_11_the_device_is_told_of_no_doubt():
    plan = device_plan(diff(None, Config.from_text(CLAIMS)).steps)
    assert [peer.allowed_ips for peer in plan.peers] == [("10.9.0.2/32",), ("0.0.0.0/0", "10.9.0.0/24")]


def test_case_11_a_removed_peer_gives_nothing_back():
    config = Config.from_text(CLAIMS)
    second = config.peers[1].public_key
    less = config.without_peer(second)
    assert less.peers[0].allowed_ips == ("10.9.0.2/32",)
    assert diff(config, less).steps == (RemovePeer(second),)


def route_text(table):
    line = "" if table is None else f"Table = {table}"
    return make_text(
        f"Address = 10.9.0.1/24\n{line}",
        "Endpoint = 192.0.2.1:51820\nAllowedIPs = 0.0.0.0/0, ::/0, 10.20.0.0/16",
    )


@pytest.mark.parametrize(
    ("table", "routes", "skipped"),
    [
        ("off", [], 0),
        ("OFF", [], 0),
        ("1234", [AddRoute("0.0.0.0/0", 1234), AddRoute("::/0", 1234), AddRoute("10.20.0.0/16", 1234)], 0),
        ("0x4d2", [AddRoute("0.0.0.0/0", 1234), AddRoute("::/0", 1234), AddRoute("10.20.0.0/16", 1234)], 0),
        ("auto", [AddRoute("10.20.0.0/16", None)], 2),
        (None, [AddRoute("10.20.0.0/16", None)], 2),
        ("main", [AddRoute("10.20.0.0/16", 254)], 2),
    ],
)
def test_case_13_table(table, routes, skipped):
    changes = diff(None, Config.from_text(route_text(table)))
    assert [step for step in changes.steps if isinstance(step, AddRoute)] == routes
    assert len(changes.skipped) == skipped


@pytest.mark.parametrize("table", ["banana", "0", "-1", "0x1ffffffff", "12 34"])
def test_case_13_a_table_that_is_none(table):
    with pytest.raises(ConfigError, match="not a table") as caught:
        Config.from_text(route_text(table))
    assert (caught.value.line, caught.value.field) == (4, "Table")


DNS = make_text(
    "Address = 10.9.0.1/24\nDNS = 198.51.100.53,2001:db8::53, corp.example , lab.example.", "AllowedIPs = 10.9.0.0/24"
)


def test_case_15_servers_and_search_domains():
    config = Config.from_text(DNS)
    assert config.dns == ("198.51.100.53", "2001:db8::53")
    assert config.dns_search == ("corp.example", "lab.example")
    assert Config.from_text(config.to_text()) == config


def test_case_15_dns_that_nobody_may_set_is_skipped_by_name():
    config = Config.from_text(DNS)
    (skipped,) = diff(None, config).skipped
    for word in ("198.51.100.53", "2001:db8::53", "corp.example", "lab.example"):
        assert word in str(skipped)
    changes = diff(None, config, can_dns=True)
    assert changes.skipped == ()
    assert SetDNS(config.dns, config.dns_search) in changes.steps


def test_case_15_no_name_is_looked_up(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a look-up while parsing")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyaddr", "socket"):
        monkeypatch.setattr(socket, name, refuse)
    text = DNS.replace("AllowedIPs", "Endpoint = vpn.example:51820\nAllowedIPs")
    assert Config.from_text(text).peers[0].endpoint == Endpoint("vpn.example", 51820)


def test_case_15_the_parser_does_not_even_load_sockets():
    # a fresh interpreter: neither the pure rooms nor what they import open the network
    code = textwrap.dedent("""
        import sys
        import wgengine.config, wgengine.wgquick, wgengine.reconfig, wgengine.knobs
        print([name for name in ("socket", "asyncio", "ssl", "subprocess") if name in sys.modules])
    """)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert run.stdout.strip() == "[]", run.stderr


def test_the_plan_of_a_plain_file_is_what_it_says():
    changes = diff(None, Config.from_text(PLAIN))
    assert [type(step) for step in changes.steps][1:] == [SetListenPort, AddPeer, AddAddress]
    assert list(changes)[1:] == [
        "~ listen_port 0 → 51820",
        f"+ peer {FIRST} allowed_ips 10.9.0.2/32",
        "+ address 10.9.0.1/24",
    ]
