package main

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	wireguard "github.com/tailscale/wireguard-go/device"
	"tailscale.com/control/controlknobs"
	"tailscale.com/health"
	"tailscale.com/net/dns"
	"tailscale.com/net/netmon"
	"tailscale.com/net/tsdial"
	"tailscale.com/net/tstun"
	"tailscale.com/tailcfg"
	"tailscale.com/tstime/mono"
	"tailscale.com/types/key"
	"tailscale.com/util/eventbus"
	"tailscale.com/util/usermetric"
	"tailscale.com/wgengine"
	"tailscale.com/wgengine/magicsock"
	"tailscale.com/wgengine/router"
	"tailscale.com/wgengine/wgcfg"
)

// The transport tells of a peer's traffic no more often than this.
const recvInterval = 10 * time.Second

// The machine's network as it was at the start: changes of links come from the driver alone.
var monitor = netmon.NewStatic()

// engine is one engine of the seed with everything around it that it would have in a program.
type engine struct {
	wgengine.Engine
	inside
	*recorder
	bus    *eventbus.Bus
	links  *eventbus.Publisher[netmon.ChangeDelta]
	dialer *tsdial.Dialer
	tun    *device
	sock   *magicsock.Conn
	knobs  *controlknobs.Knobs
	now    atomic.Int64 // mono.Time

	ids      map[key.NodePublic]tailcfg.NodeID // of every peer that was ever configured
	known    map[key.NodePublic]bool           // to the transport
	reported map[key.NodePublic]mono.Time      // when the transport last told of this peer's traffic
	lives    map[key.NodePublic][]*wireguard.Peer
}

// newEngine makes one. What is to fail while it is made, and what was called, is the recorder's.
func newEngine(port uint16, bird bool, recorder *recorder) (*engine, error) {
	bus := eventbus.New()
	e := &engine{
		recorder: recorder,
		bus:      bus,
		links:    eventbus.Publish[netmon.ChangeDelta](bus.Client("twin")),
		tun:      newDevice(),
		knobs:    new(controlknobs.Knobs),
		ids:      map[key.NodePublic]tailcfg.NodeID{},
		reported: map[key.NodePublic]mono.Time{},
		lives:    map[key.NodePublic][]*wireguard.Peer{},
	}
	e.dialer = &tsdial.Dialer{Logf: e.logf}
	config := wgengine.Config{
		Tun:            e.tun,
		Router:         recordingRouter{e.recorder},
		DNS:            recordingDNS{e.recorder},
		ReconfigureVPN: e.reconfigureVPN,
		NetMon:         monitor,
		HealthTracker:  health.NewTracker(bus),
		Metrics:        new(usermetric.Registry),
		Dialer:         e.dialer,
		ControlKnobs:   e.knobs,
		ListenPort:     port,
		EventBus:       bus,
		SetSubsystem: func(subsystem any) {
			switch s := subsystem.(type) {
			case *tstun.Wrapper:
				s.Start()
			case *magicsock.Conn:
				e.sock = s
			}
		},
	}
	if bird {
		config.BIRDClient = recordingBIRD{e.recorder}
	}
	var err error
	if e.Engine, err = wgengine.NewUserspaceEngine(e.logf, config); err != nil {
		bus.Close()
		return nil, err
	}
	e.inside = look(e.Engine)
	e.now.Store(int64(mono.Now()))
	*e.inside.clock = func() mono.Time { return mono.Time(e.now.Load()) }
	return e, nil
}

func (e *engine) close() {
	e.Engine.Close()
	clear(e.lives) // a peer has a finalizer that holds its device, and the device holds us: none would ever go
	e.dialer.Close()
	e.bus.Close()
}

