"""`wgengine VERB`: finds the verb, runs it, and turns whatever it raises into one line and an exit code.

`device` never gets as far as click: a daemon that lives for months shall not carry a command-line parser in its memory.
"""

import os
import sys
from typing import TYPE_CHECKING

from wgengine.cli import outcome

if TYPE_CHECKING:
    import click

# One line per verb, kept here so that `wgengine --help` loads none of them.
VERBS = {
    "demo": "Two engines, a tunnel between them, and how fast it is.",
    "up": "Bring up the tunnel of a wg-quick file, and keep it in the foreground.",
    "device": "Serve one WireGuard interface, configured with wg: a drop-in for wireguard-go.",
    "status": "Interfaces, their peers, handshakes and transfer.",
    "ping": "How far away a peer of the running engine is.",
    "whois": "Who owns an address in the running engine's tunnel.",
    "metrics": "The running engine's numbers, as Prometheus reads them.",
    "events": "What happens to the running engine, as it happens.",
    "genkey": "Make a private key.",
    "pubkey": "Read a private key, write its public key.",
    "genpsk": "Make a preshared key.",
    "bench": "Measure wgengine against other WireGuard implementations on this machine.",
}

# Verbs that share a file.
_MODULES = {"genkey": "keys", "pubkey": "keys", "genpsk": "keys"}


def main(argv: list[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["device"]:
        from wgengine.cli import device

        return device.main(arguments[1:], program="wgengine device")
    return _click(arguments)


def _click(arguments: list[str]) -> int:
    import click

    try:
        code = _group().main(arguments or ["--help"], prog_name="wgengine", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        outcome.complain(_with_hint(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        outcome.complain("interrupted")
        return outcome.INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError):  # `wgengine status | head`: no failure worth a word
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
            return outcome.FAILED
        if not outcome.is_foreseen(error):
            raise
        outcome.complain(outcome.describe(error))
        return outcome.code_for(error)
    return code if isinstance(code, int) else outcome.OK


def _with_hint(error: "click.ClickException") -> str:
    import click

    message = error.format_message().rstrip(".")
    if not isinstance(error, click.UsageError):
        return message
    return f"{message} (see `{error.ctx.command_path if error.ctx else 'wgengine'} --help`)"


def _group() -> "click.Group":
    import click

    import wgengine

    class Verbs(click.Group):
        """Loads the file of a verb when that verb is called."""

        def list_commands(self, ctx: click.Context) -> list[str]:
            return list(VERBS)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            if cmd_name not in VERBS:
                return None
            import importlib

            module = importlib.import_module(f"wgengine.cli.{_MODULES.get(cmd_name, cmd_name)}")
            command = getattr(module, cmd_name)
            assert isinstance(command, click.Command)
            return command

        def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            with formatter.section("Verbs"):
                formatter.write_dl(list(VERBS.items()))

    group = Verbs(
        help="A WireGuard engine inside Python.",
        epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 needs privilege, 4 not running. Every verb takes --json.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    return click.version_option(wgengine.__version__, "-V", "--version", message="wgengine %(version)s")(group)
