"""Runs the tests tier by tier, cheapest first, and counts them.

python tools/tiers.py [TIER...]   (default all: rust unit model netns interop crash)
A tier in which nothing ran has failed: a renamed folder must not pass for a green one. In CI a test that skips has
failed too, because there every prerequisite is promised.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from collections.abc import Sequence
from dataclasses import dataclass, field

from progress import ROOT

CRATES = ("wgengine-core", "wgengine-noise", "wgengine-io", "wgengine-load", "wgengine-fuzz")
PYTEST_TIERS = ("unit", "model", "netns", "interop", "crash")
TIERS = ("rust", *PYTEST_TIERS)
REPORTS = ROOT / "target" / "junit"
# pytest-timeout ends a test that hangs in Python; this ends a tier that hangs where Python has no say.
TIER_LIMIT_SECONDS = 1800.0

# Binaries without tests say so in three lines each.
_CARGO_EMPTY = re.compile(r"^(\s*|running 0 tests|test result: ok\. 0 passed; 0 failed; 0 ignored;.*)$")
_CARGO_RESULT = re.compile(r"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class Tier:
    """What one tier came to."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def run_rust() -> Tier:
    """Each crate alone, so that a feature which one crate's tests switch on reaches no other."""
    tier = Tier(name="rust")
    for crate in CRATES:
        print(crate, flush=True)
        command = ["cargo", "test", "--quiet", "--package", crate]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
        assert process.stdout is not None
        output = []
        for line in process.stdout:
            output.append(line)
            if not _CARGO_EMPTY.match(line):
                sys.stdout.write(line)
                sys.stdout.flush()
        results = _CARGO_RESULT.findall("".join(output))
        for passed, failed, ignored in results:
            tier.passed += int(passed)
            tier.failed += int(failed)
            tier.skipped += int(ignored)
        if process.wait() != 0:
            tier.wrong.append(f"cargo test -p {crate} ended with exit status {process.returncode}")
    return tier


def run_pytest(name: str) -> Tier:
    tier = Tier(name=name)
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    report.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pytest", f"tests/{name}", f"--junitxml={report}"]
    try:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False, timeout=TIER_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        tier.wrong.append(f"was ended after {TIER_LIMIT_SECONDS / 60:.0f} minutes")
        return tier
    status = done.returncode
    if report.exists():
        for suite in xml.parse(report).getroot().iter("testsuite"):
            count = {key: int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")}
            tier.failed += count["failures"] + count["errors"]
            tier.skipped += count["skipped"]
            tier.passed += count["tests"] - count["failures"] - count["errors"] - count["skipped"]
    if status not in (0, 1):
        tier.wrong.append(f"pytest ended with exit status {status}")
    elif status == 1 and not tier.failed:
        tier.wrong.append("pytest failed without naming a test")
    if os.environ.get("CI") and tier.skipped:
        tier.wrong.append(f"{tier.skipped} tests were skipped in CI, where nothing may be missing")
    return tier


def run(name: str) -> Tier:
    print(f"\n━━ {name} ━━", flush=True)
    started = time.monotonic()
    tier = run_rust() if name == "rust" else run_pytest(name)
    tier.seconds = time.monotonic() - started
    if not tier.wrong and not (tier.passed + tier.failed + tier.skipped):
        tier.wrong.append("no test ran")
    return tier


def main(names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in TIERS]
    if unknown:
        print(f"✗ No such tier: {' '.join(unknown)}. There are: {' '.join(TIERS)}", file=sys.stderr)
        return 2
    tiers = [run(name) for name in names or TIERS]
    print(f"\n{'tier':<10}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for tier in tiers:
        print(f"{tier.name:<10}{tier.passed:>8}{tier.failed:>8}{tier.skipped:>9}{tier.seconds:>9.0f}")
    for tier in tiers:
        for text in tier.wrong:
            print(f"✗ {tier.name}: {text}")
    passed, failed, skipped = (sum(getattr(t, key) for t in tiers) for key in ("passed", "failed", "skipped"))
    print(f"total: {passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed or any(tier.wrong for tier in tiers) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
