package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"sync"
	"time"

	"tailscale.com/control/controlknobs"
	"tailscale.com/health"
	"tailscale.com/ipn/ipnstate"
	"tailscale.com/net/dns"
	"tailscale.com/net/tsdial"
	"tailscale.com/net/tstun"
	"tailscale.com/tailcfg"
	"tailscale.com/types/events"
	"tailscale.com/types/key"
	"tailscale.com/types/netmap"
	"tailscale.com/util/eventbus"
	"tailscale.com/util/usermetric"
	"tailscale.com/wgengine"
	"tailscale.com/wgengine/filter"
	"tailscale.com/wgengine/magicsock"
	"tailscale.com/wgengine/router"
	"tailscale.com/wgengine/wgcfg/nmcfg"
)

type engine struct {
	wgengine.Engine
	bus     *eventbus.Bus
	dialer  *tsdial.Dialer
	sock    *magicsock.Conn
	private key.NodePrivate

	mu         sync.Mutex
	advertised map[netip.Addr]key.DiscoPublic // what peers have told through the tunnel, by their address
}

func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

func start(name string, port uint16, private key.NodePrivate) (*engine, error) {
	tun, _, err := tstun.New(logf, name)
	if err != nil {
		return nil, err
	}
	bus := eventbus.New()
	e := &engine{
		bus:        bus,
		dialer:     &tsdial.Dialer{Logf: logf},
		private:    private,
		advertised: map[netip.Addr]key.DiscoPublic{},
	}
	e.dialer.SetBus(bus)
	eventbus.SubscribeFunc(bus.Client("tsengine"), e.note)
	e.Engine, err = wgengine.NewUserspaceEngine(logf, wgengine.Config{
		Tun:           tun,
		HealthTracker: health.NewTracker(bus),
		Metrics:       new(usermetric.Registry),
		Dialer:        e.dialer,
		ControlKnobs:  new(controlknobs.Knobs),
		ListenPort:    port,
		EventBus:      bus,
		SetSubsystem: func(subsystem any) {
			switch s := subsystem.(type) {
			case *tstun.Wrapper:
				s.Start()
			case *magicsock.Conn:
				e.sock = s
			}
		},
	})
	if err != nil {
		tun.Close()
		bus.Close()
		return nil, err
	}
	e.sock.SetDERPMap(&tailcfg.DERPMap{})
	e.SetFilter(filter.NewAllowAllForTest(logf))
	return e, nil
}

func (e *engine) close() {
	e.Close()
	e.dialer.Close()
	e.bus.Close()
}

// setNetMap does what the client around the engine does with a netmap: transport, netmap, configuration.
func (e *engine) setNetMap(text json.RawMessage) error {
	var read struct {
		SelfNode *tailcfg.Node
		Peers    []*tailcfg.Node
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return fmt.Errorf("netmap: %w", err)
	}
	if read.SelfNode == nil {
		return errors.New("netmap: SelfNode is missing")
	}
	nm := &netmap.NetworkMap{SelfNode: complete(read.SelfNode), NodeKey: e.private.Public()}
	for _, peer := range read.Peers {
		nm.Peers = append(nm.Peers, complete(peer))
	}
	wg, err := nmcfg.WGCfg(e.private, nm, logf, netmap.AllowSubnetRoutes, "")
	if err != nil {
		return err
	}
	e.sock.SetNetworkMap(nm.SelfNode, nm.Peers)
	e.SetNetworkMap(nm)
	err = e.Reconfig(wg, &router.Config{LocalAddrs: wg.Addresses}, new(dns.Config))
	if errors.Is(err, wgengine.ErrNoChanges) {
		return nil
	}
	return err
}

// complete fills in what a client has filled in before its engine sees a node.
func complete(node *tailcfg.Node) tailcfg.NodeView {
	if !node.Hostinfo.Valid() {
		node.Hostinfo = new(tailcfg.Hostinfo).View()
	}
	if node.AllowedIPs == nil {
		node.AllowedIPs = node.Addresses
	}
	return node.View()
}

// ping waits for the one result that there may be; the engine itself says nothing when none comes.
func (e *engine) ping(ip netip.Addr, kind tailcfg.PingType, timeout time.Duration) (*ipnstate.PingResult, error) {
	if !ip.IsValid() || timeout <= 0 {
		return nil, errors.New("ping: ip and timeout_ms are needed")
	}
	results := make(chan *ipnstate.PingResult, 1)
	e.Ping(ip, kind, 0, func(result *ipnstate.PingResult) {
		select {
		case results <- result:
		default:
		}
	})
	select {
	case result := <-results:
		return result, nil
	case <-time.After(timeout):
		return nil, fmt.Errorf("no answer to a %s ping of %v within %v", kind, ip, timeout)
	}
}

func (e *engine) note(said events.DiscoKeyAdvertisement) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.advertised[said.Src] = said.Key
}

type status struct {
	DiscoKey   key.DiscoPublic                            `json:"disco_key"`
	Advertised map[netip.Addr]key.DiscoPublic             `json:"advertised"`
	Peers      map[key.NodePublic]ipnstate.PeerStatusLite `json:"peers"`
}

func (e *engine) status() status {
	builder := &ipnstate.StatusBuilder{WantPeers: true}
	e.UpdateStatus(builder)
	peers := map[key.NodePublic]ipnstate.PeerStatusLite{}
	for peer, s := range builder.Status().Peer {
		peers[peer] = ipnstate.PeerStatusLite{RxBytes: s.RxBytes, TxBytes: s.TxBytes, LastHandshake: s.LastHandshake}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return status{DiscoKey: e.sock.DiscoPublicKey(), Advertised: maps.Clone(e.advertised), Peers: peers}
}
