"""Config and Peer: what they take, what they refuse and where, and what never shows."""

import copy
import dataclasses
import logging
import os
import pickle

import pytest
from wgengine.comments import Comment
from wgengine.config import Config, Endpoint, NetworkLogging, Peer
from wgengine.errors import ConfigError
from wgengine.keys import PresharedKey, PrivateKey, PublicKey

SECRET = PrivateKey.from_base64("8HVbNOh8bpKUGeXo08E97c2GohkHFQ6hfSQA5pvs4nY=")
A, B, C = (PublicKey.from_bytes(bytes([n]) * 32) for n in (11, 12, 13))


def make_config(**changes):
    return Config(**{"private_key": SECRET, **changes})


def test_a_config_takes_texts_and_keeps_canonical_ones():
    config = make_config(addresses=["10.9.0.1/24", "10.9.0.1/24", "FD00::1"], dns=["2001:DB8::53"], dns_search=["a.b."])
    assert config.addresses == ("10.9.0.1/24", "fd00::1/128")
    assert config.dns == ("2001:db8::53",)
    assert config.dns_search == ("a.b",)
    peer = Peer(public_key=A.to_base64(), endpoint="vpn.example:51820", allowed_ips=["10.0.0.0/8", "10.0.0.0/8"])
    assert peer.public_key == A
    assert peer.endpoint == Endpoint("vpn.example", 51820)
    assert peer.allowed_ips == ("10.0.0.0/8",)


def test_the_defaults():
    config, peer = make_config(), Peer(public_key=A)
    assert (config.listen_port, config.fwmark, config.mtu, config.table, config.save_config) == (
        0,
        0,
        None,
        "auto",
        False,
    )
    assert config.peers == config.addresses == config.post_up == config.warnings == ()
    assert (peer.preshared_key, peer.endpoint, peer.allowed_ips, peer.persistent_keepalive) == (None, None, (), 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("private_key", "abc"),
        ("private_key", A),
        ("listen_port", 65536),
        ("listen_port", -1),
        ("listen_port", True),
        ("listen_port", "51820"),
        ("fwmark", 0x1_0000_0000),
        ("mtu", 575),
        ("mtu", 65536),
        ("addresses", ["10.9.0.1/33"]),
        ("addresses", "10.9.0.1/24"),
        ("dns", ["corp.example"]),
        ("dns_search", ["10.0.0.1"]),
        ("dns_search", ["a b"]),
        ("dns_search", ["a..b"]),
        ("dns_search", ["."]),
        ("dns_search", ["a#b"]),
        ("dns_search", ["x" * 64 + ".example"]),
        ("table", "banana"),
        ("table", 0),
        ("table", 0x1_0000_0000),
        ("table", True),
        ("pre_up", ["echo # not a comment"]),
        ("post_up", ["two\nlines"]),
        ("pre_down", [" "]),
        ("post_down", "echo one"),
    ],
)
def test_what_an_interface_refuses_is_named(field, value):
    with pytest.raises(ConfigError, match=r"write|key") as caught:
        make_config(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("public_key", "abc"),
        ("public_key", SECRET),
        ("public_key", PublicKey.from_bytes(bytes(32))),
        ("public_key", PublicKey.from_bytes(b"\1" + bytes(31))),
        ("preshared_key", "abc"),
        ("endpoint", "vpn.example"),
        ("allowed_ips", ["10.0.0.0/33"]),
        ("allowed_ips", "10.0.0.0/8"),
        ("persistent_keepalive", 65536),
        ("persistent_keepalive", None),
    ],
)
def test_what_a_peer_refuses_is_named(field, value):
    with pytest.raises(ConfigError) as caught:
        Peer(**{"public_key": A, field: value})
    assert caught.value.field == field


def test_a_public_key_twice_names_both_places():
    with pytest.raises(ConfigError, match=r"peers\[2\]\.public_key: peers\[0\] has the public key") as caught:
        make_config(peers=[Peer(public_key=A), Peer(public_key=B), Peer(public_key=A)])
    assert caught.value.field == "peers[2].public_key"


def test_our_own_key_is_no_peer():
    with pytest.raises(ConfigError, match="own public key") as caught:
        make_config(peers=[Peer(public_key=A), Peer(public_key=SECRET.public_key)])
    assert caught.value.field == "peers[1].public_key"


def test_the_zero_preshared_key_is_none():
    assert Peer(public_key=A, preshared_key=PresharedKey.from_hex("00" * 32)) == Peer(public_key=A)


def test_host_bits_are_cleared_with_a_warning(caplog):
    config = make_config(peers=[Peer(public_key=A, allowed_ips=["10.9.0.77/24"])])
    assert config.peers[0].allowed_ips == ("10.9.0.0/24",)
    (warning,) = config.warnings
    assert "10.9.0.77/24" in warning
    assert "10.9.0.0/24" in warning
    assert [(r.name, r.levelno) for r in caplog.records] == [("wgengine.config", logging.WARNING)]


