// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// world drives a schedule with a clock of its own.
type world struct {
	*schedule
	now   time.Time
	looks map[int]int           // by process
	first map[int]time.Duration // from the event to the first look
}

func newWorld() *world {
	return &world{newSchedule(), time.Unix(1000, 0), map[int]int{}, map[int]time.Duration{}}
}

// run lets time pass; each look takes that long, and gone says who has ended.
func (w *world) run(d, each time.Duration, gone func(pid int) bool) {
	for end := w.now.Add(d); w.now.Before(end); {
		t, pause := w.next(w.now)
		if t == nil {
			w.now = w.now.Add(min(pause, end.Sub(w.now)))
			continue
		}
		began := w.now
		w.now = w.now.Add(each)
		w.looks[t.pid]++
		if w.looks[t.pid] == 1 {
			w.first[t.pid] = w.now.Sub(t.at)
		}
		w.done(t, began, w.now, !gone(t.pid))
	}
}

func nobodyGone(int) bool { return false }

func TestAnExecIsLookedAtAgainAndAgain(t *testing.T) {
	w := newWorld()
	w.add(happening{Exec, 7, w.now}, 0)
	w.run(100*time.Second, 50*time.Microsecond, nobodyGone)
	qt.Check(t, qt.Equals(w.looks[7], len(ladder(Exec))))
	qt.Check(t, qt.HasLen(w.tasks, 0))
	qt.Check(t, qt.HasLen(w.users, 0))
	qt.Check(t, qt.HasLen(w.turn, 0))
}

func TestStepsThatTimeHasOvertakenAreOne(t *testing.T) {
	w := newWorld()
	w.add(happening{Exec, 7, w.now}, 0)
	w.run(100*time.Second, 100*time.Millisecond, nobodyGone)
	qt.Check(t, qt.Equals(w.looks[7], 5)) // until 100, 228, 356, 612, 1124 ms
}

func TestOneThatHasEndedIsDropped(t *testing.T) {
	w := newWorld()
	w.add(happening{Fork, 7, w.now}, 0)
	w.run(time.Second, 5*time.Microsecond, func(int) bool { return true })
	qt.Check(t, qt.Equals(w.looks[7], 1))
	qt.Check(t, qt.HasLen(w.tasks, 0))
}

func TestEventsOfOneProcessAreOneTask(t *testing.T) {
	w := newWorld()
	w.add(happening{Fork, 7, w.now}, 0)
	w.add(happening{Exec, 7, w.now}, 0)
	for range 100 {
		w.add(happening{Mapped, 7, w.now}, 0)
	}
	qt.Check(t, qt.HasLen(w.tasks, 1))
	qt.Check(t, qt.Equals(w.tasks[7].source, Exec))
	// One during the look begins the ladder anew.
	task, _ := w.next(w.now.Add(time.Millisecond))
	qt.Assert(t, qt.IsNotNil(task))
	began := w.now.Add(time.Millisecond)
	w.add(happening{Mapped, 7, began.Add(time.Microsecond)}, 0)
	w.done(task, began, began.Add(2*time.Microsecond), true)
	qt.Check(t, qt.Equals(task.step, 0))
	qt.Check(t, qt.IsTrue(task.place >= 0))
}

func TestAStormOfOneUserDoesNotDelayAnother(t *testing.T) {
	w := newWorld()
	for pid := range 20000 {
		w.add(happening{Exec, 100 + pid, w.now}, 1000)
	}
	qt.Check(t, qt.IsTrue(w.overflow)) // and found by looking at all
	qt.Check(t, qt.HasLen(w.tasks, tasksPerUser))
	w.run(100*time.Millisecond, 100*time.Microsecond, nobodyGone)
	w.add(happening{Exec, 7, w.now}, 0)
	w.run(time.Second, 100*time.Microsecond, nobodyGone)
	qt.Check(t, qt.IsTrue(w.first[7] < 2*time.Millisecond), qt.Commentf("%s", w.first[7]))
	all := 0
	for _, n := range w.looks {
		all += n
	}
	qt.Check(t, qt.IsTrue(all < 2000), qt.Commentf("%d looks in 1.1 s", all))
}

