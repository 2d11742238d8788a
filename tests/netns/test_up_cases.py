"""Trouble reports about configuration files, each by `wgengine up` in a namespace: what `wg` and `ip` then show."""

from __future__ import annotations

import codecs
import time
from typing import TYPE_CHECKING

import pytest
from lab import dut, is_wgengine, until
from peers.device import Device, pubkey
from peers.quick import copied, gone
from peers.up import Up, up

if TYPE_CHECKING:
    from lab import Host, Lab

pytestmark = pytest.mark.skipif(not is_wgengine(), reason="a command of wgengine")

SECRET = "8HVbNOh8bpKUGeXo08E97c2GohkHFQ6hfSQA5pvs4nY="
FIRST = "nxr4xDJF6xdur1OqnndnQlgwwl2Y6TpNA3tzkNdOd2U="
SECOND = "E2n+4goIysa+phcqj9b8RkZd+SxoCA3mghUSBYxSSQI="
FIRST_HEX = "9f1af8c43245eb176eaf53aa9e7767425830c25d98e93a4d037b7390d74e7765"


def text(interface: str = "", peer: str = "", *more: str) -> str:
    said = f"[Interface]\nPrivateKey = {SECRET}\n{interface}\n[Peer]\nPublicKey = {FIRST}\n{peer}\n"
    return said + "".join(f"[Peer]\n{section}\n" for section in more)


def running(lab: Lab, said: str | bytes) -> Up:
    tunnel = up(lab, lab.host(), "")
    tunnel.file.write_bytes(said if isinstance(said, bytes) else said.encode())
    tunnel.start()
    return tunnel


def allowed(tunnel: Up, key: str = FIRST) -> frozenset[str]:
    return tunnel.device.peer(key).allowed_ips


def addresses(tunnel: Up) -> set[str]:
    """The addresses of the interface, but the kernel's own link-local one."""
    lines = tunnel.host.run("ip", "-o", "address", "show", "dev", tunnel.name).splitlines()
    return {line.split()[3] for line in lines if " scope link" not in line}


def refused(tunnel: Up, *options: str) -> str:
    """The one line with which it ends; nothing was touched."""
    before = tunnel.host.snapshot()
    done = tunnel.attempt(*options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("wgengine: ")
    tunnel.host.assert_clean(before, patience_s=0)
    assert not tunnel.device.socket_path.exists()
    return done.stderr


PLAIN = text("Address = 10.9.0.1/24\nListenPort = 51820\n", "AllowedIPs = 10.9.0.2/32")


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + PLAIN.replace("\n", "\r\n").encode(),
        codecs.BOM_UTF8 + PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.rstrip("\n").encode(),
    ],
    ids=["bom-crlf", "bom", "crlf", "no-last-line-end"],
)
def test_case_01_up_takes_a_mark_and_windows_line_ends(lab: Lab, data: bytes) -> None:
    tunnel = running(lab, data)
    shown = tunnel.device.show()
    assert (shown.public, shown.listen_port) == (pubkey(SECRET), 51820)
    assert set(shown.peers) == {FIRST}
    assert allowed(tunnel) == {"10.9.0.2/32"}
    assert addresses(tunnel) == {"10.9.0.1/24"}
    plan = tunnel.attempt("--dry-run").stdout
    tunnel.write(PLAIN)
    assert tunnel.attempt("--dry-run").stdout == plan
    assert "\r" not in plan
    assert tunnel.stop() == 0


def test_case_01_up_refuses_utf16_by_its_name(lab: Lab) -> None:
    tunnel = up(lab, lab.host(), "")
    tunnel.file.write_bytes(codecs.BOM_UTF16_LE + PLAIN.encode("utf-16-le"))
    for options in ((), ("--dry-run",)):
        assert "UTF-16LE" in refused(tunnel, *options)


