// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/test/guest/inside"
)

const scope = "/proc/sys/kernel/yama/ptrace_scope"

// yama: root may whatever the scope below 3; a user may trace his own processes
// by scope 0, and else is told what forbids it.
func yama(t *testing.T, m *machine) {
	user := inside.Who{User: 1000}
	for _, s := range []string{"0", "1", "2"} {
		m.write(t, scope, s)
		m.start(t, "states", nil).roundTrip()
		p := m.start(t, "states", func(r *inside.Request) { r.User = 1000 })
		r := p.by(user, "apply")
		if s == "0" {
			qt.Check(t, qt.Equals(r.State, "applied"), qt.Commentf("%s", r.Why))
			continue
		}
		qt.Check(t, qt.Equals(r.State, "pending"))
		qt.Check(t, qt.StringContains(r.Why, "kernel.yama.ptrace_scope is "+s))
		qt.Check(t, qt.Equals(p.do("call f 3"), 4))
	}
	m.write(t, scope, "1")
}

// yamaForbids: nobody may trace, root neither, until the next boot.
func yamaForbids(t *testing.T, m *machine) {
	patched, plain := m.start(t, "states", nil), m.start(t, "states", nil)
	qt.Assert(t, qt.Equals(patched.change("apply").State, "applied"))
	m.write(t, scope, "3")
	r := plain.refused("pending", "TS9606")
	qt.Check(t, qt.StringContains(r.Why, "kernel.yama.ptrace_scope is 3"))
	qt.Check(t, qt.IsTrue(strings.Contains(r.Fix, "reboot")))
	qt.Check(t, qt.Equals(plain.do("call f 3"), 4))
	// What is patched stays so, and can be looked at.
	qt.Check(t, qt.Equals(patched.do("call f 3"), 31))
	r = patched.by(inside.Who{}, "revert")
	qt.Check(t, qt.Equals(r.State+" "+r.Code, "pending TS9606"))
	qt.Check(t, qt.Equals(patched.do("call f 3"), 31))
}
