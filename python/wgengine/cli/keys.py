"""`genkey`, `pubkey`, `genpsk`: the same input and output as their namesakes of `wg`."""

import json
import os
import stat
import sys

import click

from wgengine.cli import outcome
from wgengine.keys import PresharedKey, PrivateKey

_ENOUGH = 4096  # bytes of input; a key has 44, and what is longer is none

_as_json = click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")


@click.command()
@_as_json
def genkey(as_json: bool) -> None:
    """Make a private key and write it to standard output.

    wgengine genkey | tee private.key | wgengine pubkey > public.key
    """
    key = PrivateKey.generate()
    _guard_output()
    if as_json:
        click.echo(json.dumps({"private_key": key.to_base64(), "public_key": key.public_key.to_base64()}))
    else:
        click.echo(key.to_base64())


@click.command()
@_as_json
def pubkey(as_json: bool) -> None:
    """Read a private key in base64 from standard input and write its public key."""
    if sys.stdin.isatty():
        click.echo("paste the private key (base64), then press Enter:", err=True)
    given = sys.stdin.buffer.readline() if sys.stdin.isatty() else sys.stdin.buffer.read(_ENOUGH)
    text = given.decode("ascii", "replace").strip()
    if not text:
        raise outcome.UsageError("nothing on standard input; try `wgengine genkey | wgengine pubkey`")
    public = PrivateKey.from_base64(text).public_key.to_base64()
    click.echo(json.dumps({"public_key": public}) if as_json else public)


@click.command()
@_as_json
def genpsk(as_json: bool) -> None:
    """Make a preshared key and write it to standard output."""
    key = PresharedKey.generate()
    _guard_output()
    click.echo(json.dumps({"preshared_key": key.to_base64()}) if as_json else key.to_base64())


def _guard_output() -> None:
    """Says so when the secret goes into a file that others can read; writes it all the same, as `wg` does."""
    mode = os.fstat(sys.stdout.fileno()).st_mode
    if stat.S_ISREG(mode) and mode & stat.S_IRWXO:
        outcome.complain("warning: others can read the file that this secret goes into; set `umask 077` first")
