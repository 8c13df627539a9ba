// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

func TestRounds(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_000_000, 0)
	now := start
	r := newRounds(now)
	begins := func(wantWait time.Duration) {
		t.Helper()
		due, wait := r.begin(now)
		qt.Check(t, qt.Equals(due, wantWait == 0), qt.Commentf("after %s", now.Sub(start)))
		if wantWait != 0 {
			qt.Check(t, qt.Equals(wait, wantWait), qt.Commentf("after %s", now.Sub(start)))
		}
	}
	takes := func(d time.Duration) {
		began := now
		now = now.Add(d)
		r.ended(began, now, time.Minute)
	}

	begins(0)
	begins(nothingPending) // never two at a time
	takes(10 * time.Millisecond)
	begins(time.Second) // what was about to load its libraries is looked at once more
	now = now.Add(time.Second)
	begins(0)
	takes(10 * time.Millisecond)
	begins(time.Minute)
	r.soon()
	begins(time.Second)
	now = now.Add(time.Second)
	begins(0)
	r.soon() // missed while it is under way: one more, and not two
	takes(time.Second)
	begins(10 * time.Second)
	now = now.Add(10 * time.Second)
	begins(0)
	takes(10 * time.Second)
	begins(100 * time.Second) // no more than a tenth of the time
	qt.Check(t, qt.Equals(r.number, 5))
}
