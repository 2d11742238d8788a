"""The few packets that the demo makes itself when its devices live in memory: ICMP echo, and UDP super-packets.

A message on an in-memory device is what a TUN with IFF_VNET_HDR carries: struct virtio_net_hdr, then the IP packet.
Flags and types are those of linux/virtio_net.h.
"""

import struct
from typing import Final, NamedTuple

VNET: Final = struct.Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
_NEEDS_CSUM: Final = 1
_GSO_UDP_L4: Final = 5
_PLAIN: Final = VNET.pack(0, 0, 0, 0, 0, 0)

_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_UDP: Final = struct.Struct("!HHHH")
_ECHO: Final = struct.Struct("!BBHHH")
_ICMP: Final = 1
_UDP_PROTOCOL: Final = 17
ECHO_REPLY: Final = 0
ECHO_REQUEST: Final = 8
UDP_HEADERS: Final = _IPV4.size + _UDP.size

_SOURCE_PORT: Final = 49152
BULK: Final = 9  # destination ports: discard (RFC 863), and two of our own
ACKNOWLEDGE: Final = 49153
END: Final = 49154
_STAMP: Final = struct.Struct("!Q")


class Echo(NamedTuple):
    """An ICMP echo request or reply."""

    kind: int
    identifier: int
    sequence: int
    payload: bytes


class Datagrams(NamedTuple):
    """The UDP datagrams of one message: their port, the stamp of the first, how many they are, their bytes together."""

    port: int
    stamp: int
    number: int
    size: int


def checksum(data: bytes, initial: int = 0) -> int:
    """The Internet checksum before its final complement (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = initial + sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def echo(source: bytes, destination: bytes, message: Echo) -> bytes:
    """An ICMP echo as a message for an in-memory device. Addresses are four bytes."""
    return _PLAIN + _ipv4(source, destination, _ICMP, icmp(message))


def icmp(message: Echo) -> bytes:
    """An ICMP echo alone, as a raw socket wants it."""
    blank = _ECHO.pack(message.kind, 0, 0, message.identifier, message.sequence) + message.payload
    return blank[:2] + struct.pack("!H", checksum(blank) ^ 0xFFFF) + blank[4:]


def parse_icmp(packet: bytes) -> Echo | None:
    """The echo in an IPv4 packet, if it is one."""
    start = (packet[0] & 0x0F) * 4 if packet else 0
    if len(packet) < start + _ECHO.size or packet[0] >> 4 != 4 or packet[9] != _ICMP:
        return None
    kind, _, _, identifier, sequence = _ECHO.unpack_from(packet, start)
    return Echo(kind, identifier, sequence, packet[start + _ECHO.size :])


class Burst:
    """A UDP super-packet that is made once and stamped anew for each sending."""

    def __init__(self, source: bytes, destination: bytes, mtu: int) -> None:
        self._step = mtu - UDP_HEADERS
        self.count = 0xFFFF // self._step - 1  # the IPv4 length field is the limit
        self._start = VNET.size + UDP_HEADERS
        header = VNET.pack(_NEEDS_CSUM, _GSO_UDP_L4, UDP_HEADERS, self._step, _IPV4.size, 6)
        self._message = bytearray(header + _udp(source, destination, BULK, bytes(self._step * self.count)))

    def stamped(self, first: int) -> bytearray:
        """The message with its datagrams numbered from `first`; it stays valid until the next call."""
        for index in range(self.count):
            _STAMP.pack_into(self._message, self._start + index * self._step, first + index)
        return self._message


def datagram(source: bytes, destination: bytes, port: int, payload: bytes) -> bytes:
    """One UDP datagram as a message; its checksum is left to the device, as the kernel leaves it to a network card."""
    header = VNET.pack(_NEEDS_CSUM, 0, UDP_HEADERS, 0, _IPV4.size, 6)
    return header + _udp(source, destination, port, payload)


def acknowledgement(source: bytes, destination: bytes, highest: int, lost: int) -> bytes:
    """Tells the sender of bursts how far they came and how many datagrams are missing."""
    return datagram(source, destination, ACKNOWLEDGE, _STAMP.pack(highest) + _STAMP.pack(lost))


def parse_acknowledgement(message: bytes | memoryview) -> tuple[int, int]:
    """The two numbers of an acknowledgement."""
    start = VNET.size + UDP_HEADERS
    return _STAMP.unpack_from(message, start)[0], _STAMP.unpack_from(message, start + _STAMP.size)[0]


def is_udp(message: bytes | memoryview) -> bool:
    """Whether a message carries UDP in IPv4 (all that the demo sends has no IP options)."""
    return len(message) >= VNET.size + UDP_HEADERS + _STAMP.size and message[VNET.size + 9] == _UDP_PROTOCOL


def parse_datagrams(message: bytes | memoryview) -> Datagrams:
    """What a UDP message holds; one for which `is_udp` is true."""
    _, gso_type, _, step, _, _ = VNET.unpack_from(message)
    size = len(message) - VNET.size - UDP_HEADERS
    _, port, _, _ = _UDP.unpack_from(message, VNET.size + _IPV4.size)
    (stamp,) = _STAMP.unpack_from(message, VNET.size + UDP_HEADERS)
    number = -(-size // step) if gso_type == _GSO_UDP_L4 and step else 1
    return Datagrams(port, stamp, number, size)


def _udp(source: bytes, destination: bytes, port: int, payload: bytes) -> bytes:
    length = _UDP.size + len(payload)
    pseudo_header = checksum(source + destination + struct.pack("!HH", _UDP_PROTOCOL, length))
    return _ipv4(source, destination, _UDP_PROTOCOL, _UDP.pack(_SOURCE_PORT, port, length, pseudo_header) + payload)


def _ipv4(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    fields = (0x45, 0, _IPV4.size + len(payload), 0, 0x4000, 64, protocol)
    blank = _IPV4.pack(*fields, 0, source, destination)
    return _IPV4.pack(*fields, checksum(blank) ^ 0xFFFF, source, destination) + payload
