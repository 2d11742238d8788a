"""`up FILE`: one tunnel of a wg-quick file or a netmap, in the foreground. Here: which, and whether it can be done."""

import dataclasses
import json
import os
import shutil
import socket
from typing import Final

import click

from wgengine import Config, ConfigError, Engine, Knobs
from wgengine.cli import interface, outcome, priority, secrecy
from wgengine.cli.desk import Wanted
from wgengine.cli.log import log_to_stderr
from wgengine.course import Course, refusal
from wgengine.hooks import SHELL
from wgengine.netmap import NetMap
from wgengine.prefs import Prefs

FOLDER: Final = "/etc/wireguard"
SUFFIX: Final = ".conf"
NETMAP_SUFFIX: Final = ".json"


@click.command()
@click.argument("conf")
@click.option("--name", metavar="IF", help="Name of the interface; else the file's, without its ending.")
@click.option("--prefs", metavar="FILE", help="What you want of a netmap: a JSON object, as of wgengine.Prefs.")
@click.option("--dry-run", is_flag=True, help="Print every step, hooks too, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line for what happens.")
def up(conf: str, name: str | None, prefs: str | None, dry_run: bool, as_json: bool) -> int:
    """Bring up the tunnel of CONF and keep it until Ctrl-C or SIGTERM.

    CONF is a wg-quick file, the name of one in /etc/wireguard, or a netmap that ends in .json. SIGHUP reads it again
    and changes only what differs.
    """
    log_to_stderr(os.environ)
    knobs = dataclasses.replace(Knobs.from_env(), nice=priority.nice(os.environ))
    file, name = place(conf, name)
    wanted, wishes = read(file), read_prefs(prefs)
    if prefs is not None and isinstance(wanted, Config):
        raise outcome.UsageError(f"only a netmap has preferences, and {file} is a wg-quick file; leave --prefs out")
    if dry_run:
        _show(file, name, wanted, wishes, as_json=as_json)
        return outcome.OK
    _check_free(name)
    secrecy.keep_secret()
    import asyncio

    from wgengine.cli.tunnel import Tunnel

    tunnel = Tunnel(wanted, wishes, name, knobs=knobs, reread=lambda: (read(file), read_prefs(prefs)), as_json=as_json)
    return asyncio.run(tunnel.run())


def place(conf: str, name: str | None) -> tuple[str, str]:
    """The file's absolute path and the interface's name, as wg-quick finds them."""
    if "/" in conf or conf.endswith((SUFFIX, NETMAP_SUFFIX)):
        path = conf
    else:
        path = f"{FOLDER}/{interface.check_name(conf)}{SUFFIX}"
    if name is not None:
        return os.path.abspath(path), interface.check_name(name)
    base = os.path.basename(path)
    if not base.endswith((SUFFIX, NETMAP_SUFFIX)):
        problem = f"{base} does not end in .conf or .json, so it names no interface; add --name wg0 or the like"
        raise outcome.UsageError(problem)
    try:
        return os.path.abspath(path), interface.check_name(base.removesuffix(SUFFIX).removesuffix(NETMAP_SUFFIX))
    except outcome.UsageError as error:
        raise outcome.UsageError(f"{error}, by --name") from None


def read(file: str) -> Wanted:
    """What a file says. A wg-quick file is taken if `up` can do all of it."""
    if file.endswith(NETMAP_SUFFIX):
        return NetMap.from_file(file)
    config = Config.from_file(file)
    refused = refusal(config, file)
    if refused is not None:
        raise refused
    has_hooks = any((config.pre_up, config.post_up, config.pre_down, config.post_down))
    if has_hooks and shutil.which(SHELL) is None:
        raise ConfigError("hooks are lines for bash, and there is none here; install bash", file=file)
    return config


def read_prefs(file: str | None) -> Prefs:
    """The preferences of a file; without one, the defaults."""
    if file is None:
        return Prefs()
    with open(file, "rb") as opened:
        text = opened.read()
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"this is no JSON ({error}); write an object, such as {{}}", file=file) from None
    if not isinstance(data, dict):
        raise ConfigError("write an object, such as {}", file=file)
    try:
        return Prefs.from_dict(data)
    except ConfigError as error:
        raise error.at(file=file) from None


def _show(file: str, name: str, wanted: Wanted, prefs: Prefs, *, as_json: bool) -> None:
    """The dry run."""
    if not isinstance(wanted, Config):
        _show_netmap(file, name, wanted, prefs, as_json=as_json)
        return
    config = wanted
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


def _show_netmap(file: str, name: str, netmap: NetMap, prefs: Prefs, *, as_json: bool) -> None:
    changes = Engine(name=name).plan(netmap, prefs=prefs)
    if as_json:
        skipped = [{"what": each.what, "needs": each.needs} for each in changes.skipped]
        shown = {"interface": name, "file": file, "up": list(changes), "skipped": skipped, "warnings": netmap.warnings}
        click.echo(json.dumps(shown, ensure_ascii=False))
        return
    click.echo(f"{name} up:")
    for line in str(changes).splitlines():
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
