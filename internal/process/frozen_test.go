// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// freezers are control groups that stop their processes, of both versions, as far
// as there are any here.
func freezers(t *testing.T) map[string]func(t *testing.T, pid int) (set func(frozen bool)) {
	t.Helper()
	all := map[string]func(*testing.T, int) func(bool){}
	for _, c := range []struct{ name, top, file, on, off string }{
		{"v1", "/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"},
		{"v2", "/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0"},
		{"v2", "/sys/fs/cgroup", "cgroup.freeze", "1", "0"},
	} {
		dir := filepath.Join(c.top, fmt.Sprintf("tsugi-test-%d", os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		if _, err := os.Stat(filepath.Join(dir, c.file)); err != nil {
			continue
		}
		all[c.name] = func(t *testing.T, pid int) func(bool) {
			write := func(file, text string) {
				qt.Check(t, qt.IsNil(os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600)))
			}
			write("cgroup.procs", fmt.Sprint(pid))
			return func(frozen bool) {
				text := c.off
				if frozen {
					text = c.on
				}
				write(c.file, text)
			}
		}
	}
	if len(all) == 0 {
		need.Allowed(t, "no control group that freezes")
	}
	return all
}

// TestAFrozenProcessIsPending at once, and as it was when it is thawed.
func TestAFrozenProcessIsPending(t *testing.T) {
	v2, _ := patches(t)
	for name, group := range freezers(t) {
		t.Run(name, func(t *testing.T) {
			e, g := engine(t), program(t, "l")
			freeze := group(t, g.cmd.Process.Pid)
			t.Cleanup(func() { freeze(false); g.stop() }) // before the group is removed
			maps := func() string {
				b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", g.cmd.Process.Pid))
				qt.Assert(t, qt.IsNil(err))
				return string(b)
			}
			before := maps()
			freeze(true)
			r, err := e.Apply(t.Context(), g.p, v2, Options{Budget: 20 * time.Second})
			pending(t, r, err, Pending, "TS9645")
			qt.Check(t, qt.Equals(r.Stopped, 0))
			freeze(false)
			qt.Check(t, qt.Equals(g.ask("v"), "1 2"))
			qt.Check(t, qt.Equals(maps(), before))
			applied(t, e, g, v2, Options{Budget: 20 * time.Second})
			if name == "v2" { // it stops for a tracer, and no call need be made in it
				freeze(true)
				r, err = e.Revert(t.Context(), g.p, Selection{}, Options{Budget: 20 * time.Second})
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(r.State, Reverted), qt.Commentf("%v", r.Reason))
				freeze(false)
				qt.Check(t, qt.Equals(g.ask("v"), "1 2"))
			}
		})
	}
}

// TestACallThatIsFrozen: the process is frozen while it makes a call for us, for
// longer than that is waited for. What is made when it is thawed does no harm.
func TestACallThatIsFrozen(t *testing.T) {
	testenv.Long(t, "each call is waited for")
	v2, _ := patches(t)
	for name, group := range freezers(t) {
		for _, step := range []string{"forgotten", "reserved"} {
			t.Run(name+" "+step, func(t *testing.T) {
				e, g := engine(t), program(t, "l")
				freeze := group(t, g.cmd.Process.Pid)
				t.Cleanup(func() { freeze(false); g.stop() })
				held := span{}
				if step == "forgotten" { // a place without a use, which is given back first
					_, u := staged(t, e, g, v2)
					held = u.place()
				}
				frozen := false
				e.step = func(at string) {
					if at == step && !frozen {
						frozen = true
						freeze(true)
					}
				}
				r, err := e.Apply(t.Context(), g.p, v2, Options{})
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.IsTrue(frozen))
				qt.Check(t, qt.Equals(r.State, Pending), qt.Commentf("%v", r.Reason))
				r, err = e.Apply(t.Context(), g.p, v2, Options{})
				pending(t, r, err, Pending, "TS9645")
				freeze(false)
				qt.Check(t, qt.Equals(g.ask("v"), "1 2"))
				applied(t, e, g, v2, Options{Budget: 20 * time.Second})
				qt.Check(t, qt.Equals(g.ask("v"), "201 202"))
				s, err := look(t.Context(), g.p)
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.HasLen(s.areas, 1))
				for _, m := range s.within(held) { // unmapped once it was thawed, unless it is used again
					qt.Check(t, qt.IsTrue(s.areas[0].base >= held.start && s.areas[0].base < held.end), qt.Commentf("%+v", m))
				}
			})
		}
	}
}
