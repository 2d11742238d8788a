package main

import (
	"context"
	"fmt"
	"reflect"
	"time"
	"unsafe"

	wireguard "github.com/tailscale/wireguard-go/device"
	"tailscale.com/tstime/mono"
	"tailscale.com/types/key"
	"tailscale.com/util/clientmetric"
	"tailscale.com/util/execqueue"
	"tailscale.com/wgengine"
)

// What the engine does not show: its clock, its queue of link changes, its device, and two of its methods.

//go:linkname noteRecvActivity tailscale.com/wgengine.(*userspaceEngine).noteRecvActivity
func noteRecvActivity(engine unsafe.Pointer, peer key.NodePublic)

//go:linkname getStatus tailscale.com/wgengine.(*userspaceEngine).getStatus
func getStatus(engine unsafe.Pointer) (*wgengine.Status, error)

// inside is the engine's own struct.
type inside struct {
	engine unsafe.Pointer
	clock  *func() mono.Time
	links  *execqueue.ExecQueue
	device **wireguard.Device
}

func look(engine wgengine.Engine) inside {
	value := reflect.ValueOf(engine)
	return inside{
		engine: value.UnsafePointer(),
		clock:  field[func() mono.Time](value, "timeNow"),
		links:  field[execqueue.ExecQueue](value, "linkChangeQueue"),
		device: field[*wireguard.Device](value, "wgdev"),
	}
}

func field[T any](pointer reflect.Value, name string) *T {
	f := pointer.Elem().FieldByName(name)
	if !f.IsValid() || f.Type() != reflect.TypeFor[T]() {
		panic(fmt.Sprintf("the engine has no field %s of type %v: not the version that is pinned", name, reflect.TypeFor[T]()))
	}
	return (*T)(unsafe.Pointer(f.UnsafeAddr()))
}

func metrics(names ...string) (found []*clientmetric.Metric) {
	for _, metric := range clientmetric.Metrics() {
		for _, name := range names {
			if metric.Name() == name {
				found = append(found, metric)
			}
		}
	}
	if len(found) != len(names) {
		panic(fmt.Sprintf("not all of the metrics %v are there", names))
	}
	return found
}

var linkChanges = metrics("wgengine_major_changes", "wgengine_minor_changes")

func linkChangesSeen() (total int64) {
	for _, metric := range linkChanges {
		total += metric.Value()
	}
	return total
}

// settled waits until the engine has worked off the link change that made its count differ from `before`.
func (in inside) settled(before int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for linkChangesSeen() == before {
		if ctx.Err() != nil {
			return fmt.Errorf("the engine has not seen the link change: %w", ctx.Err())
		}
		time.Sleep(20 * time.Microsecond)
	}
	return in.links.Wait(ctx)
}