func TestThoseThatHaveEndedCostTheLivingNothing(t *testing.T) {
	w := newWorld()
	for pid := range 8000 {
		w.add(happening{Fork, 100 + pid, w.now}, 0)
	}
	w.add(happening{Exec, 7, w.now.Add(19800 * time.Microsecond)}, 0)
	w.run(time.Second, 5*time.Microsecond, func(pid int) bool { return pid != 7 })
	qt.Check(t, qt.IsTrue(w.first[7] < 100*time.Millisecond), qt.Commentf("%s", w.first[7]))
	qt.Check(t, qt.HasLen(w.tasks, 1))
}

func TestWhatHangsTakesOnlyItsUsersTurns(t *testing.T) {
	w := newWorld()
	for pid := range 100 {
		w.add(happening{Exec, 100 + pid, w.now}, 1000)
	}
	later := w.now.Add(10 * time.Millisecond)
	for range looksPerUser {
		task, _ := w.next(later)
		qt.Assert(t, qt.IsNotNil(task)) // and never done
	}
	task, _ := w.next(later)
	qt.Assert(t, qt.IsNil(task))
	w.add(happening{Exec, 7, w.now}, 0)
	task, _ = w.next(later)
	qt.Assert(t, qt.IsNotNil(task))
	qt.Check(t, qt.Equals(task.pid, 7))
}

func TestWhatIsToldGoesOutInTurn(t *testing.T) {
	var o outgoing
	for pid := range outgoingAtMost - 1 {
		if !o.push(1000, Event{ID: proc.ID{PID: 100 + pid}}) {
			t.Fatal(pid)
		}
	}
	qt.Assert(t, qt.IsTrue(o.push(0, Event{ID: proc.ID{PID: 7}})))
	qt.Assert(t, qt.IsFalse(o.push(0, Event{ID: proc.ID{PID: 8}})))
	seen := 0
	for i := range outgoingAtMost {
		e, _ := o.head()
		o.pop()
		if e.ID.PID == 7 {
			seen = i
		}
	}
	qt.Check(t, qt.Equals(seen, 1))
	_, ok := o.head()
	qt.Check(t, qt.IsFalse(ok))
	qt.Check(t, qt.Equals(o.count, 0))
}

func TestNewsIsToldOnce(t *testing.T) {
	known := told{}
	f := proc.Finding{ID: proc.ID{PID: 1, Start: 2}, Program: 3, BuildIDs: []string{"a"}}
	qt.Check(t, qt.IsTrue(known.news(f, 1)))
	qt.Check(t, qt.IsFalse(known.news(f, 1)))
	f.BuildIDs = []string{"a", "b"} // it has loaded another
	qt.Check(t, qt.IsTrue(known.news(f, 1)))
	f.BuildIDs = []string{"b"} // and given one back
	qt.Check(t, qt.IsFalse(known.news(f, 2)))
	f.Program = 4 // it runs another program
	qt.Check(t, qt.IsTrue(known.news(f, 2)))
	known.forget(2)
	qt.Check(t, qt.IsFalse(known.news(f, 3)))
	known.forget(4)
	qt.Check(t, qt.IsTrue(known.news(f, 4)))
	f.ID.Start++ // the number has gone to another process
	qt.Check(t, qt.IsTrue(known.news(f, 4)))
}

// message is one of the connector.
func message(what uint32, data ...uint32) []byte {
	le := binary.LittleEndian
	b := make([]byte, eventData+24)
	le.PutUint32(b[nlHeader:], cnIdxProc)
	le.PutUint32(b[nlHeader+4:], cnValProc)
	le.PutUint32(b[eventStart:], what)
	for i, n := range data {
		le.PutUint32(b[eventData+4*i:], n)
	}
	return b
}

func TestEventsOfTheConnectorAreRead(t *testing.T) {
	h, ok := parseEvent(message(procExec, 12, 11))
	qt.Check(t, qt.IsTrue(ok && h.what == Exec && h.pid == 11)) // the process, not its thread
	h, ok = parseEvent(message(procFork, 1, 2, 13, 13))
	qt.Check(t, qt.IsTrue(ok && h.what == Fork && h.pid == 13))
	_, ok = parseEvent(message(4, 1, 2))
	qt.Check(t, qt.IsFalse(ok))
	_, ok = parseEvent(message(procExec, 1, 2)[:eventData+8])
	qt.Check(t, qt.IsFalse(ok))
	_, ok = parseEvent(make([]byte, 200))
	qt.Check(t, qt.IsFalse(ok))
}

func FuzzConnector(f *testing.F) {
	f.Add(message(procExec, 12, 11))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, ok := parseEvent(b); ok && h.what != Exec && h.what != Fork {
			t.Fatalf("%+v", h)
		}
	})
}
