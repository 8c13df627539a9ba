// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Limit is how long one look into a process may take before the process counts
// as one that does not answer. A context with an earlier deadline ends it
// earlier.
const Limit = 2 * time.Second

// silentPerUser is how many processes of one user may leave us a sleeping
// thread each. It keeps one user's dead file system, or malice, from eating the
// threads of this process; the number of users is bounded by silentAtAll.
const (
	silentPerUser = 32
	silentAtAll   = 1024
)

// silence remembers the processes that have not answered: a thread of ours
// sleeps in the kernel for each of them, which is why it belongs to this
// process as a whole and not to one value.
var silence = silences{by: map[ID]uint32{}, users: map[uint32]int{}}

// fileSilence is that for looks at files by their paths: a file system that does
// not answer says nothing against the memory of the process that sees it.
var fileSilence = silences{by: map[ID]uint32{}, users: map[uint32]int{}}

type silences struct {
	mu    sync.Mutex
	by    map[ID]uint32 // and whose they are
	users map[uint32]int
}

// refuse tells why a process must not be asked now, or "".
func (s *silences) refuse(id ID, uid uint32) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.by[id]; ok {
		return "it has not answered an earlier question yet"
	}
	if n := s.users[uid]; n >= silentPerUser {
		return fmt.Sprintf("%d other processes of user %d have not answered yet", n, uid)
	}
	if len(s.by) >= silentAtAll {
		return fmt.Sprintf("%d other processes have not answered yet", len(s.by))
	}
	return ""
}

func (s *silences) begin(id ID, uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.by[id]; !ok {
		s.by[id] = uid
		s.users[uid]++
	}
}

func (s *silences) end(id ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if uid, ok := s.by[id]; ok {
		delete(s.by, id)
		if s.users[uid]--; s.users[uid] == 0 {
			delete(s.users, uid)
		}
	}
}

// Answered waits until all that the process was asked, and was given up on, is
// over. A write that was given up may come at any time before that: whoever must
// know that it does not, waits here. It is TS9604 when ctx ends first.
func (p *Process) Answered(ctx context.Context) error {
	for pause := 100 * time.Microsecond; silence.has(p.id); pause = min(2*pause, 10*time.Millisecond) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return code.New("TS9604", p.id.String(), "it has not answered an earlier question yet")
		}
	}
	return nil
}

func (s *silences) has(id ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.by[id]
	return ok
}

// within runs f, which may sleep in the kernel for good, and waits for it no
// longer than ctx and Limit allow. When it gives up, f is not begun any more; or
// it goes on alone, and what it gives then is lost: f must not write to what its
// caller reads, and what it writes to the process may come late (see Answered).
func within[T any](ctx context.Context, id ID, uid uint32, f func() (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if g := guardOf(ctx); g != nil {
		return call(g, f)
	}
	return bounded(ctx, &silence, id, uid, f)
}

// bounded is within for a goroutine that nobody guards. What gets no answer is
// noted in silence.
func bounded[T any](ctx context.Context, silence *silences, id ID, uid uint32, f func() (T, error)) (T, error) {
	var none T
	if why := silence.refuse(id, uid); why != "" {
		return none, code.New("TS9604", id.String(), why)
	}
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	var over sync.Mutex
	begun, gaveUp := false, false
	go func() {
		over.Lock()
		if gaveUp { // on a machine that had no time for this
			over.Unlock()
			return
		}
		begun = true
		over.Unlock()
		v, err := f()
		over.Lock()
		defer over.Unlock()
		if gaveUp {
			silence.end(id)
		}
		done <- answer{v, err}
	}()
	timer := time.NewTimer(Limit)
	defer timer.Stop()
	var cause error
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		cause = ctx.Err()
	case <-timer.C:
	}
	over.Lock()
	defer over.Unlock()
	select {
	case a := <-done: // it has just come back
		return a.value, a.err
	default:
	}
	gaveUp = true
	if begun {
		silence.begin(id, uid)
	}
	if cause != nil {
		return none, fmt.Errorf("%s: %w", id, cause)
	}
	return none, code.New("TS9604", id.String(), fmt.Sprintf("no answer within %s", Limit))
}
