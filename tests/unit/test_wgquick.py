"""The text of wg-quick files: what is read, what is refused where, and how it is written back."""

import subprocess

import pytest
from wgengine import wgquick
from wgengine.comments import Comment
from wgengine.config import Config, NetworkLogging, Peer
from wgengine.errors import ConfigError
from wgengine.keys import PresharedKey, PrivateKey, PublicKey

SECRET = "8HVbNOh8bpKUGeXo08E97c2GohkHFQ6hfSQA5pvs4nY="
FIRST = "nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U="
SECOND = "E2n+4goIysa+phcqj9b8RkZd+SxoCA3mghUSBYxSSQI="
PSK = "f075f075f075f075f075f075f075f075f075f075f075f075f075f075f075f075"
HEAD = f"[Interface]\nPrivateKey = {SECRET}\n"
PEER = f"[Peer]\nPublicKey = {FIRST}\n"

WHOLE = f"""\
[Interface]
PrivateKey = {SECRET}
ListenPort = 51820
FwMark = 0x64
MTU = 1380
Address = 10.9.0.1/24, fd00::1/64
DNS = 198.51.100.53, corp.example
Table = 1234
PreUp = echo before %i
PostUp = iptables -A FORWARD -i %i -j ACCEPT; iptables -A FORWARD -o %i -j ACCEPT
PostUp = sysctl -w a.b=1, 2 = 3
PreDown = true
PostDown = echo "after"  %i
SaveConfig = true

[Peer]
PublicKey = {FIRST}
PresharedKey = {PresharedKey.from_hex(PSK).to_base64()}
AllowedIPs = 10.9.0.2/32, fd00::2/128
Endpoint = vpn.example:51820
PersistentKeepalive = 25

[Peer]
PublicKey = {SECOND}
"""


def test_every_key_is_read():
    config = Config.from_text(WHOLE)
    assert config == Config(
        private_key=PrivateKey.from_base64(SECRET),
        listen_port=51820,
        fwmark=0x64,
        mtu=1380,
        addresses=["10.9.0.1/24", "fd00::1/64"],
        dns=["198.51.100.53"],
        dns_search=["corp.example"],
        table=1234,
        pre_up=["echo before %i"],
        post_up=[
            "iptables -A FORWARD -i %i -j ACCEPT; iptables -A FORWARD -o %i -j ACCEPT",
            "sysctl -w a.b=1, 2 = 3",
        ],
        pre_down=["true"],
        post_down=['echo "after"  %i'],
        save_config=True,
        peers=[
            Peer(
                public_key=FIRST,
                preshared_key=PresharedKey.from_hex(PSK),
                allowed_ips=["10.9.0.2/32", "fd00::2/128"],
                endpoint="vpn.example:51820",
                persistent_keepalive=25,
            ),
            Peer(public_key=SECOND),
        ],
    )
    assert config.warnings == ()


def test_what_is_canonical_is_written_as_it_was_read():
    assert Config.from_text(WHOLE).to_text() == WHOLE


def test_defaults_are_not_written():
    interface = HEAD + "ListenPort = 0\nFwMark = off\nTable = auto\nSaveConfig = false\n"
    assert Config.from_text(interface + PEER + "PersistentKeepalive = off\n").to_text() == HEAD + "\n" + PEER


@pytest.mark.parametrize("order", [(HEAD, PEER), (PEER, HEAD)])
def test_sections_come_in_any_order(order):
    assert Config.from_text("\n".join(order)) == Config.from_text(HEAD + PEER)


