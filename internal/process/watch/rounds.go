// SPDX-License-Identifier: Apache-2.0

package watch

import "time"

// rounds decides when all processes are looked at: every now and then, sooner
// when something was missed, and never twice at a time. It has no clock of its
// own.
type rounds struct {
	number   int // of the one under way, or else of the last
	running  bool
	next     time.Time
	lastEnd  time.Time
	lastTook time.Duration
	// missed: something was missed while one was under way. At the first one it is
	// what began before us and has not loaded its libraries yet.
	missed bool
}

func newRounds(now time.Time) *rounds { return &rounds{number: 1, next: now, missed: true} }

// begin tells whether one begins now, and if none does how long it is until the
// next; while one is under way, nothing is pending.
func (r *rounds) begin(now time.Time) (bool, time.Duration) {
	if r.running {
		return false, nothingPending
	}
	if wait := r.next.Sub(now); wait > 0 {
		return false, wait
	}
	r.running = true
	r.number++
	return true, nothingPending
}

// soon brings the next one forward, but they are not made all the time.
func (r *rounds) soon() {
	r.missed = r.running
	if at := r.lastEnd.Add(max(time.Second, 10*r.lastTook)); at.Before(r.next) {
		r.next = at
	}
}

// ended says when the one under way began and ended, and how often they are made
// when nothing happens. They take a tenth of the time at the most.
func (r *rounds) ended(began, now time.Time, interval time.Duration) {
	r.running = false
	r.lastEnd, r.lastTook = now, now.Sub(began)
	r.next = now.Add(max(interval, 10*r.lastTook))
	if r.missed {
		r.soon()
	}
}