def test_case_03_up_makes_no_peer_of_a_comment(lab: Lab) -> None:
    commented = (
        f"Address = 10.9.0.1/24\n# [Peer]\n#PublicKey = {SECOND}\n#AllowedIPs = 10.9.0.3/32\n"
        "# friendly_name = the [Peer] that we lost\n"
    )
    tunnel = running(lab, text(commented, "# friendly_name = office\nAllowedIPs = 10.9.0.2/32"))
    assert set(tunnel.device.show().peers) == {FIRST}
    assert allowed(tunnel) == {"10.9.0.2/32"}
    assert "10.9.0.3" not in tunnel.attempt("--dry-run").stdout + tunnel.host.run("ip", "route", "show")
    assert tunnel.stop() == 0


def test_case_05_up_takes_prefixes_in_every_form(lab: Lab) -> None:
    entries = "10.9.0.77/24, 10.8.0.1, 2001:db8:0:5::5/64,2001:db8:1::9"
    tunnel = running(lab, text("Address = 10.9.0.1", f"AllowedIPs = {entries}"))
    assert allowed(tunnel) == {"10.9.0.0/24", "10.8.0.1/32", "2001:db8:0:5::/64", "2001:db8:1::9/128"}
    assert addresses(tunnel) == {"10.9.0.1/32"}
    for entry in ("10.9.0.77/24", "2001:db8:0:5::5/64"):
        assert f"warning: {tunnel.file}:6: AllowedIPs: {entry} has host bits" in tunnel.log
    assert tunnel.stop() == 0


@pytest.mark.parametrize(
    "entry", ["10.9.0.2/33", "10.9.0/24", "10.9.0.2/-1", "2001:db8::/129", "10.9.0.2/ 24x", "(none)"]
)
def test_case_05_up_refuses_a_bad_prefix(lab: Lab, entry: str) -> None:
    tunnel = up(lab, lab.host(), text("Address = 10.9.0.1", f"AllowedIPs = {entry}"))
    said = refused(tunnel)
    assert f"{tunnel.file}:6: AllowedIPs: " in said
    assert f'"{entry}"' in said


@pytest.mark.parametrize(
    ("fwmark", "port", "keepalive", "shown"),
    [
        ("0x64", "51820", "off", ("0x64", 51820, "off")),
        ("OFF", "0", "0", ("off", None, "off")),
        ("4294967295", "65535", "65535", ("0xffffffff", 65535, "65535")),
        ("0xFFFFFFFF", "51820", "25", ("0xffffffff", 51820, "25")),
    ],
)
def test_case_07_up_takes_numbers(
    lab: Lab, fwmark: str, port: str, keepalive: str, shown: tuple[str, int | None, str]
) -> None:
    tunnel = running(lab, text(f"FwMark = {fwmark}\nListenPort = {port}", f"PersistentKeepalive = {keepalive}"))
    dump = tunnel.device.show()
    assert dump.fwmark == shown[0]
    assert dump.peers[FIRST].keepalive == shown[2]
    assert dump.listen_port == shown[1] if shown[1] is not None else dump.listen_port > 0
    assert tunnel.stop() == 0


@pytest.mark.parametrize(
    ("fwmark", "port", "keepalive", "place"),
    [
        ("0x1FFFFFFFF", "51820", "25", "3: FwMark"),
        ("off", "65536", "25", "4: ListenPort"),
        ("off", "51820", "65536", "7: PersistentKeepalive"),
        ("12abc", "51820", "25", "3: FwMark"),
        ("off", "51820", "-1", "7: PersistentKeepalive"),
    ],
)
def test_case_07_up_refuses_a_bad_number(lab: Lab, fwmark: str, port: str, keepalive: str, place: str) -> None:
    said = text(f"FwMark = {fwmark}\nListenPort = {port}", f"PersistentKeepalive = {keepalive}")
    tunnel = up(lab, lab.host(), said)
    assert f"{tunnel.file}:{place}: " in refused(tunnel)


