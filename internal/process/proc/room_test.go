// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

func TestWhereTheMemoryGroupsAre(t *testing.T) {
	const first = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory\n"
	const second = "41 31 0:38 /box /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	const other = "33 31 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\nrubbish\n"
	for _, tt := range []struct {
		mountinfo, cgroup string
		want              memoryTree
		group             string
	}{
		{other + second + first, "5:cpu:/c\n4:memory:/a/b\n0::/d\n", memoryTree{mount: "/sys/fs/cgroup/memory", top: "/"}, "/a/b"},
		{other + second, "5:cpu:/c\n0::/box/d\n", memoryTree{"/sys/fs/cgroup/unified", "/box", true}, "/d"},
		{other + second, "0::/elsewhere\n", memoryTree{"/sys/fs/cgroup/unified", "/box", true}, ""},
		{first, "4:memory:/../x\n", memoryTree{mount: "/sys/fs/cgroup/memory", top: "/"}, ""},
		{other, "0::/\n", memoryTree{}, ""},
	} {
		tree := findMemoryTree([]byte(tt.mountinfo))
		qt.Check(t, qt.Equals(tree, tt.want))
		if tree.mount != "" {
			qt.Check(t, qt.Equals(tree.group([]byte(tt.cgroup)), tt.group))
		}
	}
}

func TestWhatALimitLeaves(t *testing.T) {
	dir := t.TempDir()
	files := func(at string, of map[string]string) {
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(dir, at), 0o755)))
		for name, text := range of {
			qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, at, name), []byte(text), 0o600)))
		}
	}
	files("slice", map[string]string{
		"memory.max": "1000000\n", "memory.current": "900000\n", "memory.swap.max": "0\n", "memory.swap.current": "0\n",
		"memory.stat": "anon 5\ninactive_file 30000\nactive_file 4000\nfile_dirty 1000\nfile_writeback 2000\n",
	})
	files("slice/service", map[string]string{"memory.max": "max\n", "memory.current": "900000\n"})
	files("old", map[string]string{
		"memory.limit_in_bytes": "500000\n", "memory.usage_in_bytes": "500001\n",
		"memory.memsw.limit_in_bytes": "500000\n", "memory.memsw.usage_in_bytes": "500000\n", "memory.stat": "inactive_file 7\ntotal_inactive_file 20\n",
	})
	files("free", map[string]string{"memory.limit_in_bytes": "9223372036854771712\n"})
	for _, tt := range []struct {
		v2     bool
		group  string
		room   uint64
		narrow string
	}{
		{true, "/slice/service", 131000, "/slice"},
		{true, "/gone", math.MaxUint64, ""},
		{false, "/old/deeper", 20, "/old"},
		{false, "/free", math.MaxUint64, ""},
		{false, "", math.MaxUint64, ""},
	} {
		room, narrow := memoryTree{dir, "/", tt.v2}.room(tt.group)
		qt.Check(t, qt.Equals(room, tt.room), qt.Commentf("%+v", tt))
		qt.Check(t, qt.Equals(narrow, tt.narrow))
	}
}

func TestGroupsWithoutALimitAreRememberedForAMoment(t *testing.T) {
	var g groups
	qt.Check(t, qt.IsFalse(g.has("/a")))
	g.note("/a")
	qt.Check(t, qt.IsTrue(g.has("/a")))
	qt.Check(t, qt.IsFalse(g.has("/b")))
	g.since["/a"] = time.Now().Add(-groupsAge)
	qt.Check(t, qt.IsFalse(g.has("/a")))
}
