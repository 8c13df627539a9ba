// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/test/guest/inside"
)

const controlGroups = "/sys/fs/cgroup"

// mountGroups makes control groups of version 2 be there. The engines look for them
// but once.
func mountGroups(t *testing.T, m *machine) {
	m.script(t, "mount -t cgroup2 none "+controlGroups+" && cd "+controlGroups+" && echo +memory >cgroup.subtree_control && "+
		"mkdir -p box/inner && echo +memory >box/cgroup.subtree_control")
}

// memoryLimits: a process at the limit of its group, or of one above it, is left
// alone; the kernel would kill it.
func memoryLimits(t *testing.T, m *machine) {
	const inner = controlGroups + "/box/inner"
	p := m.start(t, "states", nil)
	m.write(t, inner+"/cgroup.procs", strconv.Itoa(p.pid))
	m.write(t, inner+"/memory.max", "8192") // what it had before does not count: this kills it if anything is put into it
	p.refused("pending", "TS9644")
	qt.Check(t, qt.Equals(p.do("call f 3"), 4))
	m.write(t, inner+"/memory.max", "max")
	// Started in the group, all that it has counts; and it sees no group above.
	q := m.start(t, "states", func(r *inside.Request) {
		r.Argv = []string{"/bin/sh", "-c", "echo $$ >" + inner + "/cgroup.procs && exec /bin/states"}
	})
	qt.Assert(t, qt.Equals(q.do("call enclose 0"), 0))
	for _, limited := range []string{"inner", "."} {
		limit := "cd " + controlGroups + "/box/" + limited + " && "
		m.script(t, limit+"echo $(($(cat memory.current) + 65536)) >memory.max")
		for _, r := range []*program{p, q} {
			r.refused("pending", "TS9644")
			qt.Check(t, qt.Equals(r.do("call f 3"), 4))
		}
		m.script(t, limit+"echo 64M >memory.max")
		p.roundTrip()
		q.roundTrip()
		m.script(t, limit+"echo max >memory.max && grep -q '^oom_kill 0' memory.events")
	}
}

// mappingLimits: at the limit of how much may be mapped the kernel refuses one call
// or another. Nothing stays of those before it, and nobody else's place is taken.
func mappingLimits(t *testing.T, m *machine) {
	const file = "/proc/sys/vm/max_map_count"
	usual := m.script(t, "cat "+file)
	defer m.write(t, file, usual)
	p := m.start(t, "states", nil)
	p.do("call crowd 300") // or the engine would be the first to have too many
	maps := func() []string {
		return strings.Split(strings.TrimSpace(m.script(t, fmt.Sprintf("grep -v vsyscall /proc/%d/maps", p.pid))), "\n")
	}
	before := maps()
	for more, applied := 1, false; !applied; more++ {
		qt.Assert(t, qt.IsTrue(more < 8))
		m.write(t, file, strconv.Itoa(len(before)+more))
		r := p.by(inside.Who{}, "apply")
		if applied = r.State == "applied"; !applied {
			qt.Check(t, qt.Equals(r.State+" "+r.Code, "pending TS9641"), qt.Commentf("%s", r.Why))
			qt.Check(t, qt.DeepEquals(maps(), before))
			qt.Check(t, qt.Equals(p.do("call f 3"), 4))
			continue
		}
		qt.Check(t, qt.IsTrue(more > 2), qt.Commentf("nothing was refused half-way"))
	}
	qt.Check(t, qt.Equals(p.do("call f 3"), 31))
}