def test_an_mtu_too_small_for_ipv6_is_warned_of():
    assert "1280" in make_config(mtu=1279, addresses=["fd00::1/64"]).warnings[0]
    assert make_config(mtu=1279, addresses=["10.0.0.1/24"]).warnings == ()
    assert make_config(mtu=1280, addresses=["fd00::1/64"]).warnings == ()


def test_a_prefix_claimed_three_times_is_the_last_ones():
    config = make_config(
        peers=[Peer(public_key=key, allowed_ips=["10.0.0.0/8", f"{i}.0.0.0/8"]) for i, key in enumerate((A, B, C))]
    )
    assert [peer.allowed_ips for peer in config.peers] == [("0.0.0.0/8",), ("1.0.0.0/8",), ("10.0.0.0/8", "2.0.0.0/8")]
    assert config.owner("10.0.0.0/8") == C
    assert len(config.warnings) == 2
    assert str(A) in config.warnings[0]
    assert str(C) in config.warnings[1]


def test_a_config_is_frozen_hashable_and_equal_but_for_comments():
    one = make_config(peers=[Peer(public_key=A, preshared_key=PresharedKey.from_hex("11" * 32))])
    two = make_config(peers=one.peers, comments=[Comment(text="new")])
    assert one == two
    assert hash(one) == hash(two)
    assert one != make_config()
    assert make_config(peers=[Peer(public_key=A), Peer(public_key=B)]) != make_config(
        peers=[Peer(public_key=B), Peer(public_key=A)]
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.mtu = 1280
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.peers[0].endpoint = None
    assert copy.copy(one) is one
    assert copy.deepcopy(one) is one


def test_nothing_shows_a_secret():
    psk = PresharedKey.from_hex("5e" * 32)
    config = make_config(
        peers=[Peer(public_key=A, preshared_key=psk)], comments=[Comment(text=f"PrivateKey = {SECRET.to_base64()}")]
    )
    shown = [repr(config), str(config), f"{config}", repr(config.peers), repr(config.comments)]
    for leak in (dataclasses.asdict, dataclasses.astuple, pickle.dumps):
        try:
            shown.append(repr(leak(config)))
        except TypeError as error:  # a private key refuses to be copied, so may whatever holds one
            shown.append(str(error))
    for secret in (SECRET.to_base64(), SECRET.to_hex(), psk.to_base64(), psk.to_hex()):
        assert not any(secret in text for text in shown)


def test_errors_do_not_show_a_secret():
    secret = SECRET.to_base64()
    for wrong in ({"private_key": secret[:-2]}, {"addresses": [secret]}, {"dns_search": [secret]}, {"table": secret}):
        with pytest.raises(ConfigError) as caught:
            make_config(**wrong)
        assert secret[:40] not in str(caught.value)


def test_replace_checks_again():
    config = make_config(peers=[Peer(public_key=A)])
    assert config.replace(mtu=1400) == make_config(mtu=1400, peers=config.peers)
    assert config.peers[0].replace(endpoint="a:1") == Peer(public_key=A, endpoint="a:1")
    with pytest.raises(ConfigError):
        config.replace(mtu=1)


# What with_peer and without_peer do the quick way equals what the constructor does from the whole list.
START = [Peer(public_key=A, allowed_ips=["10.0.0.0/8"]), Peer(public_key=B, allowed_ips=["10.1.0.0/16"])]


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (Peer(public_key=C, allowed_ips=["10.2.0.0/16"]), [*START, Peer(public_key=C, allowed_ips=["10.2.0.0/16"])]),
        (Peer(public_key=C, allowed_ips=["10.0.0.0/8"]), [*START, Peer(public_key=C, allowed_ips=["10.0.0.0/8"])]),
        (Peer(public_key=A, allowed_ips=["10.3.0.0/16"]), [Peer(public_key=A, allowed_ips=["10.3.0.0/16"]), START[1]]),
        (Peer(public_key=A, allowed_ips=["10.1.0.0/16"]), [Peer(public_key=A, allowed_ips=["10.1.0.0/16"]), START[1]]),
        (Peer(public_key=B, allowed_ips=["10.0.0.0/8"]), [START[0], Peer(public_key=B, allowed_ips=["10.0.0.0/8"])]),
        (START[0].replace(endpoint="a:1"), [START[0].replace(endpoint="a:1"), START[1]]),
    ],
)
def test_with_peer_equals_the_whole_list(peer, expected):
    quick, slow = make_config(peers=START).with_peer(peer), make_config(peers=expected)
    assert quick == slow
    for ip in ("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"):
        assert quick.owner(ip) == slow.owner(ip)
    for key in (A, B, C):
        assert quick.peer(key) == slow.peer(key)


def test_without_peer_gives_nothing_back():
    config = make_config(peers=START)
    less = config.without_peer(A)
    assert less == make_config(peers=START[1:])
    assert less.peer(A) is None
    assert less.peer(B) == START[1]
    assert less.owner("10.0.0.0/8") is None
    assert config.peer(A) == START[0]
    with pytest.raises(ConfigError, match="no peer"):
        less.without_peer(A)


