"""Names of interfaces and where their UAPI sockets are. Standard library only, for `wgengine device`."""

import os
import string
from typing import Final

from wgengine.cli.outcome import UsageError

SOCKETS: Final = "/var/run/wireguard"
SUFFIX: Final = ".sock"
_LETTERS: Final = frozenset(string.ascii_letters + string.digits + "_=+.-")  # those that wg-quick takes
_LONGEST: Final = 15  # IFNAMSIZ less its NUL


def check_name(name: str) -> str:
    """The name, if it can be one; it becomes part of a path."""
    if not 0 < len(name) <= _LONGEST or not _LETTERS.issuperset(name) or name in (".", ".."):
        shown = ascii(name if len(name) <= 40 else name[:40] + "...")
        raise UsageError(f"{shown} is no interface name; write 1 to {_LONGEST} letters or digits, such as wg0")
    return name


def sockets_are_ours() -> bool:
    """Whether this user may put a socket where they are."""
    place = SOCKETS
    while not os.path.exists(place):
        place = os.path.dirname(place)
    return os.access(place, os.W_OK)


def socket_path(name: str) -> str:
    """Where the UAPI socket of an interface is."""
    return f"{SOCKETS}/{name}{SUFFIX}"


def is_served(name: str) -> bool:
    """Whether someone accepts connections on the UAPI socket of an interface, in whichever namespace it is."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(socket_path(name))
        except OSError:
            return False
        return True
