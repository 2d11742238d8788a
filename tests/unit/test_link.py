"""The interface, without one: the order of steps, what is owed, and the commands of macOS."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Sequence

import pytest
from wgengine.config import Config, Peer
from wgengine.keys import PrivateKey
from wgengine.link import BringUp, Holdings, Refusal, in_order, refused, still_owed, takes_others_along
from wgengine.link.macos import MacLink, command
from wgengine.reconfig import AddAddress, AddRoute, RemoveAddress, RemoveRoute, SetMTU

OURS, THEIRS = PrivateKey.generate(), PrivateKey.generate().public_key


def config(*, addresses: Sequence[str] = (), allowed_ips: Sequence[str] = (), mtu: int | None = None) -> Config:
    peers = [Peer(public_key=THEIRS, allowed_ips=allowed_ips)] if allowed_ips else []
    return Config(private_key=OURS, addresses=addresses, mtu=mtu, peers=peers)


def test_what_goes_goes_first_and_routes_come_last() -> None:
    wanted = [
        RemoveRoute("10.1.0.0/16", None),
        RemoveAddress("10.0.0.1/24"),
        SetMTU(None, 1400),
        AddAddress("10.0.0.2/24"),
        AddAddress("10.0.0.3/24"),
        BringUp(),
        AddRoute("10.2.0.0/16", None),
    ]
    shuffled = [wanted[at] for at in (6, 3, 5, 4, 2, 0, 1)]
    assert in_order(shuffled) == wanted


class TestOwed:
    """What was refused is tried again, as long as it is wanted."""

    def test_nothing_owed_is_nothing_more(self) -> None:
        assert list(still_owed([], [], config())) == []
        assert list(still_owed([BringUp()], [], config())) == []

    def test_an_address_and_a_route_while_they_are_configured(self) -> None:
        owed = [AddAddress("10.0.0.1/24"), AddRoute("10.2.0.0/16", None)]
        assert list(still_owed(owed, [], config(addresses=["10.0.0.1/24"], allowed_ips=["10.2.0.0/16"]))) == owed
        assert list(still_owed(owed, [], config())) == []

    def test_a_removal_while_it_is_not_configured_again(self) -> None:
        owed = [RemoveAddress("10.0.0.1/24"), RemoveRoute("10.2.0.0/16", None)]
        assert list(still_owed(owed, [], config())) == owed
        assert list(still_owed(owed, [], config(addresses=["10.0.0.1/24"], allowed_ips=["10.2.0.0/16"]))) == []

    def test_the_mtu_as_it_shall_be_now(self) -> None:
        assert list(still_owed([SetMTU(None, 1300)], [], config(mtu=1400))) == [SetMTU(None, 1400)]
        assert list(still_owed([SetMTU(None, 1300)], [SetMTU(1300, 1400)], config(mtu=1400))) == []

    def test_nothing_twice(self) -> None:
        step = AddAddress("10.0.0.1/24")
        assert list(still_owed([step], [step], config(addresses=["10.0.0.1/24"]))) == []


class TestHoldings:
    """What must be on the interface still after a step that takes others along."""

    def test_what_was_put_there_and_is_gone(self) -> None:
        held = Holdings()
        steps = [AddAddress("10.0.0.1/24"), AddAddress("10.0.0.2/24"), AddRoute("10.2.0.0/16", None)]
        for step in steps:
            held.note(step)
        assert held.missing({"10.0.0.1/24"}, set()) == steps[1:]
        assert held.missing({"10.0.0.1/24", "10.0.0.2/24", "10.9.9.9/32"}, {("10.2.0.0/16", None)}) == []

    def test_what_was_taken_away_is_not_missed(self) -> None:
        held = Holdings()
        for step in (
            AddAddress("10.0.0.1/24"),
            AddRoute("10.2.0.0/16", 7),
            RemoveAddress("10.0.0.1/24"),
            RemoveRoute("10.2.0.0/16", 7),
        ):
            held.note(step)
        assert held.missing(set(), set()) == []

    def test_only_removals_and_the_mtu_take_others_along(self) -> None:
        assert not takes_others_along([AddAddress("10.0.0.1/24"), AddRoute("10.2.0.0/16", None), BringUp()])
        assert takes_others_along([RemoveAddress("10.0.0.1/24")])
        assert takes_others_along([SetMTU(None, 1200)])


class TestRefused:
    def test_one_refusal_is_an_oserror_with_its_errno_and_its_step(self) -> None:
        error = refused("wg0", [Refusal(AddAddress("10.0.0.1/24"), OSError(errno.EPERM, "Operation not permitted"))])
        assert isinstance(error, OSError)
        assert error.errno == errno.EPERM
        assert str(error) == "[Errno 1] wg0: + address 10.0.0.1/24: Operation not permitted"

    def test_several_are_a_group(self) -> None:
        refusals = [
            Refusal(BringUp(), OSError(errno.EPERM, "no")),
            Refusal(SetMTU(None, 9), OSError(errno.EINVAL, "no")),
        ]
        error = refused("wg0", refusals)
        assert isinstance(error, ExceptionGroup)
        assert [each.errno for each in error.exceptions if isinstance(each, OSError)] == [errno.EPERM, errno.EINVAL]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (AddAddress("10.0.0.1/24"), "ifconfig utun7 inet 10.0.0.1/24 10.0.0.1 alias"),
        (AddAddress("fd00::1/64"), "ifconfig utun7 inet6 fd00::1/64 alias"),
        (RemoveAddress("10.0.0.1/24"), "ifconfig utun7 inet 10.0.0.1 -alias"),
        (RemoveAddress("fd00::1/64"), "ifconfig utun7 inet6 fd00::1 -alias"),
        (SetMTU(None, 1300), "ifconfig utun7 mtu 1300"),
        (SetMTU(1300, None), "ifconfig utun7 mtu 1420"),
        (BringUp(), "ifconfig utun7 up"),
        (AddRoute("10.2.0.0/16", None), "route -q -n add -inet 10.2.0.0/16 -interface utun7"),
        (RemoveRoute("fd01::/64", None), "route -q -n delete -inet6 fd01::/64 -interface utun7"),
    ],
)
def test_the_commands_of_macos(step: AddAddress, words: str) -> None:
    assert command("utun7", step) == words.split()


class Mac:
    """A macOS whose commands are noted, not run."""

    LISTING = """utun7: flags=8051<UP,POINTOPOINT,RUNNING,MULTICAST> mtu 1300
