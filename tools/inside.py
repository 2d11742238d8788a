"""Runs a program in a tree that holds another system, as if that were the whole machine; its mounts end with it.

python tools/inside.py TREE UID PROGRAM [ARGUMENT...]
Needs root. The tree becomes the root of a mount namespace and not merely of the process (chroot), or the program could
make no namespaces of its own.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence

# sched.h, sys/mount.h
CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 4096, 16384, 1 << 18, 2

_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: bytes | int | None) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def enter(tree: str) -> None:
    call("unshare", CLONE_NEWNS)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    call("mount", tree.encode(), tree.encode(), None, MS_BIND | MS_REC, None)
    for folder in ("dev", "proc", "sys"):
        inside = os.path.join(tree, folder)
        os.makedirs(inside, exist_ok=True)
        call("mount", f"/{folder}".encode(), inside.encode(), None, MS_BIND | MS_REC, None)
    os.chdir(tree)
    # the old root comes to lie on the new one, and is taken off it
    call("pivot_root", b".", b".")
    call("umount2", b".", MNT_DETACH)
    os.chdir("/")


def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 3:
        print(__doc__, file=sys.stderr)
        return 2
    tree, user, *command = arguments
    enter(os.path.abspath(tree))
    if int(user) != 0:
        os.setgroups([])
        os.setgid(int(user))
        os.setuid(int(user))
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