// reconfig tells the transport of the peers first, as the program around the engine does: a device refuses a peer
// that its transport does not know.
func (e *engine) reconfig(wg *wgcfg.Config, rt *router.Config, names *dns.Config) error {
	known, nodes := make(map[key.NodePublic]bool, len(wg.Peers)), make([]tailcfg.NodeView, 0, len(wg.Peers))
	for i := range wg.Peers {
		peer := &wg.Peers[i]
		if known[peer.PublicKey] {
			continue
		}
		known[peer.PublicKey] = true
		id, ok := e.ids[peer.PublicKey]
		if !ok {
			id = tailcfg.NodeID(len(e.ids) + 1)
			e.ids[peer.PublicKey] = id
		}
		nodes = append(nodes, (&tailcfg.Node{
			ID: id, Key: peer.PublicKey, DiscoKey: peer.DiscoKey, IsWireGuardOnly: peer.DiscoKey.IsZero(),
			Addresses: peer.AllowedIPs, AllowedIPs: peer.AllowedIPs,
		}).View())
	}
	e.sock.SetNetworkMap(tailcfg.NodeView{}, nodes)
	for peer := range e.reported {
		if !known[peer] { // the transport forgets with the peer when it last told of it
			delete(e.reported, peer)
		}
	}
	e.known = known
	return e.Reconfig(wg, rt, names)
}

// received is a datagram of this peer that the transport has attributed to it; whether the transport told the engine.
func (e *engine) received(peer key.NodePublic) bool {
	now := mono.Time(e.now.Load())
	if last, ok := e.reported[peer]; !e.known[peer] || ok && now.Sub(last) <= recvInterval {
		return false
	}
	e.reported[peer] = now
	noteRecvActivity(e.engine, peer)
	return true
}

func (e *engine) linkChange(major, up bool) error {
	delta, err := netmon.NewChangeDelta(&netmon.State{HaveV4: true}, &netmon.State{HaveV4: up}, false, true)
	if err != nil {
		return err
	}
	delta.RebindLikelyRequired = major
	before := linkChangesSeen()
	e.links.Publish(*delta)
	return e.settled(before)
}

// observe notes which peers are in the device. A peer that is put there anew is another one to it.
func (e *engine) observe() {
	for peer := range e.ids {
		found := (*e.inside.device).LookupPeer(peer.Raw32())
		if lives := e.lives[peer]; found != nil && (len(lives) == 0 || lives[len(lives)-1] != found) {
			e.lives[peer] = append(lives, found) // kept, so that no other has its address
		}
	}
}

// devicePeers has the peers that are in the device now, each with how often it was put there: a session lasts as long
// as this number.
func (e *engine) devicePeers() map[string]int {
	live := map[string]int{}
	for peer := range e.ids {
		if _, ok := e.PeerByKey(peer); ok {
			live[peer.String()] = len(e.lives[peer])
		}
	}
	return live
}

type owner struct {
	Key   key.NodePublic `json:"key"`
	Self  bool           `json:"self"`
	Route netip.Prefix   `json:"route"`
}

func (e *engine) peerForIP(ip netip.Addr) *owner {
	found, ok := e.PeerForIP(ip)
	if !ok {
		return nil
	}
	return &owner{Key: found.Node.Key(), Self: found.IsSelf, Route: found.Route}
}

type status struct {
	Peers []key.NodePublic `json:"peers"`
	DERPs int              `json:"derps"`
}

func statusOf(said *wgengine.Status) *status {
	peers := make([]key.NodePublic, 0, len(said.Peers))
	for _, peer := range said.Peers {
		peers = append(peers, peer.NodeKey)
	}
	return &status{Peers: peers, DERPs: said.DERPs}
}

func (e *engine) setKnob(name string, on bool) error {
	knob, ok := map[string]*atomic.Bool{
		"keep_full_wg_config":   &e.knobs.KeepFullWGConfig,
		"randomize_client_port": &e.knobs.RandomizeClientPort,
		"peer_mtu_enable":       &e.knobs.PeerMTUEnable,
	}[name]
	if !ok {
		return fmt.Errorf("no such knob: %q", name)
	}
	knob.Store(on)
	return nil
}
