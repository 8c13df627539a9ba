// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/test/guest/inside"
)

// rings: workers of io_uring are threads of the kernel's in the list of a
// program's own. What they do goes on as if nothing had been.
func rings(t *testing.T, m *machine) {
	p := m.start(t, "ring", nil)
	qt.Assert(t, qt.Equals(p.do("call poll 20"), 0))
	qt.Assert(t, qt.Equals(p.do("call nop 10"), 10))
	qt.Assert(t, qt.Equals(p.do("call hold 3"), 3))
	qt.Assert(t, qt.Equals(p.do("call load 0"), 0))
	polls, workers := 0, 0
	for _, th := range m.ask(t, inside.Request{Do: "threads", Name: p.name}).Threads {
		if strings.HasPrefix(th.Name, "iou-sqp-") {
			polls++
		}
		if strings.HasPrefix(th.Name, "iou-wrk-") {
			workers++
		}
	}
	qt.Check(t, qt.Equals(polls, 1))
	qt.Check(t, qt.IsTrue(workers >= 3), qt.Commentf("%d workers", workers))
	for range 5 {
		p.roundTrip()
	}
	n := p.do("call count 0")
	qt.Check(t, qt.Equals(p.do("call nop 10"), 10))
	qt.Check(t, qt.Equals(p.do("call feed 3"), 3), qt.Commentf("a request that waited was interrupted"))
	qt.Check(t, qt.IsTrue(p.do("call count 0") > n))
	qt.Check(t, qt.Equals(p.do("call count 1"), 0), qt.Commentf("wrong results"))
	qt.Check(t, qt.Equals(p.do("call count 2"), 0), qt.Commentf("the program's own waiting was interrupted"))
}
