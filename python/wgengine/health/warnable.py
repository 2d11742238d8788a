"""What can be wrong with an engine: each thing once, with a text that says what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["WARNABLES", "Severity", "Warnable"]


class Severity(StrEnum):
    """How bad it is. The worst comes first where warnings are listed."""

    HIGH = "high"  # the engine does not do what it is there for, or is not safe
    MEDIUM = "medium"  # something that was asked for does not work
    LOW = "low"  # worth knowing

    @property
    def rank(self) -> int:
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}
_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Warnable:
    """One thing that can be wrong. `text` names its arguments in braces; whoever raises it gives exactly those."""

    code: str  # never changed once released: alarms are built on it
    title: str
    text: str
    severity: Severity = Severity.MEDIUM
    depends_on: tuple[Warnable, ...] = ()  # while one of these is wrong, this is its consequence and not shown
    impacts_connectivity: bool = False
    time_to_visible: float = 0.0  # seconds that it must last before it is shown
    debug_flag: str = ""  # told to a control server while it lasts

    @property
    def arguments(self) -> frozenset[str]:
        return frozenset(_FIELD.findall(self.text))

    def describe(self, args: Mapping[str, str]) -> str:
        return self.text.format_map(args)


NETWORK_STATUS = Warnable(
    code="network-status",
    title="Network down",
    text="No network interface is up, so nothing can be reached. Check cable, Wi-Fi, or the virtual machine's network.",
    impacts_connectivity=True,
    time_to_visible=5.0,
)
WANTRUNNING_FALSE = Warnable(
    code="wantrunning-false",
    title="Switched off",
    text="The engine was told to be down. Give it a configuration to bring it up again.",
    severity=Severity.LOW,
)
WARMING_UP = Warnable(
    code="warming-up",
    title="Starting",
    text="The engine is starting. Wait a moment.",
    severity=Severity.LOW,
)
ENGINE_FAILED = Warnable(
    code="engine-failed",
    title="Engine failed",
    text="The engine carries nothing any more: {error}. Close it and make another one; the log says more.",
    severity=Severity.HIGH,
    impacts_connectivity=True,
)
NO_UDP4_BIND = Warnable(
    code="no-udp4-bind",
    title="No IPv4 socket",
    text="There is no UDP socket for IPv4: {error}. Peers with IPv4 endpoints cannot be reached; give the host IPv4.",
    depends_on=(NETWORK_STATUS, WANTRUNNING_FALSE),
    impacts_connectivity=True,
)
ROUTER = Warnable(
    code="router",
    title="Routes not set",
    text="Addresses, routes or firewall are not as configured: {error}. It is tried again with the next change.",
)
DNS = Warnable(
    code="dns",
    title="DNS not set",
    text="Name resolution is not as configured: {error}. It is tried again with the next change.",
)
STATE_STORE_HEALTH = Warnable(
    code="state-store-health",
    title="State not kept",
    text="The state directory cannot be used: {error}. What is learnt now is lost at the next start.",
    severity=Severity.HIGH,
)
INVALID_PACKET_FILTER = Warnable(
    code="invalid-packet-filter",
    title="Packet filter refused",
    text="The packet filter's rules could not be read, so nothing is let in: {error}. Mend the netmap's rules.",
    severity=Severity.HIGH,
)
IP_FORWARDING_OFF = Warnable(
    code="ip-forwarding-off",
    title="Forwarding off",
    text="Routes are advertised, but this host does not forward for them. Switch it on: {settings}.",
    impacts_connectivity=True,
    debug_flag="warn-ip-forwarding-off",
)
TUN_PERMISSION = Warnable(
    code="tun-permission",
    title="No interface",
    text="The tunnel's interface could not be made: {error}. It takes /dev/net/tun and CAP_NET_ADMIN.",
    severity=Severity.HIGH,
    impacts_connectivity=True,
)
OWN_INTERFACE_DAMAGED = Warnable(
    code="own-interface-damaged",
    title="Interface changed by others",
    text="Another program changed the tunnel's interface: {damage}. Undo it, and tell that program to leave it alone.",
    impacts_connectivity=True,
)
BUFFER_TOO_SMALL = Warnable(
    code="buffer-too-small",
    title="Small socket buffers",
    text="The kernel gave smaller socket buffers than asked for: {buffers}. Raise net.core.rmem_max and wmem_max.",
    severity=Severity.LOW,
)
ROUTE_CONFLICT = Warnable(
    code="route-conflict",
    title="Routes overlap",
    text="This host sends part of the tunnel's traffic elsewhere: {routes}. Remove those routes, or renumber one side.",
)
ADDRESS_CONFLICT = Warnable(
    code="address-conflict",
    title="Address in use",
    text="Our own address is also somewhere else: {addresses}. Give one of the two another address.",
)
PEER_HANDSHAKE_FAILING = Warnable(
    code="peer-handshake-failing",
    title="Peer does not answer",
    text="Packets wait for peers that do not answer: {peers}. Check that each runs, its endpoint and keys, and that no "
    "firewall in between drops UDP.",
    depends_on=(NETWORK_STATUS,),
    time_to_visible=15.0,
)
PEER_ENDPOINT_UNRESOLVABLE = Warnable(
    code="peer-endpoint-unresolvable",
    title="Endpoint not found",
    text="Names of endpoints cannot be looked up: {peers}. Check the names and this host's DNS.",
    depends_on=(NETWORK_STATUS,),
)
DUPLICATE_KEY = Warnable(
    code="duplicate-key",
    title="Key used twice",
    text="Peers are heard from two places in turn: {peers}. Most likely a key was copied to a second machine; give "
    "each its own.",
    severity=Severity.HIGH,
)
MTU_BLACKHOLE = Warnable(
    code="mtu-blackhole",
    title="Path too small",
    text="Large packets do not fit the path to some peers: {peers}. Set a smaller MTU, such as 1280.",
    severity=Severity.LOW,
    depends_on=(NETWORK_STATUS,),
)
TEST_WARNABLE = Warnable(
    code="test-warnable",
    title="A test",
    text="{error}",
    severity=Severity.LOW,
)

WARNABLES: tuple[Warnable, ...] = (
    NETWORK_STATUS,
    WANTRUNNING_FALSE,
    WARMING_UP,
    ENGINE_FAILED,
    NO_UDP4_BIND,
    ROUTER,
    DNS,
    STATE_STORE_HEALTH,
    INVALID_PACKET_FILTER,
    IP_FORWARDING_OFF,
    TUN_PERMISSION,
    OWN_INTERFACE_DAMAGED,
    BUFFER_TOO_SMALL,
    ROUTE_CONFLICT,
    ADDRESS_CONFLICT,
    PEER_HANDSHAKE_FAILING,
    PEER_ENDPOINT_UNRESOLVABLE,
    DUPLICATE_KEY,
    MTU_BLACKHOLE,
    TEST_WARNABLE,
)
