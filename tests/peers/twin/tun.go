package main

import (
	"encoding/binary"
	"io"
	"net/netip"
	"os"
	"sync"

	"github.com/tailscale/wireguard-go/tun"
)

// device is the system's side of a TUN: what is sent here the engine reads, wrapper and all, as if a program had.
type device struct {
	packets chan []byte
	seen    chan struct{} // the packet read last went all the way through the wrapper
	events  chan tun.Event
	closed  chan struct{}
	once    sync.Once
	handed  bool // Read's own
}

func newDevice() *device {
	return &device{
		packets: make(chan []byte),
		seen:    make(chan struct{}),
		events:  make(chan tun.Event),
		closed:  make(chan struct{}),
	}
}

// send gives the engine one packet and returns when the wrapper is done with it: it reads the next only then.
func (d *device) send(packet []byte) bool {
	select {
	case d.packets <- packet:
	case <-d.closed:
		return false
	}
	select {
	case <-d.seen:
		return true
	case <-d.closed:
		return false
	}
}

func (d *device) Read(buffers [][]byte, sizes []int, offset int) (int, error) {
	if d.handed {
		d.handed = false
		select {
		case d.seen <- struct{}{}:
		case <-d.closed:
			return 0, io.EOF
		}
	}
	select {
	case packet := <-d.packets:
		d.handed = true
		sizes[0] = copy(buffers[0][offset:], packet)
		return 1, nil
	case <-d.closed:
		return 0, io.EOF
	}
}

func (d *device) Write(buffers [][]byte, _ int) (int, error) {
	select {
	case <-d.closed:
		return 0, os.ErrClosed
	default:
		return len(buffers), nil
	}
}

func (d *device) Close() error {
	d.once.Do(func() {
		close(d.closed)
		close(d.events)
	})
	return nil
}

func (d *device) File() *os.File           { return nil }
func (d *device) MTU() (int, error)        { return 1280, nil }
func (d *device) Name() (string, error)    { return "twin", nil }
func (d *device) Events() <-chan tun.Event { return d.events }
func (d *device) BatchSize() int           { return 1 }
func (d *device) IsFakeTun() bool          { return true }

// datagram is an empty UDP packet to an address, from one of the same family.
func datagram(to netip.Addr) []byte {
	const udp, ports = 8, 9<<16 | 9
	if to.Is4() {
		packet := make([]byte, 20+udp)
		packet[0], packet[8], packet[9] = 4<<4|5, 64, 17
		binary.BigEndian.PutUint16(packet[2:], uint16(len(packet)))
		from, dst := [4]byte{100, 64, 0, 1}, to.As4()
		copy(packet[12:], from[:])
		copy(packet[16:], dst[:])
		binary.BigEndian.PutUint32(packet[20:], ports)
		binary.BigEndian.PutUint16(packet[24:], udp)
		return packet
	}
	packet := make([]byte, 40+udp)
	packet[0], packet[6], packet[7] = 6<<4, 17, 64
	binary.BigEndian.PutUint16(packet[4:], udp)
	from, dst := netip.MustParseAddr("fd7a:115c:a1e0::1").As16(), to.As16()
	copy(packet[8:], from[:])
	copy(packet[24:], dst[:])
	binary.BigEndian.PutUint32(packet[40:], ports)
	binary.BigEndian.PutUint16(packet[44:], udp)
	return packet
}