@pytest.mark.parametrize(
    ("lines", "same_as"),
    [
        ("Address = 10.0.0.1/8\nAddress = 10.1.0.1/16", "Address = 10.0.0.1/8, 10.1.0.1/16"),
        ("Address = 10.0.0.1/8 10.1.0.1/16", "Address = 10.0.0.1/8, 10.1.0.1/16"),
        ("Address = 10.0.0.1/8,,10.1.0.1/16,", "Address = 10.0.0.1/8, 10.1.0.1/16"),
        ("DNS = 10.0.0.1\nDNS = b.c, 10.0.0.2", "DNS = 10.0.0.1, 10.0.0.2, b.c"),
        ("PostUp = a\nPreUp = b\nPostUp = c", "PreUp = b\nPostUp = a\nPostUp = c"),
        ("Listen Port = 5 1 8 2 0", "ListenPort = 51820"),
        ("ListenPort = 000051820", "ListenPort = 51820"),
        ("ListenPort = 51820 # why not", "ListenPort = 51820"),
        ("PostUp = echo a # and not b", "PostUp = echo a"),
        ("SaveConfig = TRUE", "SaveConfig = true"),
        ("Table = MAIN", "Table = 254"),
        ("FwMark = 0X64", "FwMark = 100"),
        ("Address =\nDNS =\nMTU =\nTable =\nPreUp =\nPostUp =\nPreDown =\nPostDown =", ""),
        ("MTU = 1400\nMTU =", ""),
        ("\v ListenPort\f=\t51820", "ListenPort = 51820"),
    ],
)
def test_interface_lines_as_wg_and_wg_quick_take_them(lines, same_as):
    assert Config.from_text(f"{HEAD}{lines}\n{PEER}") == Config.from_text(f"{HEAD}{same_as}\n{PEER}")


@pytest.mark.parametrize(
    ("lines", "same_as"),
    [
        ("AllowedIPs = 10.0.0.1\nAllowedIPs = 10.0.0.2", "AllowedIPs = 10.0.0.1/32, 10.0.0.2/32"),
        ("AllowedIPs = 10.0.0.0 / 8 ,fd00 :: /8", "AllowedIPs = 10.0.0.0/8, fd00::/8"),
        ("AllowedIPs =", ""),
        ("AllowedIPs = 10.0.0.1\nAllowedIPs =", "AllowedIPs = 10.0.0.1"),
        ("Endpoint = [2001:DB8:0::1]:1", "Endpoint = [2001:db8::1]:1"),
        (f"PresharedKey = {PresharedKey.from_hex('00' * 32).to_base64()}", ""),
    ],
)
def test_peer_lines_as_wg_takes_them(lines, same_as):
    assert Config.from_text(f"{HEAD}{PEER}{lines}") == Config.from_text(f"{HEAD}{PEER}{same_as}")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("", None, "no [Interface]"),
        ("# nothing", None, "no [Interface]"),
        (PEER, None, "no [Interface]"),
        ("ListenPort = 1", 1, "Line must occur in a section"),
        ("\n[Interface]\nListenPort = 1\n", 2, "An interface must have a private key"),
        (HEAD + "[Peer]\nAllowedIPs = 10.0.0.0/8", 3, "All peers must have public keys"),
        (HEAD + HEAD, 3, "A second [Interface]: the first is in line 1"),
        (HEAD + "[Perr]", 3, "Unknown section"),
        (HEAD + "[Peer", 3, "Unknown section"),
        (HEAD + "MTU 1400", 3, "Invalid config key is missing an equals separator"),
        (HEAD + "ListenPort =", 3, "Key must have a value"),
        (HEAD + "ListenPort = # 51820", 3, "Key must have a value"),
        (HEAD + "SaveConfig =", 3, "Key must have a value"),
        (HEAD + PEER + "PresharedKey =", 5, "Key must have a value"),
        (HEAD + "SaveConfig = yes", 3, "neither true nor false"),
        (HEAD + "MTU = 575", 3, "from 576 to 65535"),
        (HEAD + "MTU = 1 400", 3, "from 576 to 65535"),
        (HEAD + "ListenPort = 0x50", 3, "from 0 to 65535"),
        (HEAD + "ListenPort = domain", 3, "from 0 to 65535"),
        (HEAD + "ListenPort = " + "9" * 5000, 3, "from 0 to 65535"),
        (HEAD + "DNS = 10.0.0.300", 3, "not an IP address"),
        (HEAD + "DNS = a..b", 3, "neither an address nor a domain"),
        (HEAD + "Address = vpn.example", 3, "not an address"),
        (HEAD + "PrivateKey = abc", 3, "PrivateKey"),
        (HEAD + PEER + "AllowedIPs = 10.0.0.1,,10.0.0.2", 5, "Two commas in a row"),
        (HEAD + PEER + "AllowedIPs = 10.0.0.1,", 5, "Two commas in a row"),
        (HEAD + PEER + "AllowedIPs = 10.0.0.1 10.0.0.2", 5, "write commas between entries"),
        (HEAD + PEER + "AllowedIPs = +10.0.0.1", 5, '"+10.0.0.1"'),
        (HEAD + PEER + "Endpoint = vpn.example", 5, "Missing port from endpoint"),
        (HEAD + PEER + "Endpoint = (none)", 5, "Missing port from endpoint"),
        (HEAD + PEER + "ListenPort = 1", 5, "ListenPort belongs in [Interface]"),
        (HEAD + "[Peer]\nPublicKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 4, "low-order"),
        (HEAD + "[Peer]\nPublicKey = Uz7Bb/Um7GyuPznoUjjBe1vDlGSI88nJ3GesVkaj8lA=", 4, "own public key"),
        (HEAD + PEER + "\n" + PEER, 7, "line 4 has the public key"),
        (HEAD + "MTU = 1400\0", 3, "NUL"),
        (HEAD + "MTU = 1400\rDNS = 10.0.0.1", 3, "carriage return"),
        ("[Interface]\rPrivateKey = x\r", 1, "carriage return"),
        (HEAD + "MTU\u00a0= 1400", 3, "Invalid key"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, line, reason):
    with pytest.raises(ConfigError) as caught:
        Config.from_text(text, source="wg0.conf")
    assert caught.value.file == "wg0.conf"
    assert caught.value.line == line
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"[Interface]\n{SECRET}",
        f"[Interface]\nPrivateKey {SECRET}",
        f"[Interface]\nPrivateKey:{SECRET}",
        f"[Interface]\nPrivKey = {SECRET}",
        f"[Interface]\nPrivateKey = {SECRET}x",
        f"[Interface]\nPrivateKey = {SECRET[:-1]}",
        f"{HEAD}ListenPort = {SECRET}",
        f"{HEAD}Address = {SECRET}",
        f"{HEAD}DNS = {SECRET}",
        f"{HEAD}Table = {SECRET}",
        f"{HEAD}SaveConfig = {SECRET}",
        f"{HEAD}[{SECRET}]",
        f"{HEAD}{PEER}AllowedIPs = {SECRET}",
        f"{HEAD}{PEER}Endpoint = {SECRET}",
        f"{HEAD}{PEER}Endpoint = {SECRET}:1",
        f"{HEAD}{PEER}PersistentKeepalive = {SECRET}",
        f"{HEAD}[Peer]\nPublicKey = {SECRET}x",
    ],
)
def test_a_key_on_the_wrong_line_is_not_shown(text):
    with pytest.raises(ConfigError) as caught:
        Config.from_text(text)
    assert SECRET[:20] not in str(caught.value)


