"""Runs a command on a machine that lacks something: `without.py ipv4|ipv6|netlink|tun COMMAND…`.

The first three answer socket() of that family as a kernel without it does, by a seccomp filter, which also reaches
programs that call the kernel themselves. The last hides /dev/net in a mount namespace of the command's own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_UNLESS_EQUAL, RETURN = 0x20, 0x15, 0x06  # of classic BPF: ld [k], jeq k, ret k
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16  # in struct seccomp_data
SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
CLONE_NEWNS = 0x00020000
MS_REC_PRIVATE = 0x4000 | 0x40000


def without_family(family: int) -> None:
    def step(code: int, otherwise: int, k: int) -> bytes:
        return struct.pack("=HBBI", code, 0, otherwise, k)

    steps = [
        step(LOAD, 0, NUMBER_AT),
        step(JUMP_UNLESS_EQUAL, 3, SOCKET_CALL[platform.machine()]),
        step(LOAD, 0, FIRST_ARGUMENT_AT),
        step(JUMP_UNLESS_EQUAL, 1, family),
        step(RETURN, 0, SECCOMP_RET_ERRNO | errno.EAFNOSUPPORT),
        step(RETURN, 0, SECCOMP_RET_ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(steps))
    program = struct.pack("=HxxxxxxQ", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def without_tun() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if (
        libc.unshare(CLONE_NEWNS)
        or libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None)
        or libc.mount(b"none", b"/dev/net", b"tmpfs", 0, None)
    ):
        raise OSError(ctypes.get_errno(), "a mount namespace without /dev/net")


if __name__ == "__main__":
    what, *command = sys.argv[1:]
    if what == "tun":
        without_tun()
    else:
        without_family({"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6, "netlink": socket.AF_NETLINK}[what])
    os.execvp(command[0], command)
