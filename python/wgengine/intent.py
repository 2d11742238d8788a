"""What is wanted of one engine: the netmap in use and what it came to, the knobs, and who owns an address by them.

Pure but for what it remembers; nothing here touches a device or a part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wgengine.config import Config
from wgengine.peers import PeerIndex

if TYPE_CHECKING:
    from wgengine.configurator import Wish
    from wgengine.derive import Derived
    from wgengine.dns_config import DNSConfig
    from wgengine.keys import PublicKey
    from wgengine.knobs import Knobs
    from wgengine.netmap import NetMap
    from wgengine.node import Node
    from wgengine.prefs import Prefs
    from wgengine.router_config import RouterConfig
    from wgengine.wishes import Wishes

__all__ = ["Intent"]


class Intent:
    """`wishes` knows what this engine can carry out."""

    def __init__(self, wishes: Wishes, knobs: Knobs) -> None:
        self.knobs = knobs
        self.index = PeerIndex()
        self.netmap: NetMap | None = None
        self.dns: DNSConfig | None = None
        """As last asked for, whether or not it was accepted."""
        self._wishes = wishes
        self._derived: Derived | None = None

    # -- To be planned: nothing is remembered.

    def wish(self, config: Config | NetMap, prefs: Prefs) -> Wish:
        """What a configuration or a netmap asks for. `ConfigError` for a netmap that is older than the one in use."""
        return self._wish(config, prefs)[0]

    def wish_of_configs(self, wg: Config, router: RouterConfig, dns: DNSConfig) -> Wish:
        """What the three configurations ask for."""
        return self._wishes.of_configs(wg, router, dns, self._knobs_of(self.netmap), self.netmap)

    def _wish(self, config: Config | NetMap, prefs: Prefs) -> tuple[Wish, Derived | None]:
        if isinstance(config, Config):
            return self._wishes.of_config(config, self.knobs), None
        config.check_succeeds(self.netmap)
        return self._wishes.of_netmap(config, prefs, self._knobs_of(config), self._derived)

    def _knobs_of(self, netmap: NetMap | None) -> Knobs:
        own = netmap.self_node if netmap is not None else None
        return self.knobs.overridden_by(own.attributes) if own is not None else self.knobs

    # -- To be carried out: it counts from now on.

    def take(self, config: Config | NetMap, prefs: Prefs) -> Wish:
        """The same as `wish`, remembered."""
        wish, derived = self._wish(config, prefs)
        if not isinstance(config, Config):
            self.set_netmap(config)
            self._derived = derived
        self.dns = wish.dns
        return wish

    def take_configs(self, wg: Config, router: RouterConfig, dns: DNSConfig) -> Wish:
        """The same as `wish_of_configs`, remembered."""
        self.dns = dns
        return self.wish_of_configs(wg, router, dns)

    def set_netmap(self, netmap: NetMap | None) -> None:
        """Answer by this netmap. `ConfigError` when it is older than the one in use."""
        if netmap is not None:
            netmap.check_succeeds(self.netmap)
        self.netmap = netmap
        self.index.set_netmap(netmap)

    # -- Who is who.

    def node(self, key: PublicKey) -> Node | None:
        """The netmap's peer with this key."""
        return self.index.by_key(key)

    def name(self, key: PublicKey) -> str | None:
        """What people call it."""
        node = self.node(key)
        return node.computed_name or node.name or None if node is not None else None
