// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// The agent is killed while it works, the server goes away and comes back, the
// machine is decommissioned: each ends in a clear state, every command answers
// in bounded time, and no report is lost.
func TestKilledAgentGoneServerLostCredential(t *testing.T) {
	testenv.Long(t, "minutes of faults, each of which the agent's own tests have as well")
	k := testenv.Kernel(t, testenv.Demo)
	first, second := realPatch(t, k, 1), realPatch(t, k, 2)
	s := newServer(t)
	word := s.token("fleet", "stable")
	m := newMachine(t, k, s, "web-2")
	r := m.boot(t, nil)
	r.network()

	// A token that was revoked is told apart from one that never was.
	revoked := ctl[api.TokenMade](s, "token", "new", "old", "--tier", "stable")
	s.run(buildTsugictl, nil, "token", "revoke", revoked.ID)
	e := r.try("tsugi enroll " + revoked.Enroll)
	qt.Check(t, qt.Not(qt.Equals(e.Exit, 0)))
	qt.Check(t, qt.StringContains(e.Output, "revoked"))
	r.sh("tsugi enroll " + word)

	// SIGKILL at the beginning of the transition: the next run takes it up.
	lp := s.publish(first, "stable")
	r.sh(`tsugi agent >>/run/agent.log 2>&1 & agent=$!
i=0; while ! grep -q '"transitioning"' /var/lib/tsugi/journal; do i=$((i+1)); [ $i -lt 1000 ] || exit 1; usleep 20000; done
kill -9 $agent; wait $agent; [ $? = 137 ]`)
	r.agent()
	got := r.until("protected", isHealthy)
	qt.Check(t, qt.Equals(got.Applied.ID, lp.ID))
	s.until("web-2", "protected", protected)

	// Two agents at once: the second one says so and does nothing.
	e = r.try("tsugi agent")
	qt.Check(t, qt.Not(qt.Equals(e.Exit, 0)))
	qt.Check(t, qt.StringContains(e.Output, "TS9408"))

	// The server is killed. What happens meanwhile is reported later.
	s.kill()
	start := time.Now()
	r.sh("tsugi status; tsugi cves; tsugi check; tsugi config")
	qt.Check(t, qt.IsTrue(time.Since(start) < 30*time.Second))
	e = r.try("tsugi refresh")
	qt.Check(t, qt.Not(qt.Equals(e.Exit, 0)))
	r.sh("tsugi revert")
	qt.Check(t, qt.HasLen(r.loaded(), 0))
	gone := r.status()
	qt.Check(t, qt.IsTrue(gone.Waiting > 0), qt.Commentf("%+v", gone))
	r.sh("kill -9 $(cat /run/agent.pid); sleep 0.2")
	s.start()
	r.agent()
	r.until("through with its reports", func(s status) bool { return s.Waiting == 0 })
	s.until("web-2", "reverted", func(m api.Machine) bool { return m.Patch.State == api.Reverted })

	// Decommissioned: the agent knows it, keeps what is loaded, and takes nothing new.
	s.run(buildTsugictl, nil, "machine", "rm", s.machine("web-2").ID)
	s.publish(second, "stable")
	r.until("told that it is gone", func(s status) bool {
		return slices.ContainsFunc(s.Problems, func(p code.Problem) bool { return p.Code == "TS7623" })
	})
	qt.Check(t, qt.HasLen(r.loaded(), 0))
	// It comes back as a new machine.
	r.sh("tsugi enroll " + word)
	r.until("protected again", isHealthy)
	qt.Check(t, qt.DeepEquals(r.loaded(), []string{second.name}))
	r.shutdown()
}
