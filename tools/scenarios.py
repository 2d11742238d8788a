"""Writes docs/scenarios.md from what the tests reported: rows of the kernel's netns.sh against pairings of programs.

python tools/scenarios.py           after `make test`, or `python tools/tiers.py rust netns interop crash`
"""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as xml
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from progress import ROOT
from tiers import REPORTS

DOCUMENT = ROOT / "docs" / "scenarios.md"
TIERS = ("netns", "interop", "crash")
OURS = "wgengine"
PEERS = ("wireguard-go", "boringtun-cli")
PAIRINGS = (f"{OURS}+{OURS}", *(pair for peer in PEERS for pair in (f"{OURS}+{peer}", f"{peer}+{OURS}")))

ROWS = {
    1: "exact byte counters of ten pings",
    2: "ping, TCP and UDP of both families, a connection for each processor",
    3: "the same with an MTU of 34,736",
    4: "both over IPv6 outside",
    5: "MTU 1300: padding never overshoots it",
    6: "another address and port, IPv4 outside",
    7: "another address and port, IPv6 outside",
    8: "the owner of an inner source is the whole device's to say; roaming does not care",
    9: "a new private key takes effect at once",
    10: "a tunnel through a tunnel",
    12: "a keepalive holds a NAT of two seconds open",
    15: "wg-quick's policy routing, everything through the tunnel",
    17: "a source address removed while in use",
    18: "answers leave from the address that was addressed",
    19: "a route with a better metric wins, and the peer sees the new source",
    20: "130,560 allowed IPs, and other answers that split",
    21: "what `wg set` means: empty files, one's own key, clamping, shrinking lists",
    22: "keys of low order get no datagram",
    23: "namespaces that go away, and an interface that moves between them",
    24: "what was made is unmade",
}

HEAD = """\
# Scenarios

Written by `tools/scenarios.py` from the reports of one run of the tests: not to be edited. The rows are those of the
kernel's `netns.sh`; a pairing names the program of side a, which usually begins, and that of side b. A cell counts the
tests that passed.
"""

# What a program cannot do by itself, so that its cell is empty.
EMPTY = """\
- A row that needs one device only has no pairing: its cell stands under the first.
- N3, and N4 with jumbo packets: boringtun-cli reads the MTU when it starts, and cuts off what is longer.
- N7 from one family to the other: wireguard-go cuts short the first IPv6 destination after an IPv4 one.
- N8: boringtun-cli checks a source against the sender's own list, so that only its side that sends is asked.
- N17 to N19: boringtun-cli is not asked.
- N5: kernel WireGuard pads to the MTU of the route. A program behind a TUN knows that of the interface: its datagrams
  are never longer than the longest packet makes them, but one of a narrower route may grow to that.
- N11, N13, N14 and N16 belong to a kernel that routes through itself, or to a router: not part of this table.
"""

BYTES = """\
## N1: the bytes of ten pings

As `wg` shows them; the test holds the wire and the interface against them. boringtun-cli counts what is inside, and
does not pad.
"""

_ROW = re.compile(r"(?:test_)?n(\d\d)_")
_MORE_ROWS = re.compile(r"_n(\d\d)(?=_)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One test that ran, and what it recorded."""

    name: str
    parameters: str
    passed: bool
    recorded: tuple[tuple[str, str], ...]

    @property
    def rows(self) -> list[int]:
        found = _ROW.match(self.name)
        return [int(found[1]), *map(int, _MORE_ROWS.findall(self.name[found.end() - 1 :]))] if found else []

    @property
    def pairing(self) -> str:
        """Its id says both programs, or the peer's and which part we have."""
        for pair in PAIRINGS:
            if pair in re.split(r"[\[\]]|(?<=\d)-|-(?=\d)", self.parameters):
                return pair
        for peer in PEERS:
            if peer in self.parameters:
                return f"{peer}+{OURS}" if "responder" in self.parameters else f"{OURS}+{peer}"
        return PAIRINGS[0]


def cases(folder: Path) -> Iterator[Case]:
    for tier in TIERS:
        report = folder / f"{tier}.xml"
        if not report.exists():
            raise SystemExit(
                f"scenarios: {report.relative_to(ROOT)} is missing: python tools/tiers.py {' '.join(TIERS)}"
            )
        for case in xml.parse(report).getroot().iter("testcase"):
            name, _, parameters = case.get("name", "").partition("[")
            if case.find("skipped") is None:
                yield Case(
                    name=name,
                    parameters=parameters.rstrip("]"),
                    passed=case.find("failure") is None and case.find("error") is None,
                    recorded=tuple((each.get("name", ""), each.get("value", "")) for each in case.iter("property")),
                )


def scenario_table(ran: Sequence[Case]) -> Iterator[str]:
    cells: dict[tuple[int, str], list[bool]] = defaultdict(list)
    for case in ran:
        for row in case.rows:
            cells[row, case.pairing].append(case.passed)
    yield f"| Row | What it shows | {' | '.join(pair.replace('+', ' → ') for pair in PAIRINGS)} |"
    yield "|---" * (2 + len(PAIRINGS)) + "|"
    for row, title in ROWS.items():
        told = []
        for pair in PAIRINGS:
            results = cells.get((row, pair), [])
            told.append(f"✓ {len(results)}" if results and all(results) else "**✗**" if results else "")
        yield f"| N{row} | {title} | {' | '.join(told)} |"


def bytes_table(ran: Sequence[Case]) -> Iterator[str]:
    yield "| Pairing | a: received, sent | b: received, sent |"
    yield "|---|---|---|"
    for case in ran:
        for name, value in case.recorded:
            if name == "n01":
                numbers = re.findall(r"(?:rx|tx) (\d+)", value)
                yield f"| {case.pairing.replace('+', ' → ')} | {', '.join(numbers[:2])} | {', '.join(numbers[2:])} |"


def figures(ran: Sequence[Case]) -> Iterator[str]:
    yield "| Test | What it measured |"
    yield "|---|---|"
    for case in ran:
        if re.match(r"test_(f\d+|c3_row|rekeys)_", case.name):
            for name, value in case.recorded:
                label = f"{case.pairing.replace('+', ' → ')}, {name}" if "+" in case.parameters else name
                yield f"| `{case.name}` | {label.replace('+', ' → ')}: {value} |"


def document(ran: Sequence[Case]) -> str:
    tests = sorted({case.name for case in ran if case.rows})
    parts = [
        HEAD,
        *scenario_table(ran),
        "",
        EMPTY,
        BYTES,
        *bytes_table(ran),
        "",
        "## Bad paths, restarts, rekeys",
        "",
        *figures(ran),
        "",
        "## Tests",
        "",
        *(f"- `{name}`" for name in tests),
    ]
    return "\n".join(parts) + "\n"


def main(arguments: Sequence[str]) -> int:
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    ran = list(cases(REPORTS))
    DOCUMENT.write_text(document(ran), encoding="utf-8")
    failed = [case.name for case in ran if case.rows and not case.passed]
    print(f"{DOCUMENT.relative_to(ROOT)}: {sum(bool(case.rows) for case in ran)} tests, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
