// Tailscale's engine as a live peer: on a real TUN, told of its peers by a netmap, without any control server.
//
// One JSON value in, one out: a command, and an answer with a value or an error. The netmap is Tailscale's own JSON; a
// peer that is no node of Tailscale has IsWireGuardOnly and Endpoints. Addresses and routes of the TUN are for whoever
// starts this: it touches nothing of the machine but the TUN and a UDP port. It ends with its input.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"tailscale.com/envknob"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

type command struct {
	Do         string           `json:"do"`
	TUN        string           `json:"tun"`         // start
	ListenPort uint16           `json:"listen_port"` // start
	PrivateKey *key.NodePrivate `json:"private_key"` // start
	NetMap     json.RawMessage  `json:"netmap"`      // start, netmap
	IP         netip.Addr       `json:"ip"`          // ping
	Type       tailcfg.PingType `json:"type"`        // ping: TSMP, ICMP, disco
	TimeoutMS  int64            `json:"timeout_ms"`  // ping
}

type answer struct {
	Value any    `json:"value,omitempty"`
	Error string `json:"error,omitempty"`
}

func main() {
	envknob.SetNoLogsNoSupport() // flow logs would be sent to a server on the internet
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tsengine:", err)
		os.Exit(1)
	}
}

func serve(in io.Reader, out io.Writer) error {
	commands, answers := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	commands.DisallowUnknownFields()
	var running *engine
	defer func() {
		if running != nil {
			running.close()
		}
	}()
	for {
		var c command
		if err := commands.Decode(&c); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var value any
		var err error
		switch {
		case c.Do == "start" && running == nil && c.PrivateKey != nil:
			if running, err = start(c.TUN, c.ListenPort, *c.PrivateKey); err == nil {
				value, err = running.sock.LocalPort(), running.setNetMap(c.NetMap)
			}
		case running == nil:
			err = fmt.Errorf("%q before \"start\" with a private key", c.Do)
		case c.Do == "netmap":
			err = running.setNetMap(c.NetMap)
		case c.Do == "ping":
			value, err = running.ping(c.IP, c.Type, time.Duration(c.TimeoutMS)*time.Millisecond)
		case c.Do == "status":
			value = running.status()
		default:
			err = fmt.Errorf("no such command, or not now: %q", c.Do)
		}
		said := answer{Value: value}
		if err != nil {
			said = answer{Error: err.Error()}
		}
		if err := answers.Encode(said); err != nil {
			return err
		}
	}
}