def test_a_key_written_twice_counts_once_the_last_time_with_a_warning():
    config = Config.from_text(f"{HEAD}MTU = 1400\n\nMTU = 1380\n{PEER}PublicKey = {SECOND}\n", source="wg0.conf")
    assert config.mtu == 1380
    assert [str(peer.public_key) for peer in config.peers] == [SECOND]
    first, second = config.warnings
    assert first.startswith("wg0.conf:5: MTU: written in line 3 already")
    assert second.startswith("wg0.conf:8: PublicKey: written in line 7 already")


def test_a_warning_is_given_once(caplog):
    text = f"{HEAD}MTU = 1200\nMTU = 1000\nAddress = fd00::1/64\n{PEER}AllowedIPs = 10.9.0.77/24, 10.9.0.77/24\n"
    config = Config.from_text(f"{text}[Peer]\nPublicKey = {SECOND}\nAllowedIPs = 10.9.0.0/24")
    assert sorted(config.warnings) == sorted(record.getMessage() for record in caplog.records)
    for word in ("1280", "written in line 3", "host bits", "claimed by two peers"):
        assert any(word in warning for warning in config.warnings)


def test_bytes_that_are_not_utf8_name_their_line():
    with pytest.raises(ConfigError, match="0xfc") as caught:
        wgquick.decode(HEAD.encode() + b"# gr\xfc\xdfe\n", "wg0.conf")
    assert (caught.value.file, caught.value.line) == ("wg0.conf", 3)


