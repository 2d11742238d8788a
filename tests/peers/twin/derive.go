package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	_ "unsafe" // go:linkname wants it

	"tailscale.com/ipn"
	"tailscale.com/ipn/ipnlocal"
	"tailscale.com/net/dns"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
	"tailscale.com/types/netmap"
	"tailscale.com/wgengine/router"
	"tailscale.com/wgengine/wgcfg"
	"tailscale.com/wgengine/wgcfg/nmcfg"
)

// What the client around the engine makes of a netmap and of preferences; the engine itself has no part in it.

//go:linkname routerConfig tailscale.com/ipn/ipnlocal.(*LocalBackend).routerConfigLocked
func routerConfig(b *ipnlocal.LocalBackend, wg *wgcfg.Config, prefs ipn.PrefsView, nm *netmap.NetworkMap, oneCGNATRoute bool) *router.Config

//go:linkname dnsConfig tailscale.com/ipn/ipnlocal.dnsConfigForNetmap
func dnsConfig(nm *netmap.NetworkMap, peers map[tailcfg.NodeID]tailcfg.NodeView, prefs ipn.PrefsView, selfExpired bool, logf logger.Logf, versionOS string) *dns.Config

type derived struct {
	WG     wireguardConfig `json:"wg"`
	Router *router.Config  `json:"router"`
	DNS    *dns.Config     `json:"dns"`
}

type wireguardConfig struct {
	Addresses any
	Peers     any
}

func derive(c command) answer {
	nm, err := networkMap(c.NetMap)
	if err != nil || nm == nil || !nm.SelfNode.Valid() {
		return answer{Fault: fmt.Sprintf("netmap: one with a SelfNode is needed (%v)", err)}
	}
	prefs := new(ipn.Prefs)
	if err := json.Unmarshal(c.Prefs, prefs); err != nil {
		return answer{Fault: "prefs: " + err.Error()}
	}
	quiet := func(string, ...any) {}
	var flags netmap.WGConfigFlags
	if prefs.RouteAll {
		flags |= netmap.AllowSubnetRoutes
	}
	wg, err := nmcfg.WGCfg(key.NodePrivate{}, nm, quiet, flags, prefs.ExitNodeID)
	if err != nil {
		return answer{Error: err.Error()}
	}
	// of a client this asks nothing but to hear its log
	client := new(ipnlocal.LocalBackend)
	*field[logger.Logf](reflect.ValueOf(client), "logf") = quiet
	peers := map[tailcfg.NodeID]tailcfg.NodeView{}
	for _, peer := range nm.Peers {
		peers[peer.ID()] = peer
	}
	return answer{Value: derived{
		WG:     wireguardConfig{Addresses: wg.Addresses, Peers: wg.Peers},
		Router: routerConfig(client, wg, prefs.View(), nm, nm.AllCaps.Contains(tailcfg.NodeAttrOneCGNATEnable)),
		DNS:    dnsConfig(nm, peers, prefs.View(), nm.SelfNode.Expired(), quiet, ""),
	}}
}
