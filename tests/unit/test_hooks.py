"""Which hook runs when, with which words; and that no key is shown."""

from __future__ import annotations

import os
import subprocess

import pytest
from wgengine import Config, PresharedKey, PrivateKey
from wgengine.hooks import ENVIRONMENT, Hook, Phase, hooks_of, shell

CONFIG = Config(
    private_key=PrivateKey.generate(),
    pre_up=["echo one %i", "echo two"],
    post_up=["ip route show dev %i; echo %i%i %d %I %%i"],
    pre_down=["true"],
)


def run(command: str) -> subprocess.CompletedProcess[str]:
    reading, writing = os.pipe()
    os.write(writing, command.encode())
    os.close(writing)
    try:
        environment = os.environ | ENVIRONMENT
        return subprocess.run(
            shell(reading), capture_output=True, text=True, timeout=30, env=environment, pass_fds=(reading,)
        )
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("phase", "commands"),
    [
        ("PreUp", ["echo one wg7", "echo two"]),
        ("PostUp", ["ip route show dev wg7; echo wg7wg7 %d %I %wg7"]),
        ("PreDown", ["true"]),
        ("PostDown", []),
    ],
)
def test_hooks_come_in_their_order_with_the_name_filled_in(phase: Phase, commands: list[str]) -> None:
    hooks = hooks_of(CONFIG, phase, "wg7")
    assert [hook.command for hook in hooks] == commands
    assert {hook.phase for hook in hooks} <= {phase}


def test_the_shell_is_the_one_that_wg_quick_is_written_in() -> None:
    assert run("[[ wgx == wg@(x|y) ]] && diff <(echo same) <(echo same) && echo $LC_ALL").stdout == "C\n"


@pytest.mark.parametrize("command", ["false; true", "false | true", "exit 3", "no-such-program-here"])
def test_what_fails_within_a_hook_fails_the_hook(command: str) -> None:
    assert run(command).returncode != 0


def test_no_key_is_shown() -> None:
    secret = PresharedKey.generate()
    whole = secret.to_base64()
    for key in (whole, bytes(range(32)).hex()):
        hook = Hook(phase="PostUp", command=f"wg set wg0 peer x preshared-key <(echo {key}) # {key}.")
        for text in (str(hook), hook.shown, str(hook.failure(1))):
            assert key not in text
            assert text.count("(hidden key)") == 2
        assert key in hook.command
    path = "/usr/local/lib/wireguard/scripts/" + "a" * 40 + "/up"
    assert Hook(phase="PreUp", command=path).shown == path


def test_a_failure_says_how_it_ended() -> None:
    hook = Hook(phase="PreDown", command="exit 3")
    assert str(hook.failure(3)) == "PreDown ended with exit code 3: exit 3"
    assert str(hook.failure(-9)) == "PreDown was ended by signal 9: exit 3"
