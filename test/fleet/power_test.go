// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// Power is lost at every step of an apply. The machine boots all the same, and
// then it is protected, or it says why it is not; and its server knows. What
// the kernel was asked to load, the journal has on the disk.
func TestPowerLossAtEveryStep(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	a := realPatch(t, k, 1)
	s := newServer(t)
	base := newMachine(t, k, s, "db-1")
	r := base.boot(t, nil)
	r.network()
	r.sh("tsugi enroll " + s.token("fleet", "stable"))
	r.shutdown()
	lp := s.publish(a, "stable")

	states, rounds := []api.State{api.Applied}, 1
	if testenv.IsLong() {
		states = []api.State{api.Verified, api.Preflighted, api.Loading, api.Transitioning, api.Applied, api.Healthy}
		rounds = 10
	}
	for round := range rounds {
		for _, state := range states {
			t.Run(fmt.Sprintf("%s-%d", state, round+1), func(t *testing.T) {
				s.t = t
				m := *base
				m.disk = filepath.Join(t.TempDir(), "db-1.img")
				clone(t, base.disk, m.disk)
				loaded := loseAt(t, s, &m, a, state, round)
				comesBack(t, s, &m, a, lp, loaded, testenv.IsLong() || state == states[len(states)-1])
			})
			s.t = t
		}
	}
}

// clone copies a disk.
func clone(t testing.TB, from, to string) {
	b, err := os.ReadFile(from)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(to, b, 0o644)))
}

// loseAt has a machine apply what its server offers, and takes its power away
// when the journal comes to a state: the moment that the line is written, which
// is before it is on the disk, and in later rounds ever later. Even rounds lose
// all that was not flushed, odd ones a part of it. It tells whether the kernel
// had been asked to load the live patch.
func loseAt(t *testing.T, s *server, m *machine, a artifact, state api.State, round int) (loaded bool) {
	t.Helper()
	r := m.boot(t, func(cfg *vm.Config) {
		cfg.Disks[0].Loss = uint64(round % 2 * (round + 1))
		cfg.CutAt = func(e wire.Event) bool {
			var note string
			if e.Kind != wire.Note || json.Unmarshal(e.Data, &note) != nil {
				return false
			}
			rep := reportOf(note)
			hit := rep != nil && rep.Kind == api.ReportState && rep.Patch.State == state
			if hit {
				time.Sleep(time.Duration(round) * 25 * time.Millisecond)
			}
			return hit
		}
	})
	_, alive := r.do("follow", "/var/lib/tsugi/journal")
	qt.Assert(t, qt.IsTrue(alive))
	r.network()
	_, _ = r.Do(t.Context(), wire.NewStep("agent", "script", scriptOf("tsugi agent; sleep 100")))
	out, err := r.Wait()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(out.End, vm.Cut), qt.Commentf("it never was %s; %s", state, out.Console))
	return strings.Contains(out.Console, a.name+": loading out-of-tree module")
}

// comesBack boots a machine that lost its power and lets it settle. With all
// set, a person lets the live patch in again then.
func comesBack(t *testing.T, s *server, m *machine, a artifact, lp api.LivePatch, loaded, all bool) {
	t.Helper()
	r := m.boot(t, nil)
	known, _, err := agent.ParseJournal([]byte(r.try("cat /var/lib/tsugi/journal").Output))
	qt.Assert(t, qt.IsNil(err))
	unconfirmed, healthy := known.Intent != nil, len(known.Healthy) > 0
	t.Logf("the disk knows that it is unconfirmed: %v, healthy: %v; the kernel had it: %v", unconfirmed, healthy, loaded)
	if loaded {
		qt.Check(t, qt.IsTrue(unconfirmed || healthy), qt.Commentf("it was loaded, and the disk does not know"))
	}
	e := r.early()
	t.Logf("early boot: %d %s", e.Exit, e.Output)
	qt.Check(t, qt.Equals(len(r.loaded()), map[bool]int{true: 1}[healthy]))
	r.network()
	r.agent()
	got := r.until("settled", func(s status) bool { return isHealthy(s) || len(s.Quarantine) > 0 && s.Reason != "" })
	if !unconfirmed {
		qt.Check(t, qt.IsTrue(isHealthy(got)), qt.Commentf("%+v", got))
		qt.Check(t, qt.DeepEquals(r.loaded(), []string{a.name}))
		s.until(m.name, "protected", protected)
		r.shutdown()
		return
	}
	// Not confirmed: it is not loaded again, and everybody is told why.
	qt.Check(t, qt.HasLen(r.loaded(), 0))
	qt.Assert(t, qt.HasLen(got.Quarantine, 1))
	qt.Check(t, qt.Equals(got.Quarantine[0].ID, lp.ID))
	qt.Check(t, qt.Not(qt.Equals(got.Reason, "")))
	seen := s.until(m.name, "failing", func(m api.Machine) bool { return m.Protection == api.Failing })
	qt.Check(t, qt.Not(qt.Equals(seen.Reason, "")))
	r.until("through with its reports", func(s status) bool { return s.Waiting == 0 })
	qt.Check(t, qt.Not(qt.Equals(ctl[api.LivePatch](s, "livepatch", "show", lp.ID).Blocked, 0)))
	// A person who knows that it was the power lets it in again, everywhere.
	s.run(buildTsugictl, nil, "unblock", lp.ID)
	if all {
		r.sh("tsugi clear " + lp.ID)
		r.until("protected after all", isHealthy)
		qt.Check(t, qt.DeepEquals(r.loaded(), []string{a.name}))
	}
	r.shutdown()
}
