// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Network is the argument of the verb "network", which brings up the loopback
// interface and the machine's one network card. Until then the card's driver
// is not even loaded: a machine without a network is one that has not come to
// this step.
type Network struct {
	Address string `json:"address"` // "10.0.2.15/24"
}

// NetworkResult says what became of the card.
type NetworkResult struct {
	Interface string `json:"interface"`
	Carrier   bool   `json:"carrier"`
}

// cardTime is how long a card may take to appear and to see its cable.
const cardTime = 10 * time.Second

func network(ctx context.Context, _ *Env, args json.RawMessage) (any, error) {
	var a Network
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	p, err := netip.ParsePrefix(a.Address)
	if err != nil || !p.Addr().Is4() {
		return nil, fmt.Errorf("network %q: an IPv4 address with its prefix is needed", a.Address)
	}
	ctx, cancel := context.WithTimeout(ctx, cardTime)
	defer cancel()
	if err := setInterface("lo", netip.MustParsePrefix("127.0.0.1/8")); err != nil {
		return nil, err
	}
	for _, m := range []string{"virtio_pci", "virtio_net"} {
		// A kernel that has the driver built in has no such module; whether the
		// card is there is what counts.
		_, _ = Modprobe(m)
	}
	name, err := findCard(ctx)
	if err != nil {
		return nil, err
	}
	if err := setInterface(name, p); err != nil {
		return nil, err
	}
	r := NetworkResult{Interface: name}
	for !r.Carrier && ctx.Err() == nil {
		r.Carrier = ReadLine("/sys/class/net/"+name+"/carrier") == "1"
		pause(ctx)
	}
	return r, nil
}

// findCard waits for a network card: an interface with a device behind it.
func findCard(ctx context.Context) (string, error) {
	for {
		found, _ := filepath.Glob("/sys/class/net/*/device")
		if len(found) > 0 {
			return filepath.Base(filepath.Dir(found[0])), nil
		}
		if ctx.Err() != nil {
			return "", errors.New("network: this machine has no card, or the kernel no driver for it")
		}
		pause(ctx)
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
}

// setInterface gives an interface an address and switches it on (netdevice(7)).
func setInterface(name string, p netip.Prefix) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	mask := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	net, err := mask.Prefix(p.Bits())
	if err != nil {
		return err
	}
	set := func(what string, request uint, fill func(*unix.Ifreq) error) error {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = fill(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, request, r)
		}
		if err != nil {
			return fmt.Errorf("interface %s: %s: %w", name, what, err)
		}
		return nil
	}
	addr := func(a netip.Addr) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { return r.SetInet4Addr(a.AsSlice()) }
	}
	return errors.Join(
		set("address", unix.SIOCSIFADDR, addr(p.Addr())),
		set("mask", unix.SIOCSIFNETMASK, addr(net.Addr())),
		set("up", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error {
			r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
			return nil
		}),
	)
}
