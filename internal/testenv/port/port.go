// SPDX-License-Identifier: Apache-2.0

// Package port gives tests TCP ports for servers that are started later, in
// processes of their own. A port that the kernel chose and that was closed again
// is anybody's: another test's connection may have it when the server begins,
// or when it begins again. These lie where the kernel takes none for
// connections, and no two tests have the same.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
)

// lowest is above the ports of services that machines have.
const lowest = 10000

var (
	mu sync.Mutex
	// held are sockets by whose names other processes see which ports are taken.
	// They close when this process ends.
	held []net.Listener
)

// Reserve returns a port at which nothing listens, and which is this process's
// until it ends.
func Reserve() (int, error) {
	mu.Lock()
	defer mu.Unlock()
	room := end() - lowest
	for n, at := room, rand.IntN(room); n > 0; n, at = n-1, (at+1)%room {
		p := lowest + at
		// A name in the network's namespace, as the port is: no file, and one
		// process alone can have it.
		name, err := net.Listen("unix", fmt.Sprintf("@tsugi-test-port-%d", p))
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", p))
		if err != nil {
			name.Close()
			continue
		}
		held = append(held, name)
		return p, l.Close()
	}
	return 0, errors.New("no port is free")
}

// end is behind the ports that may be given: the first that the kernel gives to
// connections. Where those leave no room below, tests share them.
func end() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	var first int
	if err == nil {
		_, err = fmt.Sscan(string(text), &first)
	}
	if err != nil || first < lowest+1000 {
		return 1 << 16
	}
	return first
}
