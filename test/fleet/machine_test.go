// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// machine is a computer of the fleet. What it keeps from boot to boot is its
// state directory, /var/lib/tsugi.
type machine struct {
	name   string
	kernel *kernel.Target
	net    *vm.Net
	disk   string
	config string // /etc/tsugi/agent.yaml
}

// newMachine is a machine that was never booted.
func newMachine(t testing.TB, k *kernel.Target, s *server, name string) *machine {
	m := &machine{name: name, kernel: k, disk: filepath.Join(t.TempDir(), name+".img"), config: quickConfig}
	if s != nil {
		m.net = s.net()
	}
	return m
}

// quickConfig makes the agent as impatient as a test is.
const quickConfig = `transition: {limit: 20s, retry: 2s}
health: {watch: 2s}
`

// running is a machine between its start and its end.
type running struct {
	*vm.Machine
	t     testing.TB
	m     *machine
	steps int
	mu    sync.Mutex
	notes []string // lines of the journal, as they came
}

// prepareState is the first step of every boot: the state directory.
const prepareState = `set -e
hostname %s
mkdir -p /var/lib/tsugi /run/tsugi
mount -t ext4 /dev/tsugi/state /var/lib/tsugi
chmod 700 /var/lib/tsugi`

// asShipped has a machine unpack its kernel, and KASLR move it: several seconds
// under emulation.
func (m *machine) asShipped(c *vm.Config) { c.Kernel = m.kernel.Vmlinuz }

// boot starts the machine and mounts its state. Nothing of the agent runs yet
// and there is no network. change may be nil.
func (m *machine) boot(t testing.TB, change func(*vm.Config)) *running {
	t.Helper()
	id := sha256.Sum256([]byte(m.name))
	r := &running{t: t, m: m}
	cfg := vm.Config{
		Kernel: m.kernel.Vmlinux, ModuleSource: m.kernel, CacheDir: m.kernel.Home(),
		Init: program(t, buildInit), Modules: []string{"ext4"}, Memory: 768, Timeout: 10 * time.Minute, Net: m.net,
		Disks: []vm.Disk{{Name: "state", Size: 128 << 20, FS: "ext4", File: m.disk, Loss: 1}},
		Files: []vm.File{
			{Path: "/usr/bin/tsugi", From: program(t, buildTsugi), Mode: 0o755},
			{Path: "/boot/config-" + m.kernel.Release, From: filepath.Join(m.kernel.Build, ".config")},
			{Path: "/etc/machine-id", Data: []byte(hex.EncodeToString(id[:16]) + "\n")},
			{Path: "/etc/os-release", Data: []byte("ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n")},
			{Path: "/etc/tsugi/agent.yaml", Data: []byte(m.config)},
		},
	}
	cfg.OnEvent = func(e wire.Event) {
		var line string
		if e.Kind == wire.Note && json.Unmarshal(e.Data, &line) == nil {
			r.mu.Lock()
			r.notes = append(r.notes, line)
			r.mu.Unlock()
		}
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	r.Machine, err = vm.Start(t.Context(), cfg, &wire.Plan{LogLevel: 5})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() {
		r.Cut()
		out, err := r.Wait()
		if t.Failed() && err == nil {
			t.Logf("console of %s:\n%s", m.name, out.Console)
		}
	})
	r.sh(fmt.Sprintf(prepareState, m.name))
	return r
}

// do runs a step and returns its end, and whether the machine lived to tell.
func (r *running) do(verb string, args any) (wire.Event, bool) {
	r.t.Helper()
	r.steps++
	e, err := r.Do(r.t.Context(), wire.NewStep(fmt.Sprintf("%d", r.steps), verb, args))
	if err != nil {
		qt.Assert(r.t, qt.ErrorIs(err, vm.ErrEnded))
		return e, false
	}
	return e, true
}

// try runs a shell script and returns its exit status and output.
func (r *running) try(text string) guest.ScriptResult {
	r.t.Helper()
	e, alive := r.do("script", guest.Script{Text: text})
	if !alive {
		out, err := r.Wait()
		r.t.Fatalf("%s ended while it ran %q: %v %+v", r.m.name, text, err, out)
	}
	var s guest.ScriptResult
	qt.Assert(r.t, qt.Equals(e.Error, ""))
	qt.Assert(r.t, qt.IsNil(json.Unmarshal(e.Data, &s)))
	return s
}

// sh runs a shell script, which has to succeed.
func (r *running) sh(text string) string {
	r.t.Helper()
	s := r.try(text)
	if s.Exit != 0 {
		r.t.Fatalf("%s: %q ended with %d%s:\n%s\nagent:\n%s", r.m.name, text, s.Exit, s.Signal, s.Output, r.try("cat /run/agent.log").Output)
	}
	return s.Output
}

// network brings up the network card.
func (r *running) network() {
	r.t.Helper()
	e, alive := r.do("network", guest.Network{Address: vm.GuestAddress})
	qt.Assert(r.t, qt.IsTrue(alive))
	qt.Assert(r.t, qt.Equals(e.Error, ""))
}

// early does what tsugi-boot.service does.
func (r *running) early() guest.ScriptResult {
	r.t.Helper()
	return r.try("tsugi agent --boot")
}

// agent starts the daemon, as tsugi.service does.
func (r *running) agent() {
	r.t.Helper()
	r.sh("rm -f /run/tsugi/agent.sock; tsugi agent >>/run/agent.log 2>&1 & echo $! >/run/agent.pid")
	r.sh("i=0; while [ ! -S /run/tsugi/agent.sock ]; do i=$((i+1)); [ $i -lt 1200 ]; usleep 50000; done")
}

// status is tsugi status --json.
func (r *running) status() status {
	r.t.Helper()
	var s status
	out := r.try("tsugi status --json").Output
	qt.Assert(r.t, qt.IsNil(json.Unmarshal(result(r.t, []byte(out)), &s)), qt.Commentf("%s", out))
	return s
}

// until waits for the agent's status to be a certain one.
func (r *running) until(what string, ok func(status) bool) status {
	r.t.Helper()
	var s status
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(700 * time.Millisecond) {
		if s = r.status(); ok(s) {
			return s
		}
	}
	r.t.Fatalf("%s is not %s: %+v\nagent:\n%s", r.m.name, what, s, r.try("cat /run/agent.log").Output)
	return s
}

// loaded are the live patches that the kernel itself shows.
func (r *running) loaded() []string {
	r.t.Helper()
	return strings.Fields(r.sh("ls /sys/kernel/livepatch"))
}

// shutdown ends the machine in good order.
func (r *running) shutdown() *vm.Outcome {
	r.t.Helper()
	r.try("kill $(cat /run/agent.pid); wait; umount /var/lib/tsugi")
	out, err := r.Shutdown(r.t.Context())
	qt.Assert(r.t, qt.IsNil(err))
	qt.Assert(r.t, qt.Equals(out.End, vm.Finished), qt.Commentf("%s", out.Console))
	return out
}
