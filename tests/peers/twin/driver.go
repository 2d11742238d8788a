package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"tailscale.com/envknob"
	"tailscale.com/net/dns"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/types/netmap"
	"tailscale.com/util/set"
	"tailscale.com/wgengine/router"
	"tailscale.com/wgengine/wgcfg"
)

type command struct {
	Do string `json:"do"`

	ListenPort uint16 `json:"listen_port"` // new
	BIRD       bool   `json:"bird"`        // new

	// reconfig, by Go's own names for the fields; one that is left out is as it was last time
	WG     json.RawMessage `json:"wg"`
	Router json.RawMessage `json:"router"`
	DNS    json.RawMessage `json:"dns"`

	NetMap json.RawMessage `json:"netmap"` // netmap: null for none; derive
	Prefs  json.RawMessage `json:"prefs"`  // derive, by Go's own names

	Fail []string `json:"fail"` // any: these calls fail during this command

	Name string `json:"name"` // knob, env
	On   bool   `json:"on"`   // knob
	Text string `json:"text"` // env

	AdvanceMS int64          `json:"advance_ms"` // time
	IP        netip.Addr     `json:"ip"`         // sent, peer_for_ip
	Key       key.NodePublic `json:"key"`        // received
	Major     bool           `json:"major"`      // link_change
	Up        bool           `json:"up"`         // link_change
}

// driver obeys commands, one after the other, on one engine at a time.
type driver struct {
	engine          *engine
	wg, router, dns json.RawMessage // as last given
	environment     map[string]bool // what was set, to be unset with the engine
}

func newDriver() *driver { return &driver{environment: map[string]bool{}} }

func (d *driver) obey(line json.RawMessage) (said answer) {
	var c command
	if err := strictly(line, &c); err != nil {
		return answer{Fault: err.Error()}
	}
	switch c.Do {
	case "new":
		return d.start(c)
	case "derive":
		return derive(c)
	}
	e := d.engine
	if e == nil {
		return answer{Fault: fmt.Sprintf("%q before \"new\"", c.Do)}
	}
	e.failNext(c.Fail)
	defer func() {
		e.failNext(nil)
		e.observe()
		said.Calls = e.take()
	}()
	switch c.Do {
	case "reconfig":
		return d.reconfig(c)
	case "netmap":
		nm, err := networkMap(c.NetMap)
		if err != nil {
			return answer{Fault: "netmap: " + err.Error()}
		}
		e.SetNetworkMap(nm)
		return answer{}
	case "knob":
		return faulty(e.setKnob(c.Name, c.On))
	case "env":
		d.environment[c.Name] = true
		envknob.Setenv(c.Name, c.Text)
		return answer{}
	case "time":
		e.now.Add(c.AdvanceMS * int64(time.Millisecond))
		return answer{}
	case "sent":
		if !c.IP.IsValid() || !e.tun.send(datagram(c.IP)) {
			return answer{Fault: "sent: no address, or the engine is closed"}
		}
		return answer{}
	case "received":
		return answer{Value: e.received(c.Key)}
	case "link_change":
		return faulty(e.linkChange(c.Major, c.Up))
	case "peer_for_ip":
		if found := e.peerForIP(c.IP); found != nil {
			return answer{Value: found}
		}
		return answer{}
	case "device_peers":
		return answer{Value: e.devicePeers()}
	case "port":
		return answer{Value: e.sock.LocalPort()}
	case "status":
		s, err := getStatus(e.inside.engine)
		if err != nil {
			return answer{Error: err.Error()}
		}
		return answer{Value: statusOf(s)}
	case "reset_and_stop":
		s, err := e.ResetAndStop()
		if err != nil {
			return answer{Error: err.Error()}
		}
		d.wg, d.router, d.dns = empty, empty, empty
		return answer{Value: statusOf(s)}
	case "close":
		e.Engine.Close()
		return answer{}
	}
	return answer{Fault: fmt.Sprintf("no such command: %q", c.Do)}
}

var empty = json.RawMessage("{}")

func (d *driver) start(c command) answer {
	d.close()
	for name := range d.environment {
		envknob.Setenv(name, "")
	}
	clear(d.environment)
	recorder := &recorder{}
	recorder.failNext(c.Fail)
	engine, err := newEngine(c.ListenPort, c.BIRD, recorder)
	if err != nil {
		return answer{Error: err.Error(), Calls: recorder.take()}
	}
	d.engine, d.wg, d.router, d.dns = engine, empty, empty, empty
	return answer{Value: engine.sock.LocalPort(), Calls: engine.take()}
}

func (d *driver) close() {
	if d.engine != nil {
		d.engine.close()
		d.engine = nil
	}
}

func (d *driver) reconfig(c command) answer {
	// read anew each time: the engine keeps what it is given
	wg, rt, names := new(wgcfg.Config), new(router.Config), new(dns.Config)
	for _, part := range []struct {
		name string
		text *json.RawMessage
		last *json.RawMessage
		into any
	}{{"wg", &c.WG, &d.wg, wg}, {"router", &c.Router, &d.router, rt}, {"dns", &c.DNS, &d.dns, names}} {
		if len(*part.text) == 0 {
			*part.text = *part.last
		}
		if err := strictly(*part.text, part.into); err != nil {
			return answer{Fault: part.name + ": " + err.Error()}
		}
		*part.last = *part.text
	}
	if err := d.engine.reconfig(wg, rt, names); err != nil {
		return answer{Error: err.Error()}
	}
	return answer{}
}

// networkMap reads the part of a netmap that an engine's configuration depends on.
func networkMap(text json.RawMessage) (*netmap.NetworkMap, error) {
	if len(text) == 0 {
		return nil, errors.New("missing; null is for none")
	}
	var read *struct {
		SelfNode *tailcfg.Node
		Peers    []*tailcfg.Node
		DNS      tailcfg.DNSConfig
	}
	if err := json.Unmarshal(text, &read); err != nil || read == nil {
		return nil, err
	}
	nm := &netmap.NetworkMap{DNS: read.DNS, AllCaps: set.Set[tailcfg.NodeCapability]{}}
	if read.SelfNode != nil {
		nm.SelfNode, nm.NodeKey = complete(read.SelfNode), read.SelfNode.Key
		nm.AllCaps.AddSlice(read.SelfNode.Capabilities)
		for capability := range read.SelfNode.CapMap {
			nm.AllCaps.Add(capability)
		}
	}
	for _, peer := range read.Peers {
		nm.Peers = append(nm.Peers, complete(peer))
	}
	return nm, nil
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

func faulty(err error) answer {
	if err != nil {
		return answer{Fault: err.Error()}
	}
	return answer{}
}
