"""`up CONF`: one tunnel from a wg-quick file, in the foreground. Here: which file, and whether it can be done."""

import dataclasses
import json
import os
import shutil
import socket
from typing import Final

import click

from wgengine import Config, ConfigError, Knobs
from wgengine.cli import interface, outcome, priority, secrecy
from wgengine.cli.log import log_to_stderr
from wgengine.course import Course, refusal
from wgengine.hooks import SHELL

FOLDER: Final = "/etc/wireguard"
SUFFIX: Final = ".conf"


@click.command()
@click.argument("conf")
@click.option("--name", metavar="IF", help="Name of the interface; else the file's, without .conf.")
@click.option("--dry-run", is_flag=True, help="Print every step, hooks too, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line for what happens.")
def up(conf: str, name: str | None, dry_run: bool, as_json: bool) -> int:
    """Bring up the tunnel of CONF and keep it until Ctrl-C or SIGTERM.

    CONF is a wg-quick file, or the name of one in /etc/wireguard. SIGHUP reads it again and changes only what differs.
    """
    log_to_stderr(os.environ)
    knobs = dataclasses.replace(Knobs.from_env(), nice=priority.nice(os.environ))
    file, name = place(conf, name)
    config = read(file)
    if dry_run:
        _show(file, name, config, as_json=as_json)
        return outcome.OK
    _check_free(name)
    secrecy.keep_secret()
    import asyncio

    from wgengine.cli.tunnel import Tunnel

    tunnel = Tunnel(config, name, knobs=knobs, reread=lambda: read(file), as_json=as_json)
    return asyncio.run(tunnel.run())


def place(conf: str, name: str | None) -> tuple[str, str]:
    """The file's absolute path and the interface's name, as wg-quick finds them."""
    if "/" in conf or conf.endswith(SUFFIX):
        path = conf
    else:
        path = f"{FOLDER}/{interface.check_name(conf)}{SUFFIX}"
    if name is not None:
        return os.path.abspath(path), interface.check_name(name)
    base = os.path.basename(path)
    if not base.endswith(SUFFIX):
        raise outcome.UsageError(f"{base} does not end in .conf, so it names no interface; add --name wg0 or the like")
    try:
        return os.path.abspath(path), interface.check_name(base.removesuffix(SUFFIX))
    except outcome.UsageError as error:
        raise outcome.UsageError(f"{error}, by --name") from None


def read(file: str) -> Config:
    """The configuration of a file, if `up` can do all that it says."""
    config = Config.from_file(file)
    refused = refusal(config, file)
    if refused is not None:
        raise refused
    has_hooks = any((config.pre_up, config.post_up, config.pre_down, config.post_down))
    if has_hooks and shutil.which(SHELL) is None:
        raise ConfigError("hooks are lines for bash, and there is none here; install bash", file=file)
    return config


def _show(file: str, name: str, config: Config, *, as_json: bool) -> None:
    """The dry run."""
    course = Course(config=config, name=name)
    if as_json:
        shown = {
            "interface": name,
            "file": file,
            "up": list(course.up()),
            "down": list(course.down()),
            "warnings": config.warnings,
        }
        click.echo(json.dumps(shown, ensure_ascii=False))
        return
    click.echo(f"{name} up:")
    for line in course.up():
        click.echo(f"  {line}")
    click.echo(f"{name} down:")
    for line in course.down():
        click.echo(f"  {line}")


def _check_free(name: str) -> None:
    """Nobody has this name: asked before the first hook runs. The device itself asks again, and is sure."""
    advice = "take it down first, or choose another name by --name"
    try:
        socket.if_nametoindex(name)
    except OSError:
        pass
    else:
        raise outcome.InUseError(f"{name} is in use: this interface exists; {advice}")
    if interface.is_served(name):
        raise outcome.InUseError(f"{name} is in use: someone serves {interface.socket_path(name)}; {advice}")
