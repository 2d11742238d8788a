"""The ranges that Tailscale gives its nodes' addresses from, and its service addresses."""

from __future__ import annotations

__all__ = [
    "CGNAT",
    "CHROME_OS_VMS",
    "SERVICE_V4",
    "SERVICE_V6",
    "ULA",
    "is_cgnat_host",
    "is_tailscale_host",
    "is_ula_host",
]

CGNAT = "100.64.0.0/10"
CHROME_OS_VMS = "100.115.92.0/23"  # of the former, where a Chromebook has its own machines
ULA = "fd7a:115c:a1e0::/48"
SERVICE_V4 = "100.100.100.100/32"
SERVICE_V6 = "fd7a:115c:a1e0::53/128"


# All of these look at canonical text only: there is one for each of a hundred thousand nodes.


def is_ula_host(prefix: str) -> bool:
    """Whether this is a single address within `ULA`, whose first three groups are never shortened."""
    return prefix.startswith("fd7a:115c:a1e0:") and prefix.endswith("/128")


def is_cgnat_host(prefix: str) -> bool:
    """Whether this is a single address within `CGNAT`."""
    return prefix.startswith("100.") and prefix.endswith("/32") and 64 <= int(prefix.split(".", 2)[1]) <= 127


def is_tailscale_host(prefix: str) -> bool:
    """Whether this is a single address that Tailscale would give to a node."""
    if not is_cgnat_host(prefix):
        return is_ula_host(prefix)
    return not prefix.startswith(("100.115.92.", "100.115.93."))
