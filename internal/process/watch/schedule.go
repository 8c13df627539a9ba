// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"container/heap"
	"slices"
	"time"
)

// ladder is when, after an event, a process is looked at.
func ladder(s Source) []time.Duration {
	const ms = time.Millisecond
	switch s {
	case Exec:
		// A small program has its libraries after half a millisecond, a large one
		// from a slow disk after a second.
		return []time.Duration{ms / 2, 1 * ms, 2 * ms, 4 * ms, 8 * ms, 16 * ms, 32 * ms, 64 * ms, 128 * ms, 256 * ms, 512 * ms, 1024 * ms}
	case Mapped:
		// The loader maps what it has opened at once.
		return []time.Duration{ms / 4, 1 * ms, 4 * ms, 16 * ms, 64 * ms, 256 * ms}
	default:
		// Most that are forked execute something else, or end, before that.
		return []time.Duration{20 * ms, 500 * ms}
	}
}

// Limits of what storms can cost.
const (
	tasksPerUser   = 8192
	looksPerUser   = 4                      // at a time
	looksAtAll     = 8                      // at a time
	ratePerUser    = 1000                   // looks in a second
	rateAtAll      = 4000                   // looks in a second
	burst          = 500 * time.Millisecond // for so long the rate may be doubled
	cheap          = 200 * time.Microsecond // a look that takes less and finds nothing is not counted
	nothingPending = time.Duration(1<<63 - 1)
)

// task is one process that is to be looked at.
type task struct {
	pid     int
	uid     uint32
	source  Source
	at      time.Time // of the event
	due     time.Time
	step    int  // of the ladder
	running bool // a look is under way
	place   int  // in its user's heap, -1 when it is in none
}

// schedule decides what is looked at next. It has no clock of its own.
type schedule struct {
	tasks map[int]*task
	users map[uint32]*user
	turn  []uint32 // users in turn
	all   bucket
	looks int
	// overflow: a task was left out; only a look at all can find it.
	overflow bool
}

// user is what one user has in the schedule.
type user struct {
	waiting dues
	tasks   int
	looks   int
	rate    bucket
}

// bucket allows rate looks in a second, and some at once.
type bucket struct {
	rate  int
	spent time.Time // up to here the allowance is used
}

// ready is when the next look is allowed.
func (b *bucket) ready(now time.Time) time.Time {
	if first := now.Add(-burst); b.spent.Before(first) {
		b.spent = first
	}
	return b.spent.Add(time.Second / time.Duration(b.rate))
}

// refund takes the last take back.
func (b *bucket) refund() { b.spent = b.spent.Add(-time.Second / time.Duration(b.rate)) }

func (b *bucket) take() { b.spent = b.spent.Add(time.Second / time.Duration(b.rate)) }

func newSchedule() *schedule {
	return &schedule{tasks: map[int]*task{}, users: map[uint32]*user{}, all: bucket{rate: rateAtAll}}
}

// add notes an event of a process.
func (s *schedule) add(h happening, uid uint32) {
	t := s.tasks[h.pid]
	if t == nil {
		u := s.users[uid]
		if u == nil {
			u = &user{rate: bucket{rate: ratePerUser}}
			s.users[uid] = u
			s.turn = append(s.turn, uid)
		}
		if u.tasks >= tasksPerUser {
			s.overflow = true
			return
		}
		u.tasks++
		t = &task{pid: h.pid, uid: uid, place: -1}
		s.tasks[h.pid] = t
	}
	// The ladder begins anew. What began with an exec stays so: opening the
	// libraries is a part of it.
	source := h.what
	if t.source == Exec && source == Mapped {
		source = Exec
	}
	t.source, t.at, t.step = source, h.at, 0
	t.due = h.at.Add(ladder(h.what)[0])
	if !t.running {
		s.wait(t)
	}
}

// wait puts a task to its place among those that wait.
func (s *schedule) wait(t *task) {
	u := s.users[t.uid]
	if t.place >= 0 {
		heap.Fix(&u.waiting, t.place)
		return
	}
	heap.Push(&u.waiting, t)
}

// next gives the task whose turn it is, or how long there is nothing to do. The
// task is running then, until done.
func (s *schedule) next(now time.Time) (*task, time.Duration) {
	if s.looks >= looksAtAll {
		return nil, nothingPending // until one is done
	}
	if at := s.all.ready(now); at.After(now) {
		return nil, at.Sub(now)
	}
	pause := nothingPending
	for i, uid := range s.turn {
		u := s.users[uid]
		if len(u.waiting) == 0 || u.looks >= looksPerUser {
			continue
		}
		at := u.waiting[0].due
		if ready := u.rate.ready(now); ready.After(at) {
			at = ready
		}
		if at.After(now) {
			pause = min(pause, at.Sub(now))
			continue
		}
		t := heap.Pop(&u.waiting).(*task)
		t.running = true
		u.looks++
		s.looks++
		u.rate.take()
		s.all.take()
		s.turn = append(slices.Delete(s.turn, i, i+1), uid)
		return t, 0
	}
	return nil, pause
}

// done ends a look. When more is false the process has ended.
func (s *schedule) done(t *task, began, now time.Time, more bool) {
	u := s.users[t.uid]
	t.running = false
	u.looks--
	s.looks--
	if t.at.After(began) && t.step == 0 {
		s.wait(t) // an event came during the look: its ladder is at its beginning
		return
	}
	if !more && now.Sub(began) < cheap {
		// In a storm most have ended before their turn: they must not use up
		// what those that live need.
		u.rate.refund()
		s.all.refund()
	}
	steps := ladder(t.source)
	// Steps that a long look or a long queue has overtaken are one look.
	for more && t.step < len(steps) && !t.at.Add(steps[t.step]).After(now) {
		t.step++
	}
	if more && t.step < len(steps) {
		t.due = t.at.Add(steps[t.step])
		s.wait(t)
		return
	}
	delete(s.tasks, t.pid)
	if u.tasks--; u.tasks == 0 {
		delete(s.users, t.uid)
		s.turn = slices.DeleteFunc(s.turn, func(uid uint32) bool { return uid == t.uid })
	}
}

// dues is a heap of tasks by when they are due.
type dues []*task

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d dues) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

func (d *dues) Push(x any) {
	t := x.(*task)
	t.place = len(*d)
	*d = append(*d, t)
}

func (d *dues) Pop() any {
	last := len(*d) - 1
	t := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	t.place = -1
	return t
}