def test_case_09_up_takes_any_letter_case_and_blanks(lab: Lab) -> None:
    tunnel = running(
        lab,
        f" [INTERFACE]\nprivatekey={SECRET}\n\tLISTENPORT\t=\t51999\naddress=10.9.0.1/24,2001:db8:9::1/64\n"
        f"[peer]\n  Publickey={FIRST}\nAllowedIps=10.9.0.2/32,10.9.0.3/32\n   endpoint = 192.0.2.1:1\n",
    )
    shown = tunnel.device.show()
    assert (shown.public, shown.listen_port) == (pubkey(SECRET), 51999)
    assert addresses(tunnel) == {"10.9.0.1/24", "2001:db8:9::1/64"}
    assert allowed(tunnel) == {"10.9.0.2/32", "10.9.0.3/32"}
    assert shown.peers[FIRST].endpoint == "192.0.2.1:1"
    assert tunnel.stop() == 0


def test_case_09_up_refuses_an_unknown_key(lab: Lab) -> None:
    tunnel = up(lab, lab.host(), text("Address = 10.9.0.1/24", "AlowedIPs = 10.0.0.0/8"))
    said = refused(tunnel)
    assert f"{tunnel.file}:6: " in said
    assert "write AllowedIPs" in said


def test_case_11_up_gives_a_prefix_to_the_last_who_claims_it(lab: Lab) -> None:
    claims = text(
        "Address = 10.9.0.1/24\nTable = off",
        "AllowedIPs = 0.0.0.0/0, 10.9.0.2/32",
        f"PublicKey = {SECOND}\nAllowedIPs = 0.0.0.0/0, 10.9.0.0/24",
    )
    tunnel = running(lab, claims)
    assert (allowed(tunnel), allowed(tunnel, SECOND)) == ({"10.9.0.2/32"}, {"0.0.0.0/0", "10.9.0.0/24"})
    (warning,) = (line for line in tunnel.log.splitlines() if "warning" in line)
    assert warning.index("0.0.0.0/0") < warning.index(FIRST) < warning.index("loses") < warning.index(SECOND)
    assert tunnel.device.uapi(f"set=1\npublic_key={FIRST_HEX}\nallowed_ip=10.9.0.0/24") == "errno=0\n\n"
    assert allowed(tunnel) == {"10.9.0.2/32", "10.9.0.0/24"}
    assert allowed(tunnel, SECOND) == {"0.0.0.0/0"}
    tunnel.device.wg_set("peer", SECOND, "remove")
    assert allowed(tunnel) == {"10.9.0.2/32", "10.9.0.0/24"}
    assert tunnel.stop() == 0


def with_default(lab: Lab) -> Host:
    """A host with default routes that something else than we made."""
    host, _ = lab.pair()
    host.run("ip", "route", "add", "default", "via", "192.0.2.254")
    host.run("ip", "-6", "route", "add", "default", "via", "2001:db8::fe")
    return host


def table_text(table: str | None) -> str:
    line = "" if table is None else f"Table = {table}"
    return text(
        f"Address = 10.9.0.1/24\n{line}", "Endpoint = 192.0.2.1:51820\nAllowedIPs = 0.0.0.0/0, ::/0, 10.20.0.0/16"
    )


def routes(tunnel: Up) -> set[str]:
    """Every route over the interface in every table, but those that the kernel makes for an address."""
    said = "".join(
        tunnel.host.run("ip", family, "route", "show", "table", "all", "dev", tunnel.name) for family in ("-4", "-6")
    )
    rows = [line.split() for line in said.splitlines() if "proto kernel" not in line and "multicast" not in line]
    return {" ".join(row[:1] + row[1:3] * (row[1] == "table")) for row in rows}


@pytest.mark.parametrize("table", ["off", "OFF", "1234", "0x4d2"])
@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_case_13_up_with_table_off_or_a_number(lab: Lab, table: str, end: str) -> None:
    host = with_default(lab)
    before = host.snapshot()
    tunnel = up(lab, host, table_text(table))
    tunnel.start()
    in_table = {"default table 1234", "10.20.0.0/16 table 1234"}
    assert routes(tunnel) == (set() if table.lower() == "off" else in_table)
    in_ipv6 = host.run("ip", "-6", "route", "show", "table", "1234", check=False)
    assert (f"default dev {tunnel.name}" in in_ipv6) == (table.lower() != "off")
    now = host.snapshot()
    assert now.rules == before.rules
    assert before.routes < now.routes, "the routes of others are as they were"
    assert tunnel.device.show().fwmark == "off"
    assert allowed(tunnel) == {"0.0.0.0/0", "::/0", "10.20.0.0/16"}
    if end == "SIGTERM":
        assert tunnel.stop() == 0
    else:
        tunnel.device.kill9()
    host.assert_clean(before)


