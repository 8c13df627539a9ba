// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

type status = agent.Status

// enrolled is what tsugi status says of a machine that is protected.
func isHealthy(s status) bool {
	return s.Protection == api.Protected && s.Applied != nil && s.Applied.State == api.Healthy
}

func protected(m api.Machine) bool { return m.Protection == api.Protected }

// token makes an enrolment token and returns the word for tsugi enroll.
func (s *server) token(name, tier string) string {
	s.t.Helper()
	return ctl[api.TokenMade](s, "token", "new", name, "--tier", tier).Enroll
}

// publish hands a live patch to a tier.
func (s *server) publish(a artifact, tier string) api.LivePatch {
	s.t.Helper()
	return ctl[api.LivePatch](s, "publish", a.file, "--tier", tier)
}

// What make demo shows: a machine with the unmodified vulnerable kernel
// enrols, verifies, applies, reports; has the fix again after a boot before
// there is a network; and lets go of it live. Then a newer version reaches it
// while it waits.
func TestFromTokenToRevert(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	first, second := realPatch(t, k, 1), realPatch(t, k, 2)
	s := newServer(t)
	lp := s.publish(first, "stable")
	m := newMachine(t, k, s, "web-1")

	r := m.boot(t, m.asShipped)
	e := r.early()
	qt.Check(t, qt.Equals(e.Exit, 0), qt.Commentf("%s", e.Output))
	qt.Check(t, qt.HasLen(r.loaded(), 0))
	check := r.try("tsugi check")
	qt.Check(t, qt.Equals(check.Exit, 0), qt.Commentf("%s", check.Output))
	r.network()
	r.sh("tsugi enroll " + s.token("fleet", "stable"))
	r.agent()
	got := r.until("protected", isHealthy)
	qt.Check(t, qt.Equals(got.Applied.ID, lp.ID))
	qt.Check(t, qt.DeepEquals(r.loaded(), []string{first.name}))
	seen := s.until("web-1", "protected", protected)
	qt.Check(t, qt.Equals(seen.Patch.ID, lp.ID))
	qt.Check(t, qt.Equals(seen.Kernel.BuildID, k.BuildID))
	r.shutdown()

	r = m.boot(t, m.asShipped)
	e = r.early()
	qt.Check(t, qt.Equals(e.Exit, 0), qt.Commentf("%s", e.Output))
	qt.Check(t, qt.DeepEquals(r.loaded(), []string{first.name}))
	qt.Check(t, qt.Equals(strings.TrimSpace(r.sh("ls /sys/class/net")), "lo"))
	r.network()
	r.agent()
	r.until("protected after the boot", isHealthy)

	r.sh("tsugi revert")
	qt.Check(t, qt.HasLen(r.loaded(), 0))
	s.until("web-1", "reverted", func(m api.Machine) bool { return m.Patch.State == api.Reverted && m.Protection == api.Unprotected })

	took := r.publishedToApplied(s, second)
	t.Logf("publish to applied on a waiting machine: %s", took)
	r.until("protected by the newer version", isHealthy)
	qt.Check(t, qt.DeepEquals(r.loaded(), []string{second.name}))
	s.until("web-1", "protected", protected)
	r.shutdown()
}

// delivery is how long a live patch took to a machine that waits for it.
type delivery struct{ whole, transition time.Duration }

func (d delivery) String() string {
	return fmt.Sprintf("%.2f s, of which %.2f s are the kernel's transition", d.whole.Seconds(), d.transition.Seconds())
}

// publishedToApplied publishes a live patch and waits until the journal of a
// machine says that it is applied.
func (r *running) publishedToApplied(s *server, a artifact) delivery {
	r.t.Helper()
	_, alive := r.do("follow", "/var/lib/tsugi/journal")
	qt.Assert(r.t, qt.IsTrue(alive))
	start := time.Now()
	lp := s.publish(a, "stable")
	for deadline := start.Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for _, rep := range r.reported() {
			if rep.Patch.ID == lp.ID && rep.Patch.State == api.Applied {
				return delivery{time.Since(start), time.Duration(rep.Transition) * time.Millisecond}
			}
		}
	}
	r.t.Fatalf("%s was not applied: %+v\nagent:\n%s", lp.ID, r.status(), r.try("cat /run/agent.log").Output)
	return delivery{}
}

// reported are the reports that the journal has told since it is followed.
func (r *running) reported() []api.Report {
	r.mu.Lock()
	notes := slices.Clone(r.notes)
	r.mu.Unlock()
	var out []api.Report
	for _, n := range notes {
		if rep := reportOf(n); rep != nil {
			out = append(out, *rep)
		}
	}
	return out
}

// reportOf is the report in a note of the journal, or nil.
func reportOf(note string) *api.Report {
	line, ok := strings.CutPrefix(note, "journal: ")
	if !ok {
		return nil
	}
	_, body, _ := strings.Cut(line, " ")
	var rec agent.Record
	if json.Unmarshal([]byte(body), &rec) != nil {
		return nil
	}
	return rec.Report
}
