"""Where control sockets are, who may have one there, and who is at the other end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator
from typing import Final

from wgengine.errors import ConfigError, PrivilegeError, StateError

__all__ = ["folders", "home", "listen", "listing", "peer_uid", "socket_path"]

RUN: Final = "/var/run/wgengine" if sys.platform == "darwin" else "/run/wgengine"
SUFFIX: Final = ".sock"
_LONGEST_PATH: Final = 103  # sockaddr_un less its NUL, where it is shortest (macOS)
_BACKLOG: Final = 16
_LOCK_S: Final = 2.0
_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED = 0, 1, 76  # <sys/un.h>, <sys/ucred.h> of macOS


def folders() -> list[str]:
    """Where sockets may be: the system's place, and the user's own."""
    own = os.environ.get("XDG_RUNTIME_DIR")
    return [RUN, os.path.join(own, "wgengine")] if own and os.path.isabs(own) else [RUN]


def home() -> str:
    """Where this user may put one."""
    for folder in folders():
        place = folder if os.path.exists(folder) else os.path.dirname(folder)
        if os.access(place, os.W_OK | os.X_OK):
            return folder
    raise PrivilegeError(f"{RUN} is closed to this user; set XDG_RUNTIME_DIR to a directory of your own")


def socket_path(name: str, folder: str | None = None) -> str:
    """The socket of an interface."""
    return os.path.join(home() if folder is None else folder, name + SUFFIX)


def listing() -> dict[str, str]:
    """Every interface that has a socket, served or not, and where: the system's place comes first."""
    found: dict[str, str] = {}
    for folder in folders():
        try:
            names = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            raise PrivilegeError(f"{folder} is closed to this user; run this as root (sudo)") from None
        for name in sorted(names):
            if name.endswith(SUFFIX):
                found.setdefault(name.removesuffix(SUFFIX), os.path.join(folder, name))
    return found


def listen(path: str) -> socket.socket:
    """A listening socket at `path`, for this user only. One that a dead process left there is replaced. Blocks."""
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(f"{path} is too long for a socket; set a shorter XDG_RUNTIME_DIR")
    folder = os.path.dirname(path)
    with contextlib.suppress(FileExistsError):
        # that others see which interfaces there are is no secret: `ip link` says it too
        os.mkdir(folder, 0o755 if folder == RUN else 0o700)
    _check_folder(folder)
    with _only_one(folder):
        _make_way(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path)
            os.chmod(path, 0o600)  # nobody can connect before the next line
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise OSError(error.errno, error.strerror, path) from None
        return listener


def _check_folder(folder: str) -> None:
    about = os.lstat(folder)
    if not stat.S_ISDIR(about.st_mode) or about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o022:
        raise ConfigError(f"{folder} must be a directory of this user that nobody else writes to; chmod 755 or move it")


@contextlib.contextmanager
def _only_one(folder: str) -> Iterator[None]:
    """Two that find the same dead socket must not both replace it. Nobody else can open the file that is locked."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(os.path.join(folder, ".lock"), flags, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StateError(f"another engine starts in {folder}; try again") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(lock)


def _make_way(path: str) -> None:
    """Remove what a dead process left; a live one keeps its place."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"{path} is in the way and is no socket; move it")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # one whose backlog is full is alive
            probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    except BlockingIOError:
        pass
    raise StateError(f"{path} is served by another engine; end it, or choose another name")


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end, as the kernel knows it."""
    if sys.platform == "darwin":
        _, uid = struct.unpack_from("II", connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED))
    else:
        _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)
