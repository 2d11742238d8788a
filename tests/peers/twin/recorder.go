package main

import (
	"errors"
	"sync"

	"tailscale.com/net/dns"
	"tailscale.com/wgengine/router"
)

// call is one thing that the engine did to what it governs, in the order in which it did them.
type call struct {
	What   string `json:"call"`
	Config any    `json:"config,omitempty"`
	Peers  int    `json:"peers,omitempty"`
	Of     int    `json:"of,omitempty"`
	Failed bool   `json:"failed,omitempty"`
}

// recorder is the engine's router, OS DNS configurator, BIRD client and VPN hook, and hears its log. Each call
// succeeds unless the driver has asked for a failure.
type recorder struct {
	mu    sync.Mutex
	calls []call
	fail  map[string]bool // the next call of this name fails, once
}

func (r *recorder) note(c call) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail[c.What] {
		delete(r.fail, c.What)
		c.Failed = true
	}
	r.calls = append(r.calls, c)
	if c.Failed {
		return errors.New(c.What + " failed, as it was asked to")
	}
	return nil
}

// take returns the calls since it was last asked.
func (r *recorder) take() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	return calls
}

func (r *recorder) failNext(names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = make(map[string]bool, len(names))
	for _, name := range names {
		r.fail[name] = true
	}
}

// logf hears of the WireGuard device, which is the one thing that the engine changes without an interface of its own.
func (r *recorder) logf(format string, args ...any) {
	switch format {
	case "wgengine: Reconfig: configuring userspace WireGuard config (with %d/%d peers)":
		r.note(call{What: "device.set", Peers: args[0].(int), Of: args[1].(int)})
	case "wgengine: Reconfig: removing session keys for %d peers":
		r.note(call{What: "device.flush", Peers: args[0].(int)})
	}
}

func (r *recorder) reconfigureVPN() error { return r.note(call{What: "vpn"}) }

type recordingRouter struct{ *recorder }

func (r recordingRouter) Up() error    { return r.note(call{What: "router.up"}) }
func (r recordingRouter) Close() error { return r.note(call{What: "router.close"}) }
func (r recordingRouter) Set(config *router.Config) error {
	if config == nil {
		return r.note(call{What: "router.clear"})
	}
	return r.note(call{What: "router.set", Config: config.Clone()})
}

// recordingDNS can do split DNS, so the manager never asks it for the system's own configuration.
type recordingDNS struct{ *recorder }

func (r recordingDNS) SetDNS(config dns.OSConfig) error {
	return r.note(call{What: "dns.set", Config: config})
}
func (r recordingDNS) SupportsSplitDNS() bool { return true }
func (r recordingDNS) GetBaseConfig() (dns.OSConfig, error) {
	return dns.OSConfig{}, dns.ErrGetBaseConfigNotSupported
}
func (r recordingDNS) Close() error { return r.note(call{What: "dns.close"}) }

type recordingBIRD struct{ *recorder }

func (r recordingBIRD) EnableProtocol(string) error  { return r.note(call{What: "bird.enable"}) }
func (r recordingBIRD) DisableProtocol(string) error { return r.note(call{What: "bird.disable"}) }
func (r recordingBIRD) Close() error                 { return r.note(call{What: "bird.close"}) }
