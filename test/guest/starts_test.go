// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/test/guest/inside"
)

// starts: the kernel tells of programs that start, and of libraries that are
// opened later.
func starts(t *testing.T, m *machine) {
	t.Run("program", func(t *testing.T) {
		a := m.ask(t, inside.Request{Engine: inside.Who{}, Do: "watch", Patch: patchOf("ring")})
		qt.Check(t, qt.Equals(a.Text, "exec true\nopen true\nscan true\n"))
		// The file is watched for being opened once the first one is known, so
		// that either may be the first to tell.
		told := map[string]int{}
		for n := 0; n < 3 || told["exec"] == 0; n++ {
			qt.Assert(t, qt.IsTrue(n < 20), qt.Commentf("%v", told))
			p := m.start(t, "ring", nil)
			told[p.watched().Source]++
			qt.Check(t, qt.Equals(p.do("call f 3"), 31))
		}
	})
	t.Run("library", func(t *testing.T) {
		// The first look at all passes the one before it finds the other.
		p, other := m.start(t, "states", nil), m.start(t, "states", nil)
		other.do("load /lib/late.so")
		m.ask(t, inside.Request{Do: "watch", Patch: patchOf("late.so"), File: "/lib/late.so"})
		qt.Check(t, qt.Equals(other.watched().Source, "scan"))
		p.do("load /lib/late.so")
		qt.Check(t, qt.Equals(p.watched().Source, "open"))
		qt.Check(t, qt.Equals(p.do("call lib 3"), 504))
	})
}

// watched waits until the watcher has patched a program.
func (p *program) watched() inside.Found {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, f := range p.m.ask(p.t, inside.Request{Do: "watched"}).Found {
			if f.PID == p.pid {
				qt.Assert(p.t, qt.Equals(f.Result.State, "applied"), qt.Commentf("%s", f.Result.Why))
				p.t.Logf("patched %d ms after its start, by %s", f.After, f.Source)
				return f
			}
		}
	}
	p.t.Fatal("the watcher has not patched it")
	return inside.Found{}
}