@pytest.mark.parametrize("table", ["auto", None, "main"])
def test_case_13_up_refuses_a_default_route_and_names_wg_quick(lab: Lab, table: str | None) -> None:
    tunnel = up(lab, with_default(lab), table_text(table))
    for options in ((), ("--dry-run",)):
        said = refused(tunnel, *options)
        for word in ("0.0.0.0/0", "::/0", "WG_QUICK_USERSPACE_IMPLEMENTATION=wgengine-device wg-quick up", "Table"):
            assert word in said


@pytest.mark.parametrize("table", ["auto", None])
def test_case_13_the_way_that_the_refusal_names_works(lab: Lab, table: str | None) -> None:
    """wg-quick over the device: default routes in a table of their own, looked up by all but the tunnel itself."""
    host = with_default(lab)
    before = host.snapshot()
    tunnel = up(lab, host, table_text(table))
    quick = copied(lab)
    client = Device(program=dut(), host=host, name=tunnel.name)
    quick(client, "up", tunnel.file)
    mark = client.show().fwmark
    number = str(int(mark, 16))
    assert routes(tunnel) == {f"default table {number}", "10.20.0.0/16"}
    assert f"default dev {tunnel.name}" in host.run("ip", "-6", "route", "show", "table", number)
    for family in ("-4", "-6"):
        rules = host.run("ip", family, "rule")
        assert f"not from all fwmark {mark} lookup {number}" in rules
        assert "from all lookup main suppress_prefixlength 0" in rules
    assert "default via 192.0.2.254" in host.run("ip", "route", "show", "table", "main")
    quick(client, "down", tunnel.file)
    until(lambda: gone(client), "the device ends with its link", timeout_s=5)
    host.assert_clean(before)


@pytest.mark.parametrize("table", ["banana", "0", "12 34", "0x1ffffffff"])
def test_case_13_up_refuses_a_table_that_is_none(lab: Lab, table: str) -> None:
    tunnel = up(lab, with_default(lab), table_text(table))
    assert f"{tunnel.file}:4: Table: " in refused(tunnel)


def test_case_13_table_main_without_a_default_route(lab: Lab) -> None:
    host = with_default(lab)
    before = host.snapshot()
    tunnel = up(lab, host, text("Address = 10.9.0.1/24\nTable = main", "AllowedIPs = 10.20.0.0/16"))
    tunnel.start()
    assert routes(tunnel) == {"10.20.0.0/16"}
    assert tunnel.stop() == 0
    host.assert_clean(before)


def test_case_15_up_refuses_dns_and_looks_nothing_up(lab: Lab) -> None:
    dns = "Address = 10.9.0.1/24\nDNS = 198.51.100.53,2001:db8::53, corp.example , lab.example."
    tunnel = up(lab, lab.host(), text(dns, "AllowedIPs = 10.9.0.0/24"))
    begun = time.monotonic()
    said = refused(tunnel)
    assert time.monotonic() - begun < 10, "a resolver without a network takes longer than that"
    assert "dns 198.51.100.53 2001:db8::53 corp.example lab.example" in said
    assert "wg-quick" in said


def test_a_name_that_leads_nowhere_is_told_and_the_tunnel_is_up(lab: Lab) -> None:
    tunnel = running(lab, text("Address = 10.9.0.1/24", "Endpoint = no-such-name.invalid:51820"))
    until(lambda: "warning" in tunnel.log and "no-such-name.invalid" in tunnel.log, "it is told", timeout_s=20)
    assert tunnel.stop() == 0
