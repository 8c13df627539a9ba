// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// do has a machine run a step, which has to succeed.
func do[T any](t testing.TB, m *vm.Machine, s wire.Step) T {
	t.Helper()
	e, err := m.Do(t.Context(), s)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(e.Error, ""))
	var v T
	if len(e.Data) > 0 {
		qt.Assert(t, qt.IsNil(json.Unmarshal(e.Data, &v)))
	}
	return v
}

func sh(id, text string) wire.Step { return wire.NewStep(id, "script", guest.Script{Text: text}) }

// A machine with a network reaches the one server that it was given, as often
// as it likes and at once, and nothing else of the host.
func TestANetworkOfOneServer(t *testing.T) {
	testenv.Long(t, "each test of test/fleet has such a network")
	k := testenv.Kernel(t, testenv.Demo)
	big := bytes.Repeat([]byte("sewn on\n"), 1<<17)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(big) }))
	defer server.Close()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	qt.Assert(t, qt.IsNil(err))
	defer other.Close()
	_, otherPort, _ := net.SplitHostPort(other.Addr().String())

	cfg := config(t, k)
	cfg.Net = &vm.Net{Forward: map[int]string{8443: server.Listener.Addr().String()}}
	cfg.Clock = time.Date(2031, 5, 17, 12, 0, 0, 0, time.UTC)
	m, err := vm.Start(t.Context(), cfg, &wire.Plan{})
	qt.Assert(t, qt.IsNil(err))
	defer m.Cut()

	e, err := m.Do(t.Context(), wire.NewStep("early", "get", "https://"+vm.HostAddress+":8443/"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(e.Error, "unreachable"))
	n := do[guest.NetworkResult](t, m, wire.NewStep("network", "network", guest.Network{Address: vm.GuestAddress}))
	qt.Check(t, qt.IsTrue(n.Carrier), qt.Commentf("%+v", n))
	for i := range 3 {
		got := do[string](t, m, wire.NewStep(fmt.Sprint("get", i), "get", "https://"+vm.HostAddress+":8443/"))
		qt.Check(t, qt.Equals(len(got), len(big)))
	}
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	reached := do[map[string]bool](t, m, wire.NewStep("dial", "dial", []string{
		vm.HostAddress + ":8443",
		vm.HostAddress + ":" + port, "10.0.2.2:" + port, "10.0.2.2:" + otherPort, "10.0.2.3:53", "127.0.0.1:" + port,
	}))
	for a, ok := range reached {
		qt.Check(t, qt.Equals(ok, a == vm.HostAddress+":8443"), qt.Commentf("%s", a))
	}
	date := do[guest.ScriptResult](t, m, sh("date", "date -u +%Y-%m-%d"))
	qt.Check(t, qt.Equals(strings.TrimSpace(date.Output), "2031-05-17"))
	out, err := m.Shutdown(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(out.End, vm.Finished), qt.Commentf("%s", out.Console))
	_, err = m.Do(t.Context(), sh("late", "true"))
	qt.Check(t, qt.ErrorIs(err, vm.ErrEnded))
}

const stateScript = "mkdir -p /state && mount -t ext4 /dev/tsugi/state /state || exit 9; "

// What a machine has flushed is there after power loss; what it has not is
// lost, as it would be with a real drive's cache; and an orderly end keeps all.
func TestADiskThatOutlivesItsMachine(t *testing.T) {
	testenv.Long(t, "each test of test/fleet has such a disk")
	k := testenv.Kernel(t, testenv.Demo)
	dir := t.TempDir()
	file, raw := filepath.Join(dir, "state.img"), filepath.Join(dir, "raw.img")
	start := func() *vm.Machine {
		cfg := config(t, k)
		cfg.Disks = []vm.Disk{
			{Name: "state", Size: 64 << 20, FS: "ext4", File: file, Loss: 7},
			{Name: "raw", Size: 1 << 20, File: raw},
		}
		cfg.Modules = []string{"ext4"}
		m, err := vm.Start(t.Context(), cfg, &wire.Plan{})
		qt.Assert(t, qt.IsNil(err))
		return m
	}
	m := start()
	cfg := config(t, k)
	cfg.Disks = []vm.Disk{{Name: "state", Size: 64 << 20, FS: "ext4", File: file}}
	_, err := vm.Start(t.Context(), cfg, &wire.Plan{})
	qt.Check(t, qt.ErrorMatches(err, ".*another machine uses it.*"))
	r := do[guest.ScriptResult](t, m, sh("write", stateScript+"echo safe > /state/safe; sync; echo gone > /state/gone; ls /state"))
	qt.Assert(t, qt.Equals(r.Exit, 0), qt.Commentf("%s", r.Output))
	qt.Check(t, qt.StringContains(r.Output, "gone"))
	// The drive has taken both blocks; only the first was followed by a flush.
	r = do[guest.ScriptResult](t, m, sh("raw", `put() { yes $1 | head -c 4096 | dd of=/dev/tsugi/raw bs=4k seek=$2 oflag=direct conv=notrunc$3; }
put flushed 1 ,fsync && put cached 2 && dd if=/dev/tsugi/raw bs=4k skip=2 count=1 iflag=direct | head -n1`))
	qt.Assert(t, qt.StringContains(r.Output, "cached"))
	m.Cut()
	out, err := m.Wait()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(out.End, vm.Cut))
	onDisk, err := os.ReadFile(raw)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(string(onDisk[4096:8192]), "flushed"))
	qt.Check(t, qt.Equals(strings.Trim(string(onDisk[8192:]), "\x00"), ""))

	m = start()
	r = do[guest.ScriptResult](t, m, sh("read", stateScript+"cat /state/safe; ls /state; echo kept > /state/kept"))
	qt.Check(t, qt.Equals(r.Exit, 0))
	qt.Check(t, qt.StringContains(r.Output, "safe\n"))
	qt.Check(t, qt.Not(qt.StringContains(r.Output, "gone")))
	out, err = m.Shutdown(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(out.End, vm.Finished), qt.Commentf("%s", out.Console))

	m = start()
	defer m.Cut()
	r = do[guest.ScriptResult](t, m, sh("again", stateScript+"cat /state/safe /state/kept"))
	qt.Check(t, qt.Equals(r.Output, "safe\nkept\n"))
	qt.Check(t, qt.Equals(r.Exit, 0))
}

func TestPowerIsCutAtAChosenEvent(t *testing.T) {
	cfg := config(t, testenv.Kernel(t, testenv.Demo))
	cfg.CutAt = func(e wire.Event) bool { return e.Kind == wire.Begin && e.Step == "two" }
	out, err := vm.Run(t.Context(), cfg, &wire.Plan{Steps: []wire.Step{sh("one", "true"), sh("two", "sleep 100"), sh("three", "true")}})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(out.End, vm.Cut))
	qt.Check(t, qt.IsTrue(out.Began("two") && !out.Began("three")))
}
