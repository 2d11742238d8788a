"""`genkey`, `pubkey`, `genpsk`: in and out as `wg` has them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WGENGINE = [sys.executable, "-m", "wgengine"]


def run(*arguments: str, stdin: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*WGENGINE, *arguments], input=stdin, capture_output=True, text=True, timeout=30, **options)


@pytest.mark.parametrize("verb", ["genkey", "genpsk"])
def test_makes_one_line_of_base64_that_differs_each_time(verb: str) -> None:
    first, second = run(verb), run(verb)
    assert first.returncode == 0
    assert first.stderr == ""
    assert len(base64.b64decode(first.stdout.removesuffix("\n"), validate=True)) == 32
    assert first.stdout != second.stdout


def test_genkey_is_clamped() -> None:
    key = base64.b64decode(run("genkey").stdout)
    assert key[0] & 7 == 0
    assert key[31] & 0xC0 == 0x40  # RFC 7748, section 5


@pytest.mark.skipif(shutil.which("wg") is None, reason="needs wg")
def test_pubkey_is_what_wg_says() -> None:
    private = run("genkey").stdout
    stock = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True)
    assert run("pubkey", stdin=private).stdout == stock.stdout


def test_json_of_a_pair_agrees() -> None:
    pair = json.loads(run("genkey", "--json").stdout)
    assert json.loads(run("pubkey", "--json", stdin=pair["private_key"]).stdout) == {"public_key": pair["public_key"]}
    assert set(json.loads(run("genpsk", "--json").stdout)) == {"preshared_key"}


@pytest.mark.parametrize("text", ["hello", "A" * 43, "A" * 44 + "=", "=" * 44, "é" * 44])
def test_refused_key_is_told_in_one_line_and_not_shown(text: str) -> None:
    done = run("pubkey", stdin=text)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("wgengine: ")
    assert done.stderr.count("\n") == 1
    assert text not in done.stderr


def test_no_input_is_a_usage_error() -> None:
    done = run("pubkey")
    assert done.returncode == 2
    assert "wgengine genkey | wgengine pubkey" in done.stderr


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True)])
def test_warns_when_others_can_read_the_file(tmp_path: Path, mode: int, warned: bool) -> None:
    path = tmp_path / "key"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.fchmod(descriptor, mode)
    done = subprocess.run([*WGENGINE, "genkey"], stdout=descriptor, stderr=subprocess.PIPE, text=True, timeout=30)
    os.close(descriptor)
    assert done.returncode == 0
    assert len(path.read_text()) == 45
    assert ("umask 077" in done.stderr) is warned
