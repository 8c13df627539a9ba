// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"maps"
	"net"
	"os/exec"
	"slices"
	"strings"
)

// Addresses in the one network that a machine can have. The guest takes its
// own with the verb "network".
const (
	GuestAddress = "10.0.2.15/24"
	HostAddress  = "10.0.2.100"
)

// Net is a network card. What the guest can reach is what Forward names and
// nothing else: no other port of the host, no name server, no router. QEMU's
// user-mode network runs with restrict=on, so that libslirp drops whatever is
// not an explicit forwarding, and a forwarding starts one "busybox nc" for
// each connection, which dials the one address it was given. (A forwarding to
// a character device would be one connection for the machine's whole life;
// without restrict the guest would have the host's whole network.)
type Net struct {
	// Forward maps ports of HostAddress, as the guest sees it, to TCP addresses
	// that the host dials, such as "127.0.0.1:8443". They need not be there yet.
	Forward map[int]string
}

// netArgs are QEMU's arguments for a network card.
func netArgs(n *Net, busybox string) ([]string, error) {
	if n == nil {
		return nil, nil
	}
	if busybox == "" {
		busybox = "/bin/busybox"
	}
	if out, err := exec.Command(busybox, "--list").Output(); err != nil || !slices.Contains(strings.Fields(string(out)), "nc") {
		return nil, problem("TS6002", busybox, "it has no nc, which carries the machine's connections").With(err)
	}
	dev := "user,id=net,restrict=on,ipv6=off,net=10.0.2.0/24"
	for _, port := range slices.Sorted(maps.Keys(n.Forward)) {
		host, to, err := net.SplitHostPort(n.Forward[port])
		if err != nil || port < 1 || port > 65535 || strings.ContainsAny(host+to+busybox, ", '\"\\") {
			return nil, fmt.Errorf("network: forwarding of port %d to %q: a port and an address HOST:PORT are needed", port, n.Forward[port])
		}
		// What nc complains about would reach the guest as data.
		dev += fmt.Sprintf(",guestfwd=tcp:%s:%d-cmd:%s sh -c 'exec %s nc %s %s 2>/dev/null'", HostAddress, port, busybox, busybox, host, to)
	}
	return []string{"-netdev", dev, "-device", "virtio-net-pci,netdev=net,romfile="}, nil
}

// addOwnModules appends those of names that the target has as modules, and
// returns them. A driver that is built into the kernel has no module.
func (c *Config) addOwnModules(names ...string) []string {
	have := []string{}
	for _, n := range names {
		if c.ModuleSource == nil {
			break
		}
		if _, ok := c.ModuleSource.ModulePath(n); ok {
			have = append(have, n)
		}
	}
	c.Modules = slices.Concat(c.Modules, have)
	return have
}