def test_a_huge_line_is_read_or_refused_in_short_words():
    many = ", ".join(f"10.{a}.{b}.0/24" for a in range(256) for b in range(64))
    assert len(Config.from_text(f"{HEAD}{PEER}AllowedIPs = {many}").peers[0].allowed_ips) == 256 * 64
    with pytest.raises(ConfigError) as caught:
        Config.from_text(f"{HEAD}{PEER}Endpoint = {'x.' * 5_000_000}")
    assert len(str(caught.value)) < 300


COMMENTED = f"""\
# the office gateway
# second line
[Interface] # wg0
#above
PrivateKey = {SECRET}
ListenPort = 51820 # the usual one
# LAN
Address = 10.9.0.1/24, 10.9.1.1/24 # both
# six
Address = fd00::1/64
PostUp = echo a # first
# then
PostUp = echo b
# end of the interface

# laptop
[Peer]
PublicKey = {FIRST}
AllowedIPs = 10.9.0.2/32 # itself
AllowedIPs = 10.9.2.0/24, 10.9.3.0/24
#Endpoint = old.example:1

# phone
[Peer]
PublicKey = {SECOND} # 2024
#
# the end
"""


def test_comments_are_written_back_where_they_stood():
    assert Config.from_text(COMMENTED).to_text() == COMMENTED


def test_comments_follow_their_peer():
    config = Config.from_text(COMMENTED)
    first, second = config.peers
    swapped = config.replace(peers=[second, first]).to_text()
    assert f"# phone\n[Peer]\nPublicKey = {SECOND} # 2024\n#\n# the end\n\n# laptop\n[Peer]" in swapped
    assert "laptop" not in config.without_peer(first.public_key).to_text()


def test_comments_of_a_line_that_is_gone_stay_in_their_section():
    config = Config.from_text(COMMENTED)
    text = config.replace(listen_port=0, addresses=["10.9.1.1/24"]).to_text()
    interface, _, rest = text.partition("\n\n")
    assert "Address = 10.9.1.1/24 # both\n" in interface
    assert "# LAN\nAddress" in interface
    assert {"# the usual one", "# six", "# end of the interface"} <= set(interface.splitlines())
    assert "laptop" in rest


def test_values_stay_on_the_commented_line_that_held_them():
    peer = PEER + "AllowedIPs = 10.0.0.1/32\nAllowedIPs = 10.0.0.2/32, 10.0.0.3/32 # two\nAllowedIPs = 10.0.0.4/32\n"
    text = f"{HEAD}\n{peer}"
    assert Config.from_text(text).to_text() == text


def test_blank_lines_decide_whose_a_comment_is():
    text = f"{HEAD}# of the interface\n\n# of the peer\n\n# too, nearer\n{PEER}"
    comments = Config.from_text(text).comments
    assert [(c.text, c.peer is None, c.where) for c in comments] == [
        (" of the interface", True, "end"),
        (" of the peer", True, "end"),
        (" too, nearer", False, "above"),
    ]


def test_comments_may_be_made_in_python():
    key = PublicKey.from_base64(FIRST)
    config = Config(
        private_key=SECRET,
        mtu=1400,
        peers=[Peer(public_key=key)],
        comments=[
            Comment(text=" office", peer=key),
            Comment(text="x", key="MTU", where="beside"),
            Comment(text=" lost", key="DNS"),
            Comment(text=" gone", peer=PublicKey.from_base64(SECOND)),
        ],
    )
    assert config.to_text() == f"{HEAD}MTU = 1400 #x\n# lost\n\n# office\n{PEER}"


EXTENDED = f"""\
[Interface]
PrivateKey = {SECRET}
# wgengine: LogNodeID = {"ab" * 32}
# wgengine: LogDomainID = {"cd" * 32}
# wgengine: LogExitFlows = true

[Peer]
PublicKey = {FIRST}
AllowedIPs = 10.9.0.2/32
# its key of today
# wgengine: DiscoKey = {SECOND} # as it said
# wgengine: V4MasqAddr = 100.64.0.9
# wgengine: V6MasqAddr = fd00::9
# wgengine: Jailed = true
"""


