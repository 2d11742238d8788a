"""Private network namespaces for this process, with or without root (Linux).

`os.unshare` and `os.setns` came with Python 3.12; on 3.11 the same calls are made through the C library.
"""

import errno
import os
import sys
from collections.abc import Callable

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000


def enter_new(*, user: bool = False) -> None:
    """Moves this process into a new, empty network namespace.

    With `user` it first becomes root of a new user namespace, which needs no privilege where the kernel allows it.
    The process must be single-threaded for that. `OSError` where it is not allowed.
    """
    if not user:
        _unshare(_CLONE_NEWNET)
        return
    uid, gid = os.geteuid(), os.getegid()
    # both at once: the new network namespace then belongs to the new user namespace
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    _write("/proc/self/setgroups", "deny")  # without it an unprivileged gid_map is refused, user_namespaces(7)
    _write("/proc/self/uid_map", f"0 {uid} 1")
    _write("/proc/self/gid_map", f"0 {gid} 1")


def join_user_of(pid: int) -> None:
    """Moves this process into the user namespace of another, of which its own user is the owner."""
    descriptor = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(descriptor, _CLONE_NEWUSER)
    finally:
        os.close(descriptor)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _unshare(flags: int) -> None:
    if sys.version_info >= (3, 12):
        _linux_only()
        os.unshare(flags)
    else:
        _from_libc("unshare", flags)


def _setns(descriptor: int, kind: int) -> None:
    if sys.version_info >= (3, 12):
        _linux_only()
        os.setns(descriptor, kind)
    else:
        _from_libc("setns", descriptor, kind)


def _from_libc(name: str, *arguments: int) -> None:
    _linux_only()
    import ctypes

    call: Callable[..., int] = getattr(ctypes.CDLL(None, use_errno=True), name)
    if call(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _linux_only() -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "network namespaces are a feature of Linux")
