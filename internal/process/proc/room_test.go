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
		want              groupTree
		group             string
	}{
		{other + second + first, "5:cpu:/c\n4:memory:/a/b\n0::/d\n", groupTree{"/sys/fs/cgroup/memory", "/", "memory"}, "/a/b"},
		{other + second, "5:cpu:/c\n0::/box/d\n", groupTree{"/sys/fs/cgroup/unified", "/box", ""}, "/d"},
		{other + second, "0::/elsewhere\n", groupTree{"/sys/fs/cgroup/unified", "/box", ""}, ""},
		{first, "4:memory:/../x\n", groupTree{"/sys/fs/cgroup/memory", "/", "memory"}, ""},
		{other, "0::/\n", groupTree{}, ""},
	} {
		tree := findTree([]byte(tt.mountinfo), "memory")
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
		first  bool
		group  string
		room   uint64
		narrow string
	}{
		{false, "/slice/service", 131000, "/slice"},
		{false, "/gone", math.MaxUint64, ""},
		{true, "/old/deeper", 20, "/old"},
		{true, "/free", math.MaxUint64, ""},
		{true, "", math.MaxUint64, ""},
	} {
		tree := groupTree{mount: dir, top: "/"}
		if tt.first {
			tree.controller = "memory"
		}
		room, narrow := tree.room(tt.group)
		qt.Check(t, qt.Equals(room, tt.room), qt.Commentf("%+v", tt))
		qt.Check(t, qt.Equals(narrow, tt.narrow))
	}
}

func TestWhichGroupIsFrozen(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"slice/cgroup.freeze": "1\n", "slice/service/cgroup.freeze": "0\n", "slice/service/freezer.state": "THAWED\n",
		"other/cgroup.freeze": "0\n", "other/freezer.state": "FREEZING\n",
	} {
		file := filepath.Join(dir, name)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(file), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte(text), 0o600)))
	}
	second, first := groupTree{mount: dir, top: "/"}, groupTree{dir, "/", "freezer"}
	qt.Check(t, qt.Equals(second.frozen("/slice/service"), "/slice"))
	qt.Check(t, qt.Equals(second.frozen("/other/gone"), ""))
	qt.Check(t, qt.Equals(second.frozen(""), ""))
	qt.Check(t, qt.Equals(first.frozen("/slice/service"), ""))
	qt.Check(t, qt.Equals(first.frozen("/other/gone"), "/other"))
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