\tinet 10.0.0.2 --> 10.0.0.2 netmask 0xffffff00
\tinet6 fe80::1%utun7 prefixlen 64 scopeid 0x10
\tinet6 fd00::1 prefixlen 64
"""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.refuse: dict[str, OSError] = {}

    def run(self, words: Sequence[str]) -> str:
        line = " ".join(words)
        self.said.append(line)
        if line in self.refuse:
            raise self.refuse[line]
        return self.LISTING if line == "ifconfig utun7" else ""


class TestMac:
    def test_an_address_that_a_removal_took_along_comes_back(self) -> None:
        mac = Mac()
        link = MacLink("utun7", mac.run)
        ours = [
            AddAddress("10.0.0.1/24"),
            AddAddress("10.0.0.2/24"),
            AddAddress("10.9.0.1/16"),
            AddAddress("fd00::1/64"),
        ]
        assert link.perform(ours) == ()
        mac.said.clear()
        assert link.perform([RemoveAddress("10.0.0.1/24")]) == ()
        assert mac.said == [
            "ifconfig utun7 inet 10.0.0.1 -alias",
            "ifconfig utun7",
            "ifconfig utun7 inet 10.9.0.1/16 10.9.0.1 alias",
        ]

    def test_a_table_is_refused_in_words(self) -> None:
        mac = Mac()
        (refusal,) = MacLink("utun7", mac.run).perform([AddRoute("10.2.0.0/16", 7)])
        assert refusal.error.errno == errno.ENOTSUP
        assert "Table" in str(refusal.error)
        assert mac.said == []

    def test_a_route_that_another_holds_is_refused_and_the_rest_done(self) -> None:
        mac = Mac()
        mac.refuse["route -q -n add -inet 10.2.0.0/16 -interface utun7"] = OSError(errno.EEXIST, "File exists")
        steps = [AddRoute("10.2.0.0/16", None), AddRoute("10.3.0.0/16", None)]
        assert [refusal.step for refusal in MacLink("utun7", mac.run).perform(steps)] == steps[:1]
        assert mac.said[-1] == "route -q -n add -inet 10.3.0.0/16 -interface utun7"

    def test_what_is_gone_already_is_no_refusal(self) -> None:
        mac = Mac()
        mac.refuse["route -q -n delete -inet 10.2.0.0/16 -interface utun7"] = OSError(errno.ESRCH, "not in table")
        assert MacLink("utun7", mac.run).perform([RemoveRoute("10.2.0.0/16", None)]) == ()

    def test_what_a_command_says_becomes_the_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        said = subprocess.CompletedProcess([], 1, "", "ifconfig: ioctl (SIOCAIFADDR): Operation not permitted\n")
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
        (refusal,) = MacLink("utun7").perform([AddAddress("10.0.0.1/24")])
        assert refusal.error.errno == errno.EPERM
        assert "SIOCAIFADDR" in str(refusal.error)
