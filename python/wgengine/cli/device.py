"""`wgengine device IF`: one WireGuard interface, configured over its UAPI socket; a drop-in for wireguard-go.

    parse → fork twice → make the device → tell the parent → serve until the link, the socket file or a signal ends it

The process imports the standard library's small modules and `wgengine._native`, nothing else: no event loop, no
command-line parser. It forks before the device exists, because a fork copies no threads.
"""

import errno
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from wgengine.cli import interface, outcome, priority, secrecy

if TYPE_CHECKING:
    from wgengine._native import Device

_HELP: Final = """\
Usage: {program} [-f] [--json] INTERFACE

Serve one WireGuard interface, configured with `wg` and `ip`; a drop-in for wireguard-go.
Goes to the background once the interface and its UAPI socket exist.

  -f, --foreground  stay in the foreground (also WG_PROCESS_FOREGROUND=1)
  --json            say what was started as one JSON object
  --version         show the version
  -h, --help        show this text

It ends when the interface or its socket file is removed, and on SIGTERM or SIGINT. As a diagnostic,
SIGUSR1 switches every offload off while packets flow.

Environment:
  LOG_LEVEL             silent, error (default) or verbose
  WG_TUN_FD             number of an open TUN descriptor to adopt
  WG_UAPI_FD            number of a listening UAPI socket to adopt
  WG_TUN_NAME_FILE      macOS: file that receives the name the kernel chose for `utun`
  WGENGINE_SHARDS       number of data threads (default: by cores)
  WGENGINE_TUN_OFFLOAD, WGENGINE_UDP_GSO, WGENGINE_UDP_GRO
                        0 switches that offload off
  WGENGINE_NICE         nice value of the data threads (default: {nice}, where that is allowed)
"""

_LEVELS: Final = {"silent": 0, "error": 1, "info": 1, "verbose": 2, "debug": 2}
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Order(NamedTuple):
    """What the command line and the environment ask for."""

    name: str
    foreground: bool
    json: bool
    level: int
    keep_output: bool
    tun_fd: int | None
    uapi_fd: int | None
    name_file: str | None
    shards: int
    tun_offload: bool
    udp_gso: bool
    udp_gro: bool
    nice: int


def main(argv: Sequence[str] | None = None, *, program: str = "wgengine-device") -> int:
    """Runs the command and returns its exit code; in the background the daemon itself never returns from here."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if "-h" in arguments or "--help" in arguments:
        print(_HELP.format(program=program, nice=priority.NICE), end="")
        return outcome.OK
    if "--version" in arguments:
        from wgengine._native import version

        print(f"wgengine {version}")
        return outcome.OK
    try:
        order = parse(arguments, os.environ, program=program)
    except outcome.UsageError as error:
        outcome.complain(error)
        return outcome.USAGE
    try:
        return _serve(order) if order.foreground else _daemonise(order)
    except KeyboardInterrupt:  # before the device is there; a daemon that is starting finds nobody to tell, and ends
        outcome.complain("interrupted")
        return outcome.INTERRUPTED


def parse(arguments: Sequence[str], environment: Mapping[str, str], *, program: str) -> Order:
    """Reads the command line and the environment. Raises `UsageError`."""
    names: list[str] = []
    flags: set[str] = set()
    for argument in arguments:
        if argument in ("-f", "--foreground", "--json"):
            flags.add(argument)
        elif argument.startswith("-"):
            raise outcome.UsageError(f"{argument} is no option of {program}; see `{program} --help`")
        else:
            names.append(argument)
    if len(names) != 1:
        given = "no interface name given" if not names else f"one interface at a time, not {' '.join(names)}"
        raise outcome.UsageError(f"{given}; write `{program} wg0`")
    level = environment.get("LOG_LEVEL", "").lower()
    if level and level not in _LEVELS:
        raise outcome.UsageError(f"LOG_LEVEL={level}: write silent, error or verbose")
    return Order(
        name=interface.check_name(names[0]),
        foreground=bool(flags & {"-f", "--foreground"}) or environment.get("WG_PROCESS_FOREGROUND") == "1",
        json="--json" in flags,
        level=_LEVELS[level or "error"],
        keep_output=bool(level) and level != "silent",
        tun_fd=_number(environment, "WG_TUN_FD"),
        uapi_fd=_number(environment, "WG_UAPI_FD"),
        name_file=environment.get("WG_TUN_NAME_FILE") if sys.platform == "darwin" else None,
        shards=_number(environment, "WGENGINE_SHARDS") or 0,
        tun_offload=_switch(environment, "WGENGINE_TUN_OFFLOAD"),
        udp_gso=_switch(environment, "WGENGINE_UDP_GSO"),
        udp_gro=_switch(environment, "WGENGINE_UDP_GRO"),
        nice=priority.nice(environment),
    )


def _number(environment: Mapping[str, str], variable: str) -> int | None:
    text = environment.get(variable, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise outcome.UsageError(f"{variable}={text}: write a decimal number")
    return int(text)


def _switch(environment: Mapping[str, str], variable: str) -> bool:
    text = environment.get(variable) or "1"
    if text not in ("0", "1"):
        raise outcome.UsageError(f"{variable}={text}: write 0 or 1")
    return text == "1"


def _daemonise(order: Order) -> int:
    """Leaves a daemon behind and returns once it serves, or with its error."""
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = outcome.FAILED
        try:
            os.close(reading)
            os.setsid()
            if os.fork() != 0:  # the session's leader goes, so that the daemon can never get a terminal
                os._exit(outcome.OK)
            os.chdir("/")
            _close_inherited({writing, order.tun_fd, order.uapi_fd})
            code = _serve(order, ready=writing)
            sys.stdout.flush()
            sys.stderr.flush()
        except Exception:  # a fault of ours
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, encoding="utf-8", errors="replace") as report:
        code_text, _, message = report.read().partition("\n")
    if code_text == str(outcome.OK):
        if message:
            print(message, flush=True)
        return outcome.OK
    outcome.complain(message or f"{order.name}: the daemon died before the interface was ready")
    return int(code_text) if code_text.isdigit() else outcome.FAILED


def _close_inherited(kept: set[int | None]) -> None:
    """A daemon holds no pipe of whoever started it: someone may wait for its end."""
    low = 3
    for descriptor in sorted(number for number in kept if number is not None and number >= low):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _serve(order: Order, ready: int | None = None) -> int:
    """Makes the device and keeps it until something ends it. `ready` is the pipe to a waiting parent."""
    secrecy.keep_secret()
    wakeup, wakeup_writing = os.pipe()
    os.set_blocking(wakeup, False)
    os.set_blocking(wakeup_writing, False)
    signal.set_wakeup_fd(wakeup_writing, warn_on_full_buffer=False)
    for number in _SIGNALS:
        signal.signal(number, _noted)
    try:
        device = _make(order)
    except Exception as error:
        if not outcome.is_foreseen(error):
            raise
        return _report_failure(order, error, ready)
    try:
        _report_success(order, device, ready)
        return _watch(device, wakeup, order.level)
    except BrokenPipeError:  # whoever started it is gone already
        return outcome.FAILED
    finally:
        device.close()


def _noted(_number: int, _frame: object) -> None:
    """The wake-up descriptor has carried the signal's number already."""