def test_what_wg_quick_has_no_key_for_stands_in_comments():
    config = Config.from_text(EXTENDED)
    assert config.network_logging == NetworkLogging(node_id="ab" * 32, domain_id="cd" * 32, log_exit_flows=True)
    (peer,) = config.peers
    assert peer.disco_key == PublicKey.from_base64(SECOND)
    assert (peer.v4_masq_addr, peer.v6_masq_addr, peer.jailed) == ("100.64.0.9", "fd00::9", True)
    assert config.to_text() == EXTENDED
    assert [comment.text for comment in config.comments] == [" its key of today", " as it said"]


def test_they_are_read_in_any_letter_case_and_blanks():
    lines = ["#wgengine:jailed=true", "\t# WgEngine:\tJAILED  =  True # yes", "# wgengine: Jailed = true\r"]
    for line in lines:
        assert Config.from_text(f"{HEAD}{PEER}{line}\n").peers[0].jailed


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        (f"{HEAD}# wgengine: Jailed = true\n", 3, "Jailed belongs in [Peer]"),
        (f"{HEAD}{PEER}# wgengine: Banana = 5\n", 5, "write one of DiscoKey, V4MasqAddr, V6MasqAddr, Jailed"),
        (f"{HEAD}{PEER}# wgengine: Jailed =\n", 5, "must have a value"),
        (f"{HEAD}{PEER}# wgengine: Jailed = maybe\n", 5, "neither true nor false"),
        (f"{HEAD}{PEER}# wgengine: DiscoKey = abc\n", 5, "key"),
        (f"{HEAD}{PEER}# wgengine: V4MasqAddr = fd00::1\n", 5, "no IPv4 address"),
        (f"{HEAD}{PEER}# wgengine: V6MasqAddr = 10.0.0.1\n", 5, "no IPv6 address"),
        (f"{HEAD}PostUp = true # wgengine: Jailed = true\n", 3, "on a line of its own"),
        (f"{HEAD}{PEER}# wgengine: Jailed = true # wgengine: Jailed = true\n", 5, "on a line of its own"),
        ("# wgengine: Jailed = true\n" + HEAD, 1, "must occur in a section"),
        (f"{HEAD}# wgengine: LogNodeID = {'ab' * 32}\n", 3, "LogDomainID"),
        (f"{HEAD}# wgengine: LogExitFlows = true\n", 3, "LogNodeID"),
        (f"{HEAD}# wgengine: LogNodeID = {'ab' * 32}\n# wgengine: LogDomainID = 5\n", 4, "LogDomainID"),
        (f"{HEAD}{PEER}Jailed = true\n", 5, "write # wgengine: Jailed"),
    ],
)
def test_what_is_wrong_with_them_is_said_with_its_line(text, line, reason):
    with pytest.raises(ConfigError) as caught:
        Config.from_text(text, source="x.conf")
    assert caught.value.line == line
    assert reason in str(caught.value)


def test_a_comment_that_would_be_read_as_a_field_is_refused():
    for text in (" wgengine: Jailed = true", "wgengine:x=", "\tWGENGINE: y =5"):
        with pytest.raises(ConfigError, match="set the field instead"):
            Comment(text=text)
    for text in (" wgengine: home", " wgengine: a b = c", " x wgengine: Jailed = true"):
        assert Config.from_text(f"#{text}\n{HEAD}").comments[0].text == text


def test_stock_wg_quick_strips_what_we_write_to_what_wg_takes(tmp_path):
    path = tmp_path / "wgq0.conf"
    path.touch(mode=0o600)
    path.write_text(COMMENTED)
    run = subprocess.run(["wg-quick", "strip", str(path)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    keys = [line.split("=")[0].strip() for line in run.stdout.splitlines() if "=" in line and not line.startswith("#")]
    assert keys == ["PrivateKey", "ListenPort", "PublicKey", "AllowedIPs", "AllowedIPs", "PublicKey"]