def test_with_peer_refuses_our_own_key_and_carries_warnings():
    config = make_config(peers=START)
    with pytest.raises(ConfigError, match="own public key"):
        config.with_peer(Peer(public_key=SECRET.public_key))
    assert "10.9.0.77/24" in config.with_peer(Peer(public_key=C, allowed_ips=["10.9.0.77/24"])).warnings[0]


@pytest.mark.parametrize(
    ("directory_mode", "file_mode", "warned"),
    [(0o755, 0o644, True), (0o755, 0o640, True), (0o755, 0o600, False), (0o700, 0o644, False), (0o750, 0o604, False)],
)
def test_a_file_that_others_can_read_is_warned_of(tmp_path, directory_mode, file_mode, warned):
    path = tmp_path / "d" / "wg0.conf"
    path.parent.mkdir(mode=directory_mode)
    path.parent.chmod(directory_mode)
    path.write_text(make_config().to_text())
    path.chmod(file_mode)
    config = Config.from_file(path)
    assert config == make_config()
    assert any("chmod 600" in warning for warning in config.warnings) == warned


def test_a_file_may_be_a_pipe():
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as pipe:
        pipe.write(make_config().to_text())
    assert Config.from_file(f"/dev/fd/{reader}") == make_config()
    os.close(reader)


def test_a_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Config.from_file(tmp_path / "none.conf")


@pytest.mark.parametrize(
    "after",
    [
        START,
        [],
        START[:1],
        START[1:],
        START[::-1],
        [*START, Peer(public_key=C, allowed_ips=["10.2.0.0/16"])],
        [Peer(public_key=C), *START],
        [START[0], Peer(public_key=C, allowed_ips=["10.3.0.0/16"]), START[1]],
        [START[0].replace(endpoint="a:1"), START[1]],
        [Peer(public_key=A, allowed_ips=["10.1.0.0/16"]), Peer(public_key=B, allowed_ips=["10.0.0.0/8"])],
        [START[0], Peer(public_key=B, allowed_ips=["10.0.0.0/8"])],  # contested: the later one has it
        [*START, Peer(public_key=C, allowed_ips=["10.0.0.0/8"])],
    ],
)
def test_with_peers_equals_the_whole_list(after):
    quick, slow = make_config(peers=START).with_peers(after), make_config(peers=after)
    assert quick == slow
    for ip in ("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"):
        assert quick.owner(ip) == slow.owner(ip)
    for key in (A, B, C):
        assert quick.peer(key) == slow.peer(key)
    # and what was contested is its first owner's again when the other lets go
    assert quick.with_peers(START) == make_config(peers=START)


def test_with_peers_refuses_what_the_constructor_refuses():
    config = make_config(peers=START)
    for wrong in ([*START, START[0]], [*START, Peer(public_key=A)], [*START, Peer(public_key=SECRET.public_key)]):
        with pytest.raises(ConfigError):
            config.with_peers(wrong)
    assert config.with_peers(list(START)) is config


def test_what_a_netmap_says_besides():
    peer = Peer(public_key=A, disco_key=B.to_base64(), v4_masq_addr="100.64.0.9", v6_masq_addr="FD00::0:9", jailed=True)
    assert (peer.disco_key, peer.v4_masq_addr, peer.v6_masq_addr, peer.jailed) == (B, "100.64.0.9", "fd00::9", True)
    assert Peer(public_key=A, disco_key=PublicKey.from_bytes(bytes(32))) == Peer(public_key=A)
    assert Peer(public_key=A, jailed=True) != Peer(public_key=A)
    logging_of = NetworkLogging(node_id="AB" * 32, domain_id="cd" * 32, log_exit_flows=True)
    assert logging_of.node_id == "ab" * 32
    assert "ab" * 32 not in repr(make_config(network_logging=logging_of))
    assert make_config(network_logging=logging_of) != make_config()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("disco_key", "x"),
        ("disco_key", 5),
        ("v4_masq_addr", "fd00::1"),
        ("v4_masq_addr", "10.0.0.1/32"),
        ("v6_masq_addr", "10.0.0.1"),
        ("v6_masq_addr", 5),
        ("jailed", 1),
    ],
)
def test_what_a_peer_refuses_of_it_is_named(field, value):
    with pytest.raises(ConfigError, match=r"write|a key is") as caught:
        Peer(public_key=A, **{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [("node_id", ""), ("node_id", "ab"), ("domain_id", "00" * 32), ("domain_id", 5), ("log_exit_flows", 1)],
)
def test_what_network_logging_refuses_is_named(field, value):
    good = {"node_id": "ab" * 32, "domain_id": "cd" * 32}
    with pytest.raises(ConfigError, match="write") as caught:
        NetworkLogging(**{**good, field: value})
    assert caught.value.field == field


def test_equal_allowed_ips_are_kept_as_one_tuple():
    ips = ("10.0.0.0/8", "fd00::1/128")
    assert Peer(public_key=A, allowed_ips=ips).allowed_ips is ips
    assert Peer(public_key=A, allowed_ips=[*ips]).allowed_ips == ips
