// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
)

// BenchmarkDelivery measures a machine that waits for its server: from
// tsugictl publish to applied, less the kernel's own transition, and what the
// idle agent costs. make bench prints the figures beside what they must be.
// The machine is an emulated one where there is no KVM: on real ones the
// agent's share is a fraction of it.
func BenchmarkDelivery(b *testing.B) {
	k := testenv.Kernel(b, testenv.Demo)
	a := realPatch(b, k, 1)
	for b.Loop() {
		s := newServer(b)
		r := newMachine(b, k, s, "waiting").boot(b, nil)
		r.network()
		r.sh("tsugi enroll " + s.token("fleet", "stable"))
		r.agent()
		r.until("checked in", func(s status) bool { return s.Server != nil && s.Server.Answered > 0 })
		d := r.publishedToApplied(s, a)
		b.ReportMetric((d.whole - d.transition).Seconds(), "s/delivery")
		b.ReportMetric(d.transition.Seconds(), "s/transition")
		r.until("protected", isHealthy)

		// 60 s without anything to do: ticks of 10 ms, and resident pages.
		cost := strings.Fields(r.sh(`p=$(cat /run/agent.pid)
cut -d' ' -f14,15 /proc/$p/stat; sleep 60; cut -d' ' -f14,15 /proc/$p/stat; sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' /proc/$p/status`))
		qt.Assert(b, qt.HasLen(cost, 5))
		var n [5]float64
		for i := range n {
			v, err := strconv.Atoi(cost[i])
			qt.Assert(b, qt.IsNil(err))
			n[i] = float64(v)
		}
		b.ReportMetric((n[2]+n[3]-n[0]-n[1])/100/60*100, "%cpu-idle")
		b.ReportMetric(n[4]/1024, "MiB-rss")
		r.shutdown()
	}
}
