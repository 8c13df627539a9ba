// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/guest"
)

func scriptOf(text string) guest.Script { return guest.Script{Text: text} }

// A live patch whose function kills the kernel takes a machine down once, not
// twice, and blocks itself for the others of its tier.
func TestALivePatchThatPanics(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	a := livePatch(t, k, "panic", 1, edit{"fs/proc/loadavg.c", "static int loadavg_proc_show(", "\n{\n", "\n{\n\tBUG();\n"})
	s := newServer(t)
	word := s.token("fleet", "edge")
	lp := s.publish(a, "edge")

	m := newMachine(t, k, s, "canary")
	m.config = "health: {watch: 1m}\n"
	r := m.boot(t, nil)
	r.network()
	r.sh("tsugi enroll " + word)
	r.agent()
	r.until("applied", func(s status) bool { return s.Applied != nil && s.Applied.State == api.Applied })
	_, alive := r.do("script", scriptOf("cat /proc/loadavg; sleep 20"))
	qt.Assert(t, qt.IsFalse(alive))
	out, err := r.Wait()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(out.End, vm.Panicked), qt.Commentf("%s", out.Console))
	qt.Check(t, qt.Equals(out.Crash.Function, "loadavg_proc_show"))

	// The next boot does not load it, and says so to the server.
	r = m.boot(t, nil)
	e := r.early()
	t.Logf("early boot: %d %s", e.Exit, e.Output)
	qt.Check(t, qt.HasLen(r.loaded(), 0))
	r.sh("cat /proc/loadavg")
	r.network()
	r.agent()
	got := r.until("in quarantine", func(s status) bool { return len(s.Quarantine) > 0 })
	qt.Check(t, qt.Equals(got.Quarantine[0].ID, lp.ID))
	seen := s.until("canary", "failing", func(m api.Machine) bool { return m.Protection == api.Failing })
	t.Logf("the server says: %s", seen.Reason)
	r.until("through with its reports", func(s status) bool { return s.Waiting == 0 })
	blocked := ctl[api.LivePatch](s, "livepatch", "show", lp.ID)
	qt.Check(t, qt.Not(qt.Equals(blocked.Blocked, 0)))
	qt.Check(t, qt.StringContains(blocked.Reason, "went down"))
	r.sh("cat /proc/loadavg")
	r.shutdown()

	// And no other machine of the tier gets it.
	other := newMachine(t, k, s, "next").boot(t, nil)
	other.network()
	other.sh("tsugi enroll " + word)
	other.agent()
	other.until("up to date with nothing", func(s status) bool {
		return s.Server != nil && s.Server.Sequence > 0 && s.Server.Answered > 0
	})
	other.sh("tsugi refresh")
	qt.Check(t, qt.HasLen(other.loaded(), 0))
	qt.Check(t, qt.IsFalse(strings.Contains(other.sh("cat /var/lib/tsugi/journal"), `"loading"`)))
	other.sh("cat /proc/loadavg")
	other.shutdown()
}

// A task that sleeps in a patched function holds up the transition: it is
// named, the transition is reversed at the limit, tried again, and comes to
// its end when the task leaves.
func TestATaskThatIsStuck(t *testing.T) {
	testenv.Long(t, "kload and the agent have such tasks in their own tests")
	k := testenv.Kernel(t, testenv.Demo)
	a := livePatch(t, k, "stuck", 1, edit{"fs/pipe.c", "static int fifo_open(struct inode", "\n\tfilp->f_version = 0;", "\n\tprintk_once(\"tsugi: sewn on\\n\");\n\tfilp->f_version = 0;"})
	s := newServer(t)
	word := s.token("fleet", "stable")
	s.publish(a, "stable")
	m := newMachine(t, k, s, "busy")
	// Shorter than the 15 s after which the kernel wakes such a sleeper itself.
	m.config = "transition: {limit: 10s, retry: 1s}\nhealth: {watch: 1s}\n"
	r := m.boot(t, nil)
	r.sh("mkfifo /tmp/fifo; cat /tmp/fifo >/tmp/out 2>&1 & sleep 1")
	r.network()
	r.sh("tsugi enroll " + word)
	_, alive := r.do("follow", "/var/lib/tsugi/journal")
	qt.Assert(t, qt.IsTrue(alive))
	r.agent()

	got := r.until("held up", func(s status) bool { return len(s.Stalls) > 0 })
	qt.Check(t, qt.Equals(got.Stalls[0].Comm, "cat"))
	qt.Check(t, qt.StringContains(got.Stalls[0].Function, "fifo_open"))
	got = r.until("reversed", func(s status) bool {
		return s.Patch != nil && s.Patch.Problem != nil && s.Patch.Problem.Code == "TS9501"
	})
	qt.Check(t, qt.StringContains(got.Patch.Problem.Why, "cat"))
	s.until("busy", "known to be held up", func(m api.Machine) bool { return m.Patch.Problem != nil && m.Patch.Problem.Code == "TS9501" })
	r.sh("echo x >/tmp/fifo")
	r.until("protected", isHealthy)
	qt.Check(t, qt.DeepEquals(r.loaded(), []string{a.name}))
	var tries int
	for _, rep := range r.reported() {
		if rep.Patch.State == api.Transitioning {
			tries++
		}
	}
	qt.Check(t, qt.IsTrue(tries >= 2), qt.Commentf("%d transitions began", tries))
	r.shutdown()
}
