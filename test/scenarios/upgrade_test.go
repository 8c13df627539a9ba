// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/agent/keeper"
	"github.com/tsugi-project/tsugi/internal/userland/local"
)

// TestUpgradeUnderWay: the package is upgraded on the disk while processes run the
// old file, here and in a container of its own. They are found by what they have in
// memory; who starts the new file needs nothing.
func TestUpgradeUnderWay(t *testing.T) {
	needs(t)
	if os.Geteuid() != 0 {
		t.Skip("processes of others are for root")
	}
	t.Parallel()
	tagged := func(tag int) made {
		b := program1("upgraded", local.PIE, "simple.c")
		b.ldflags = append(b.ldflags, fmt.Sprintf("-Wl,--build-id=0x%08x%08x%016x", tag, os.Getpid(), time.Now().UnixNano()))
		return b.make(t, 1)
	}
	m, fixed := tagged(1), tagged(2)
	path := filepath.Join(t.TempDir(), "upgraded")
	install := func(elf string) {
		text, err := os.ReadFile(elf)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(os.WriteFile(path+".new", text, 0o755)))
		qt.Assert(t, qt.IsNil(os.Rename(path+".new", path)))
	}
	install(m.ELF)
	old := []*program{start(t, path)}
	if out, err := exec.Command("unshare", "--mount", "--pid", "--fork", "true").CombinedOutput(); err == nil {
		script := path + ".sh"
		text := "#!/bin/sh\nexec unshare --mount --pid --fork --kill-child sh -c 'mount -t tmpfs none /mnt && cp " + path + " /mnt/inside && exec /mnt/inside'\n"
		qt.Assert(t, qt.IsNil(os.WriteFile(script, []byte(text), 0o755)))
		inside := start(t, script)
		qt.Check(t, qt.Equals(inside.pid, 1)) // as it sees itself
		old = append(old, inside)
	} else {
		t.Logf("no namespaces here: %s", out)
	}
	install(fixed.ELF)
	fresh := start(t, path)

	k := keeper.New(t.TempDir()+"/processes", keeper.Host{Engine: engine()})
	r, err := k.Apply(t.Context(), artifact(t, 1, m.Splice))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(r.Counts[keeper.Protected], len(old)))
	for _, p := range r.Processes {
		qt.Check(t, qt.Not(qt.Equals(p.PID, fresh.pid)))
	}
	for _, p := range old {
		qt.Check(t, qt.Equals(p.do("call f 3"), 31))
	}
	qt.Check(t, qt.Equals(fresh.do("call f 3"), 4))
	_, err = k.Revert(t.Context(), r.Patches[0].ID)
	qt.Assert(t, qt.IsNil(err))
	for _, p := range old {
		qt.Check(t, qt.Equals(p.do("call f 3"), 4))
		p.quit()
	}
	fresh.quit()
}
