// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// memoryGroup makes a control group for memory, and gives how its limit is
// called. Where groups are mounted and may be written, root can make one.
func memoryGroup(t *testing.T) (dir, limit string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	qt.Assert(t, qt.IsNil(err))
	for line := range strings.SplitSeq(string(text), "\n") {
		f := strings.SplitN(line, ":", 3)
		switch {
		case len(f) != 3:
			continue
		case f[1] == "memory":
			dir, limit = filepath.Join("/sys/fs/cgroup/memory", f[2]), "memory.limit_in_bytes"
		case f[1] == "" && dir == "":
			dir, limit = filepath.Join("/sys/fs/cgroup", f[2]), "memory.max"
		}
	}
	var mounted unix.Statfs_t
	if err := unix.Statfs(dir, &mounted); err != nil || mounted.Type != unix.CGROUP_SUPER_MAGIC && mounted.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Skipf("%s is no control group that can be seen here: %v", dir, err)
	}
	if mounted.Flags&unix.ST_RDONLY != 0 {
		t.Skipf("%s may not be written", dir)
	}
	if given, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")); err == nil && !slices.Contains(strings.Fields(string(given)), "memory") {
		t.Skipf("%s gives no limits of memory to groups below it", dir)
	}
	dir = filepath.Join(dir, fmt.Sprintf("tsugi-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		need.Allowed(t, "no control group can be made here: ", err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if _, err := os.Stat(filepath.Join(dir, limit)); err != nil {
		need.Allowed(t, "no memory limits can be set here: ", err)
	}
	return dir, limit
}

// TestAProcessAtItsMemoryLimit is left alone: the kernel would kill it.
func TestAProcessAtItsMemoryLimit(t *testing.T) {
	v2, _ := patches(t)
	e, g := engine(t), program(t)
	dir, limit := memoryGroup(t)
	set := func(file string, v any) {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, file), []byte(fmt.Sprint(v)), 0o600)))
	}
	t.Cleanup(g.stop) // before the group is removed
	set("cgroup.procs", g.cmd.Process.Pid)
	set(limit, 128<<10)
	r, err := e.Apply(t.Context(), g.p, v2, Options{})
	pending(t, r, err, Pending, "TS9644")
	qt.Check(t, qt.Equals(g.ask("v"), "1 2"))
	set(limit, 64<<20)
	applied(t, e, g, v2, Options{Budget: 20 * time.Second})
	qt.Check(t, qt.Equals(g.ask("v"), "201 202"))
}
