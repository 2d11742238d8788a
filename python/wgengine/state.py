"""What outlives the process: our key, the greatest handshake timestamp of each peer, the last netmap.

One directory, private to its user, and one engine at a time in it. A file is replaced whole or not at all: written
beside, synced, renamed, and the directory synced. A file that cannot be read as what it is to be is told once, by a
`DamagedError`, and kept aside under another name; then it is as if it had never been there. All calls block.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Final, Self

from wgengine.errors import ClosedError, ConfigError, DamagedError, PrivilegeError, StateError
from wgengine.forks import Owner
from wgengine.keys import PrivateKey, PublicKey

__all__ = ["CachedNetMap", "StateDir"]

_KEY: Final = "node.key"
_TIMESTAMPS: Final = "timestamps"
_NETMAP: Final = "netmap"
_ASIDE: Final = ".corrupt"

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO there holds nobody up
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_TIMESTAMPS_HEAD: Final = b"wgengine timestamps 1\n"
_KEY_SIZE: Final = 32
_TIMESTAMP_SIZE: Final = 12  # TAI64N, as a handshake carries it
_DIGEST_SIZE: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedNetMap:
    """The last netmap, as the text that it came as. It may hold our private key, so it is not shown."""

    text: str = field(repr=False)
    revision: int


class StateDir:
    """The directory at `path`, made if it is not there. It is ours until `close`, which the end of a `with` calls."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Final = os.path.abspath(os.fspath(path))
        self._owner = Owner()
        self._directory: int | None = _open_directory(self.path)
        try:
            fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._leave()
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise StateError(f"{self.path} is used by another engine; give each its own state_dir") from None

    def close(self) -> None:
        """Give the directory up. Again: does nothing."""
        if self._directory is not None:
            if self._owner.is_here:  # the lock is the parent's too, whichever of the two lets it go
                fcntl.flock(self._directory, fcntl.LOCK_UN)
            self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- What is kept.

    def node_key(self, *, create: bool = False) -> PrivateKey | None:
        """Our private key; None when there is none, unless it is to be created."""
        file = self._open(_KEY)
        if file is not None:
            file.close()
            try:
                return PrivateKey.from_file(self._place(_KEY))  # in Rust: Python does not wipe what it has read
            except ConfigError:
                raise self._set_aside(_KEY, "it holds no key") from None
        if not create:
            return None
        if self._exists(_KEY + _ASIDE):  # a new key would be another node: not without being asked
            kept = self._place(_KEY + _ASIDE)
            raise DamagedError(
                f"{self._place(_KEY)} was damaged and is kept as {kept}; put the key back from a backup, "
                "or remove that file to be given a new one",
                path=self._place(_KEY),
                kept=kept,
            )
        key = PrivateKey.generate()
        self._write(_KEY, key.to_base64().encode() + b"\n")
        return key

    def newest_timestamps(self) -> dict[PublicKey, bytes]:
        """The greatest handshake timestamp of each peer: 12 bytes of TAI64N, which compare as they are."""
        data = self._read(_TIMESTAMPS)
        if data is None:
            return {}
        head, records, digest = (
            data[: len(_TIMESTAMPS_HEAD)],
            data[len(_TIMESTAMPS_HEAD) : -_DIGEST_SIZE],
            data[-_DIGEST_SIZE:],
        )
        size = _KEY_SIZE + _TIMESTAMP_SIZE
        if head != _TIMESTAMPS_HEAD or _digest(head + records) != digest:
            raise self._set_aside(_TIMESTAMPS, "its checksum is wrong")
        return {
            PublicKey.from_bytes(records[at : at + _KEY_SIZE]): records[at + _KEY_SIZE : at + size]
            for at in range(0, len(records), size)
        }

    def save_newest_timestamps(self, newest: Mapping[PublicKey, bytes]) -> None:
        """Keep these, and no others."""
        for timestamp in newest.values():
            if len(timestamp) != _TIMESTAMP_SIZE:
                raise ValueError(f"a timestamp has {_TIMESTAMP_SIZE} bytes, not {len(timestamp)}")
        content = _TIMESTAMPS_HEAD + b"".join(bytes(key) + timestamp for key, timestamp in newest.items())
        self._write(_TIMESTAMPS, content + _digest(content))

    def cached_netmap(self) -> CachedNetMap | None:
        """The netmap that was saved last."""
        data = self._read(_NETMAP)
        if data is None:
            return None
        head, _, body = data.partition(b"\n")
        try:
            about = json.loads(head)
            revision, digest = about["revision"], about["digest"]
            whole = about["wgengine_netmap"] == 1 and type(revision) is int and digest == _netmap_digest(revision, body)
            text = body.decode()
        except (ValueError, KeyError, TypeError, RecursionError):
            whole = False
        if not whole:
            raise self._set_aside(_NETMAP, "its checksum is wrong")
        return CachedNetMap(text=text, revision=revision)

    def save_cached_netmap(self, text: str, revision: int) -> None:
        """Keep this one instead."""
        body = text.encode()
        head = json.dumps({"wgengine_netmap": 1, "revision": revision, "digest": _netmap_digest(revision, body)})
        self._write(_NETMAP, head.encode() + b"\n" + body)

    # -- Files.

    def _place(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _here(self) -> int:
        if self._directory is None:
            raise ClosedError(f"{self.path} was given up; make another StateDir")
        return self._directory

    def _leave(self) -> None:
        directory, self._directory = self._directory, None
        if directory is not None:
            os.close(directory)

    def _exists(self, name: str) -> bool:
        try:
            os.stat(name, dir_fd=self._here(), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _read(self, name: str) -> bytes | None:
        file = self._open(name)
        if file is None:
            return None
        with file:
            return file.read()

    def _open(self, name: str) -> BinaryIO | None:
        """A file of ours, if it is there; one that others may have written or read is refused."""
        place = self._place(name)
        try:
            descriptor = os.open(name, _READ, dir_fd=self._here())
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ConfigError(f"{place} is a symbolic link; put the file itself there", field="state_dir") from None
            raise OSError(error.errno, error.strerror, place) from None
        about, problem = os.fstat(descriptor), None
        if not stat.S_ISREG(about.st_mode):
            problem = f"{place} is no file; move it away"
        elif about.st_uid not in (0, os.geteuid()) or about.st_mode & 0o077:
            problem = f"{place} is open to others; chmod 600 it, chown it to this user"
        if problem is None:
            return open(descriptor, "rb")
        os.close(descriptor)
        raise ConfigError(problem, field="state_dir")

    def _write(self, name: str, content: bytes) -> None:
        directory, beside = self._here(), f".{name}.new"
        try:
            with contextlib.suppress(FileNotFoundError):  # of an engine that was killed: there is but one, and it is us
                os.unlink(beside, dir_fd=directory)
            descriptor = os.open(beside, _WRITE, 0o600, dir_fd=directory)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.rename(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(beside, dir_fd=directory)
            raise OSError(error.errno, error.strerror, self._place(name)) from None

    def _set_aside(self, name: str, why: str) -> DamagedError:
        kept: str | None = self._place(name + _ASIDE)
        try:
            os.rename(name, name + _ASIDE, src_dir_fd=self._here(), dst_dir_fd=self._here())
        except OSError:  # a file system that was made read-only, say: it is damaged all the same
            kept = None
        where = f"it is kept as {kept}" if kept is not None else "it could not be moved away"
        return DamagedError(f"{self._place(name)} is damaged: {why}; {where}", path=self._place(name), kept=kept)


def _open_directory(path: str) -> int:
    """Its descriptor. By that it stays the same one, whatever becomes of its name."""
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        if os.path.islink(path):
            raise ConfigError(f"{path} is a symbolic link; name the directory itself", field="state_dir")
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{path} is no directory; name one, or a place for a new one", field="state_dir") from None
    except PermissionError:
        raise PrivilegeError(f"{path} is closed to this user; name another state_dir") from None
    about = os.fstat(descriptor)
    if about.st_uid not in (0, os.geteuid()):
        problem = f"{path} belongs to user {about.st_uid}; chown it to user {os.geteuid()}"
    elif about.st_mode & 0o022:
        problem = f"{path} may be written to by others; chmod 700 it"
    else:
        return descriptor
    os.close(descriptor)
    raise ConfigError(problem, field="state_dir")


def _digest(*content: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST_SIZE)
    for part in content:
        digest.update(part)
    return digest.digest()


def _netmap_digest(revision: int, text: bytes) -> str:
    return _digest(b"%d\n" % revision, text).hex()
