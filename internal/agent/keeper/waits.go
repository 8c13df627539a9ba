// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// A process that is busy is tried again, less and less often: every try stops it,
// if only for moments.
const (
	firstWait = 2 * time.Second
	mostWait  = 5 * time.Minute
	// mostWaitOut is for what is to be taken out.
	mostWaitOut = 30 * time.Second
)

// waits are the processes that were busy, and when each is tried again. It ends
// for a process when that runs another program, or maps other files of the live
// patch, and for all when what is kept changes. A nil one holds nobody back.
type waits struct {
	mu sync.Mutex
	of map[waiting]wait
}

type waiting struct {
	id    proc.ID
	patch string
}

type wait struct {
	rows        []Process // as it stood after the last try
	since, next time.Time
	tries       int
}

// reset lets all be tried.
func (w *waits) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of = nil
}

// told lets processes be tried of which there is news.
func (w *waits) told(pids []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.of {
		if slices.Contains(pids, k.id.PID) {
			delete(w.of, k)
		}
	}
}

// hold has those of wants left out whose time has not come.
func (w *waits) hold(want []Want, now time.Time) []Want {
	if w == nil {
		return want
	}
	want = slices.Clone(want)
	for i := range want {
		patch := want[i].Patch
		want[i].held = func(f proc.Finding) []Process {
			w.mu.Lock()
			defer w.mu.Unlock()
			one, ok := w.of[waiting{f.ID, patch}]
			if !ok || !now.Before(one.next) || !one.same(f) {
				return nil
			}
			return one.rows
		}
	}
	return want
}

// same reports whether a process is as it was at the last try.
func (w wait) same(f proc.Finding) bool {
	for _, r := range w.rows {
		if r.program != f.Program || !slices.Contains(f.BuildIDs, r.BuildID) {
			return false
		}
	}
	return true
}

// note takes what a pass has brought, and fills in since when processes wait and
// when they are tried again. all: those that are not among them wait no more.
func (w *waits) note(ps []Process, want []Want, now time.Time, all bool) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	rows := map[waiting][]Process{}
	for _, p := range ps {
		if k := (waiting{p.id(), p.Patch}); p.Standing == Pending {
			rows[k] = append(rows[k], p)
		} else if !all {
			delete(w.of, k)
		}
	}
	old := w.of
	if w.of == nil || all {
		w.of = map[waiting]wait{}
	}
	for k, rs := range rows {
		one := old[k]
		if !rs[0].held { // it was tried
			if one.rows == nil || one.rows[0].program != rs[0].program {
				one = wait{since: now}
			}
			most := mostWait
			if slices.ContainsFunc(want, func(w Want) bool { return w.Out && w.Patch == k.patch }) {
				most = mostWaitOut
			}
			one.next = now.Add(backoff(one.tries, most))
			one.tries++
			one.rows = slices.Clone(rs)
			for i := range one.rows {
				one.rows[i].held, one.rows[i].Since, one.rows[i].Next = true, one.since.UnixMilli(), one.next.UnixMilli()
			}
		}
		w.of[k] = one
	}
	for i := range ps {
		if one, ok := w.of[waiting{ps[i].id(), ps[i].Patch}]; ok && ps[i].Standing == Pending {
			ps[i].Since, ps[i].Next = one.since.UnixMilli(), one.next.UnixMilli()
		}
	}
}

// next is when the first of them is to be tried again; zero: none waits.
func (w *waits) next() (first time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.of {
		if first.IsZero() || one.next.Before(first) {
			first = one.next
		}
	}
	return first
}

// backoff is how long to wait after so many tries before: not for all at once.
func backoff(tries int, most time.Duration) time.Duration {
	d := min(firstWait<<min(tries, 16), most)
	return d - d/4 + rand.N(d/4+1)
}
