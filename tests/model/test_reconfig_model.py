"""The diff against a slow and obvious model: whatever came before, applying the steps ends in what was asked for."""

import ipaddress
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model.strategies import KEYS, configs, few, own_addresses
from wgengine.config import Config
from wgengine.device_plan import PeerDelta, device_plan
from wgengine.reconfig import (
    AddAddress,
    AddPeer,
    AddRoute,
    ChangePeer,
    RemoveAddress,
    RemovePeer,
    RemoveRoute,
    SetDNS,
    SetMTU,
    diff,
)

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass
class ToyPeer:
    public_key: object
    preshared_key: object = None
    endpoint: str | None = None
    persistent_keepalive: int = 0
    allowed_ips: list = field(default_factory=list)


@dataclass
class ToyDevice:
    """WireGuard's rules for a set: an allowed IP has one owner, and giving it to another takes it away."""

    private_key: object = None
    listen_port: int = 0
    fwmark: int = 0
    by_key: dict = field(default_factory=dict)

    @property
    def public_key(self):
        return self.private_key and self.private_key.public_key

    @property
    def peers(self):
        return list(self.by_key.values())

    def commit(self, plan):
        self.private_key = plan.private_key or self.private_key
        self.listen_port = self.listen_port if plan.listen_port is None else plan.listen_port
        self.fwmark = self.fwmark if plan.fwmark is None else plan.fwmark
        for delta in plan.peers:
            self.change(delta)

    def change(self, delta):
        if delta.remove:
            del self.by_key[delta.public_key]
            return
        assert not (delta.update_only and delta.public_key not in self.by_key)
        peer = self.by_key.setdefault(delta.public_key, ToyPeer(delta.public_key))
        if delta.preshared_key is not None:
            peer.preshared_key = delta.preshared_key
        if delta.clear_preshared_key:
            peer.preshared_key = None
        if delta.endpoint is not None:
            peer.endpoint = str(delta.endpoint)
        if delta.persistent_keepalive is not None:
            peer.persistent_keepalive = delta.persistent_keepalive
        if delta.replace_allowed_ips:
            peer.allowed_ips.clear()
        for ip in delta.allowed_ips:
            if ip.startswith("-"):
                peer.allowed_ips.remove(ip[1:])  # an error if it is not there
                continue
            for other in self.by_key.values():
                if ip in other.allowed_ips:
                    other.allowed_ips.remove(ip)
            peer.allowed_ips.append(ip)

    def holds(self, config, endpoints=True):
        return (
            self.private_key == config.private_key
            and (self.listen_port, self.fwmark) == (config.listen_port, config.fwmark)
            and self.by_key.keys() == {peer.public_key for peer in config.peers}
            and all(
                seen.preshared_key == peer.preshared_key
                and seen.persistent_keepalive == peer.persistent_keepalive
                and sorted(seen.allowed_ips) == sorted(peer.allowed_ips)
                and (not endpoints or peer.endpoint is None or seen.endpoint == str(peer.endpoint))
                for peer in config.peers
                for seen in [self.by_key[peer.public_key]]
            )
        )


@dataclass
class ToyLink:
    """Linux' rules for an interface (promote_secondaries = 0)."""

    addresses: list = field(default_factory=list)
    routes: set = field(default_factory=set)
    mtu: int | None = None

    def do(self, step):
        match step:
            case AddAddress():
                if step.address not in self.addresses:
                    self.addresses.append(step.address)
            case RemoveAddress():
                self.remove(ipaddress.ip_interface(step.address))
            case AddRoute():
                self.routes.add((step.prefix, step.table))
            case RemoveRoute():
                self.routes.remove((step.prefix, step.table))
            case SetMTU():
                assert self.mtu == step.old
                self.mtu = step.new

    def remove(self, gone):
        of_subnet = [a for a in self.addresses if ipaddress.ip_interface(a).network == gone.network]
        if gone.version == 4 and of_subnet[:1] == [str(gone)]:
            self.addresses = [a for a in self.addresses if a not in of_subnet]  # the secondaries go with their primary
        elif of_subnet:  # else it went with its primary already
            self.addresses.remove(str(gone))
        if gone.version == 4 and not any(":" not in a for a in self.addresses):
            self.routes = {(prefix, table) for prefix, table in self.routes if ":" in prefix}

    def holds(self, config, can_route_default):
        return (
            sorted(self.addresses) == sorted(config.addresses)
            and self.mtu == config.mtu
            and self.routes == routes_of(config, can_route_default)
        )


