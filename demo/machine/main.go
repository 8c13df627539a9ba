// SPDX-License-Identifier: Apache-2.0

// Command machine is the computer of make demo: it boots a target's unmodified
// kernel in a virtual machine that has the agent, a disk for its state and a
// network with one server in it, and then types what a script says, as a
// person at its console would. What is typed and what comes back is printed,
// with the seconds since the kernel started.
//
// A line "## TITLE" of the script begins a step; the lines behind it are what
// is typed, each by itself. A line that ends in # is typed and not shown. A
// step of the title "network" plugs the network in.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

func main() {
	guest.Main(nil)
	var c computer
	flag.StringVar(&c.target, "target", "", "kernel, as tsugictl target ls names it")
	flag.StringVar(&c.name, "name", "web-1", "host name")
	flag.StringVar(&c.disk, "disk", "", "file that keeps /var/lib/tsugi")
	flag.StringVar(&c.agent, "tsugi", "bin/tsugi", "the agent's program")
	flag.StringVar(&c.server, "server", "", "address of the one server in its network, such as 127.0.0.1:8443")
	flag.StringVar(&c.script, "script", "", "what to do")
	flag.BoolVar(&c.stay, "stay", false, "run on behind the script, until interrupted")
	flag.StringVar(&c.env, "env", "", "NAME=VALUE for the script")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	err := c.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "machine:", err)
		os.Exit(1)
	}
}

type computer struct {
	target, name, disk, agent, server, script, env string
	stay                                           bool
}

// step is a part of the script.
type step struct{ title, text string }

func steps(script string) []step {
	var out []step
	for line := range strings.Lines(script) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			out = append(out, step{title: strings.TrimSpace(title)})
		} else if len(out) > 0 {
			out[len(out)-1].text += line
		}
	}
	for i := range out {
		out[i].text = strings.TrimSpace(out[i].text)
	}
	return out
}

func (c *computer) run(ctx context.Context) error {
	script, err := os.ReadFile(c.script)
	if err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	m, err := vm.Start(ctx, cfg, &wire.Plan{Steps: []wire.Step{
		wire.NewStep("state", "script", guest.Script{MustPass: true, Text: "hostname " + c.name +
			" && mkdir -p /var/lib/tsugi && mount -t ext4 /dev/tsugi/state /var/lib/tsugi && chmod 700 /var/lib/tsugi"}),
	}})
	if err != nil {
		return err
	}
	defer func() { m.Cut(); _, _ = m.Wait() }()
	for i, s := range steps(string(script)) {
		if err := c.do(ctx, m, i, s); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
	}
	if c.stay {
		select {
		case <-ctx.Done():
			return nil
		case <-m.Done():
		}
	}
	out, err := m.Shutdown(ctx)
	if err == nil && out.End != vm.Finished {
		err = fmt.Errorf("the machine %s\n%s", out.End, out.Console)
	}
	return err
}

func (c *computer) config() (vm.Config, error) {
	home, err := kernel.Home()
	if err != nil {
		return vm.Config{}, err
	}
	store, err := kernel.OpenStore(home)
	if err != nil {
		return vm.Config{}, err
	}
	k, err := store.Get(c.target)
	if err != nil {
		return vm.Config{}, err
	}
	id := sha256.Sum256([]byte(c.name))
	limit := 5 * time.Minute
	if c.stay {
		limit = 24 * time.Hour
	}
	_, port, _ := strings.Cut(c.server, ":")
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil {
		return vm.Config{}, fmt.Errorf("server %q: HOST:PORT is needed", c.server)
	}
	return vm.Config{
		Kernel: k.Vmlinuz, ModuleSource: k, CacheDir: k.Home(), Modules: []string{"ext4"},
		Memory: 768, Timeout: limit,
		Net: &vm.Net{Forward: map[int]string{n: c.server}},
		Disks: []vm.Disk{
			{Name: "state", Size: 256 << 20, FS: "ext4", File: c.disk},
			{Name: "scratch", Size: 2 << 30, FS: "ext4"},
		},
		Files: []vm.File{
			{Path: "/usr/bin/tsugi", From: c.agent, Mode: 0o755},
			{Path: "/root/ext4-mballoc.sh", From: "demo/ext4-mballoc.sh", Mode: 0o755},
			{Path: "/boot/config-" + k.Release, From: filepath.Join(k.Build, ".config")},
			{Path: "/etc/machine-id", Data: []byte(hex.EncodeToString(id[:16]) + "\n")},
			{Path: "/etc/os-release", From: "/etc/os-release"},
			{Path: "/etc/tsugi/agent.yaml", Data: []byte("health: {watch: 3s}\n")},
		},
	}, nil
}

// do types one step, line by line, and prints it. A line that fails ends the
// demo.
func (c *computer) do(ctx context.Context, m *vm.Machine, i int, s step) error {
	if s.title == "network" {
		e, err := m.Do(ctx, wire.NewStep("network", "network", guest.Network{Address: vm.GuestAddress}))
		if err != nil {
			return err
		}
		fmt.Printf("%s %5.1f s  the network comes up\n", c.name, float64(e.Time)/1e9)
		return failed(e)
	}
	for n, line := range strings.Split(s.text, "\n") {
		e, err := m.Do(ctx, wire.NewStep(fmt.Sprintf("%d.%d", i, n), "script", guest.Script{Text: line, Env: []string{c.env}, MustPass: true}))
		if err != nil {
			return err
		}
		var r guest.ScriptResult
		_ = json.Unmarshal(e.Data, &r)
		if hidden := strings.HasSuffix(line, "#"); !hidden || e.Error != "" {
			if s.title != "" {
				fmt.Printf("%s %5.1f s  %s\n", c.name, float64(e.Time-r.Elapsed)/1e9, s.title)
				s.title = ""
			}
			fmt.Println("               $ " + line)
			for line := range strings.Lines(r.Output) {
				fmt.Println("               " + strings.TrimRight(line, "\n"))
			}
		}
		if err := failed(e); err != nil {
			return err
		}
	}
	return nil
}

func failed(e wire.Event) error {
	if e.Error != "" {
		return fmt.Errorf("%s", e.Error)
	}
	return nil
}