def _make(order: Order) -> "Device":
    from wgengine._native import Device

    device = Device(
        name=None if order.tun_fd is not None else order.name,
        tun_fd=order.tun_fd,
        uapi=True,
        uapi_fd=order.uapi_fd,
        shards=order.shards,
        tun_offload=order.tun_offload,
        udp_gso=order.udp_gso,
        udp_gro=order.udp_gro,
        nice=order.nice,
    )
    if order.name_file:
        try:
            with open(order.name_file, "w", encoding="utf-8") as file:
                file.write(f"{device.name}\n")
        except OSError:
            device.close()
            raise
    return device


def _report_failure(order: Order, error: Exception, ready: int | None) -> int:
    code = outcome.USAGE if isinstance(error, ValueError) else outcome.code_for(error)
    message = f"{order.name}: {explain(error, order)}"
    if ready is None:
        outcome.complain(message)
    else:
        os.write(ready, f"{code}\n{message}".encode())
    return code


def explain(error: Exception, order: Order) -> str:
    """What went wrong with the device, and what to do."""
    text = outcome.describe(error)
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return "another process serves this interface already; choose another name, or end that process first"
    if code == errno.EBUSY or (code == errno.EINVAL and os.path.exists(f"/sys/class/net/{order.name}")):
        return "the interface exists already and is not ours to take; choose another name"
    if code == errno.EBADF and order.tun_fd is not None:
        return f"WG_TUN_FD={order.tun_fd} is not an open TUN descriptor ({text})"
    if isinstance(error, PermissionError) and os.geteuid() == 0 and not interface.sockets_are_ours():
        # root of a user namespace, who may make the TUN but not the socket
        return (
            f"{interface.SOCKETS} belongs to another user; in a mount namespace of your own (`unshare -Urnm`) "
            "put an empty /run over it: `mount -t tmpfs tmpfs /run`"
        )
    return text


def _report_success(order: Order, device: "Device", ready: int | None) -> None:
    import json

    socket = interface.socket_path(device.name)
    if order.json:
        line = json.dumps({"interface": device.name, "mtu": device.mtu, "pid": os.getpid(), "socket": socket})
    else:
        line = f"wgengine: {device.name} runs; configure it with `wg set {device.name} …`, end it with Ctrl-C"
    if ready is not None:
        # like wireguard-go: silent on success, and the terminal is kept only when a log level was asked for
        os.write(ready, f"{outcome.OK}\n{line if order.json else ''}".encode())
        os.close(ready)
        _leave_terminal(order.keep_output)
    elif order.json:
        print(line, flush=True)
    elif order.level > 0:
        print(line, file=sys.stderr, flush=True)


def _leave_terminal(keep_output: bool) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0,) if keep_output else (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _watch(device: "Device", wakeup: int, level: int) -> int:
    """Waits for signals and the device's events; returns the exit code when one of them ends the process."""
    poller = select.poll()
    poller.register(wakeup, select.POLLIN)
    poller.register(device.event_fd, select.POLLIN)
    while True:
        for descriptor, _ in poller.poll():
            if descriptor == wakeup:
                for number in os.read(wakeup, 64):
                    if number != signal.SIGUSR1:
                        _log(device, f"ends on {signal.Signals(number).name}", level >= 2)
                        return outcome.OK
                    device.set_offloads(tun_offload=False, udp_gso=False, udp_gro=False)
                    _log(device, "every offload is switched off", level >= 1)
                continue
            for kind, _, fields in device.drain():
                if kind == "failed":
                    _log(device, f"failed: {fields.get('reason')}", level >= 1)
                    return outcome.FAILED
                _log(device, _sentence(kind, fields), level >= (1 if kind == "uapi_refused" else 2))
                if kind in ("tun_lost", "uapi_removed"):
                    return outcome.OK


def _sentence(kind: str, fields: dict[str, object]) -> str:
    details = " ".join(f"{key}={value}" for key, value in fields.items())
    return f"{kind.replace('_', ' ')} {details}".rstrip()


def _log(device: "Device", text: str, wanted: bool) -> None:
    if wanted:
        clock = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"wgengine: {device.name}: {clock} {text}", file=sys.stderr, flush=True)