def routes_of(config, can_route_default):
    if config.table == "off":
        return set()
    table = None if config.table == "auto" else config.table
    routes = set()
    for peer in config.peers:
        for ip in peer.allowed_ips:
            net = ipaddress.ip_network(ip)
            if net.prefixlen == 0:
                if can_route_default or table not in (None, 254):
                    routes.add((ip, table))
            elif table is not None or not any(
                own.version == net.version and net.subnet_of(own)
                for own in (ipaddress.ip_interface(a).network for a in config.addresses)
            ):
                routes.add((ip, table))
    return routes


def apply(before, after, device, link, *, can_route_default, observed=False):
    changes = diff(
        before, after, observed=device if observed else None, can_route_default=can_route_default, can_dns=True
    )
    device.commit(device_plan(changes.steps))
    for step in changes.steps:
        link.do(step)
    return changes


@relaxed
@given(st.lists(configs(), min_size=1, max_size=4), st.booleans())
def test_the_steps_lead_from_any_configuration_to_any_other(wanted, can_route_default):
    device, link, before = ToyDevice(), ToyLink(), None
    for config in wanted:
        changes = apply(before, config, device, link, can_route_default=can_route_default)
        assert device.holds(config)
        assert link.holds(config, can_route_default)
        dns = (before.dns, before.dns_search) if before else ((), ())
        assert any(isinstance(step, SetDNS) for step in changes.steps) == (dns != (config.dns, config.dns_search))
        assert len(set(changes.steps)) == len(changes.steps)
        before = config


@relaxed
@given(configs())
def test_nothing_changes_the_second_time(config):
    twin = Config.from_text(config.to_text())
    for again in (config, twin, twin.replace(peers=reversed(twin.peers))):
        changes = diff(config, again)
        assert not changes
        assert not device_plan(changes.steps)
        assert changes.skipped == diff(None, config).skipped


@relaxed
@given(configs(), configs(), st.data())
def test_what_others_changed_is_put_right(before, after, data):
    device, link = ToyDevice(), ToyLink()
    apply(None, before, device, link, can_route_default=True)
    # someone with `wg set`
    stray = data.draw(st.lists(st.sampled_from(KEYS), max_size=2))
    for key in stray:
        if key in device.by_key and data.draw(st.booleans()):
            del device.by_key[key]
        else:
            peer = device.by_key.setdefault(key, ToyPeer(key))
            peer.persistent_keepalive = data.draw(st.sampled_from([0, 7]))
            for ip in data.draw(st.lists(few, max_size=2, unique=True)):
                if not any(ip in other.allowed_ips for other in device.by_key.values()):
                    peer.allowed_ips.append(ip)
    device.fwmark = data.draw(st.sampled_from([0, 5]))
    device.listen_port = data.draw(st.sampled_from([before.listen_port, 7]))
    port = device.listen_port
    apply(before, after, device, link, can_route_default=True, observed=True)
    if before.listen_port == after.listen_port == 0:
        assert device.listen_port == port  # any will do
        device.listen_port = 0
    assert device.holds(after, endpoints=False)
    assert link.holds(after, True)


@relaxed
@given(configs(), st.data())
def test_one_changed_peer_is_one_step_for_the_device(config, data):
    if not config.peers:
        return
    peer = data.draw(st.sampled_from(config.peers))
    other = peer.replace(persistent_keepalive=9, allowed_ips=[*peer.allowed_ips, "192.0.2.0/30"])
    changes = diff(config, config.with_peer(other))
    assert [type(step) for step in changes.steps if not isinstance(step, AddRoute)] == [ChangePeer]
    (delta,) = device_plan(changes.steps).peers
    assert delta.allowed_ips == ("192.0.2.0/30",)
    gone = diff(config, config.without_peer(peer.public_key))
    assert [type(step) for step in gone.steps if not isinstance(step, RemoveRoute)] == [RemovePeer]


@relaxed
@given(configs(), st.lists(own_addresses, max_size=3))
def test_addresses_alone_leave_the_device_alone(config, addresses):
    changes = diff(config, config.replace(addresses=addresses))
    assert not device_plan(changes.steps)
    assert not any(isinstance(step, AddPeer | ChangePeer | RemovePeer) for step in changes.steps)


def test_the_toy_device_moves_a_prefix():
    # the model itself: what is given to one is gone from the other
    device = ToyDevice()
    one, two = KEYS[:2]
    for key in (one, two):
        device.change(PeerDelta(public_key=key, allowed_ips=("10.0.0.0/8",)))
    assert [peer.allowed_ips for peer in device.peers] == [[], ["10.0.0.0/8"]]
