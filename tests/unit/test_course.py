"""The course of `wgengine up` as text, and what it refuses to begin with."""

from __future__ import annotations

import pytest
from wgengine import Config, Peer, PrivateKey
from wgengine.course import Course, refusal

PEER = Peer(public_key=PrivateKey.generate().public_key, allowed_ips=["10.2.0.0/16", "fd02::/64"])
PLAIN = Config(private_key=PrivateKey.generate(), addresses=["10.9.0.1/24"], peers=[PEER])
FULL = PEER.replace(allowed_ips=["0.0.0.0/0", "::/0", "10.2.0.0/16"])


def test_every_step_has_its_place() -> None:
    config = PLAIN.replace(mtu=1380, pre_up=["a %i"], post_up=["b", "c"], pre_down=["d"], post_down=["e %i"])
    course = Course(config=config, name="wg7")
    assert list(course.up()) == [
        "$ PreUp a wg7",
        "+ interface wg7",
        f"~ private_key (public key {config.private_key.public_key})",
        f"+ peer {PEER.public_key} allowed_ips 10.2.0.0/16, fd02::/64",
        "~ mtu default → 1380",
        "+ address 10.9.0.1/24",
        "~ link up",
        "+ route 10.2.0.0/16",
        "+ route fd02::/64",
        "$ PostUp b",
        "$ PostUp c",
    ]
    assert list(course.down()) == ["$ PreDown d", "- interface wg7, its addresses and its routes", "$ PostDown e wg7"]


@pytest.mark.parametrize(
    "config",
    [
        PLAIN,
        PLAIN.replace(pre_up=["true"], post_down=["true"]),
        PLAIN.replace(peers=[FULL], table="off"),
        PLAIN.replace(peers=[FULL], table=1234),
    ],
)
def test_what_can_be_done_is_not_refused(config: Config) -> None:
    assert refusal(config, "wg7.conf") is None


@pytest.mark.parametrize(
    ("config", "named", "advice"),
    [
        (PLAIN.replace(peers=[FULL]), ["0.0.0.0/0", "::/0"], "set Table to off"),
        (PLAIN.replace(peers=[FULL], table=254), ["0.0.0.0/0", "::/0"], "set Table to off"),
        (PLAIN.replace(dns=["198.51.100.53"], dns_search=["corp.example"]), ["dns 198.51.100.53 corp.example"], ""),
        (PLAIN.replace(save_config=True), ["save config"], "set SaveConfig to false"),
        (PLAIN.replace(save_config=True, dns=["198.51.100.53"]), ["save config", "198.51.100.53"], ""),
    ],
)
def test_what_would_stay_undone_is_refused_and_the_way_named(config: Config, named: list[str], advice: str) -> None:
    refused = refusal(config, "/x/wg7.conf")
    assert refused is not None
    assert refused.file == "/x/wg7.conf"
    for word in (*named, advice, "WG_QUICK_USERSPACE_IMPLEMENTATION=wgengine-device wg-quick up /x/wg7.conf"):
        assert word in str(refused)
    assert "\n" not in str(refused)
