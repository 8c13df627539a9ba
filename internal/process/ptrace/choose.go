// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// Which thread is borrowed: one is guessed from what all do while they run, and
// taken if it suits when it is stopped.

// rank orders the threads by how likely they suit, from what they do while
// they run.
func (l *Loan) rank() ([]int, error) {
	list, err := proc.Tasks(l.target.PID, nil)
	if err != nil {
		return nil, ended(l.target.PID, "")
	}
	type candidate struct {
		tid, rank int
		sp        uint64 // where it waits in a system call
	}
	var all []candidate
	for _, tid := range list[:min(len(list), maxRanked)] {
		if proc.TaskWorker(l.target.PID, tid) {
			continue
		}
		rank := 3
		st, _ := proc.TaskStat(l.target.PID, tid)
		in := proc.TaskCall(l.target.PID, tid)
		switch nr := in.Number; {
		case st.State == proc.Waiting, makesProcess(nr):
			rank = 9 // may not stop soon
		case nr == sysRestart:
			rank = 5
		case nr == unix.SYS_NANOSLEEP, nr == unix.SYS_CLOCK_NANOSLEEP, nr == unix.SYS_POLL:
			rank = 4
		case nr == unix.SYS_FUTEX:
			rank = 1 // has a timeout or not
		case nr >= 0:
			rank = 0
		}
		all = append(all, candidate{tid, rank, in.SP})
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.rank, b.rank) })
	if len(all) > 0 {
		l.warm(all[0].sp)
	}
	var tids []int
	for _, c := range all[:min(len(all), maxCandidates)] {
		tids = append(tids, c.tid)
	}
	return tids, nil
}

// warm makes the pages of a stack that are touched in the stop be there, as far as
// reading does, so that the stop needs not wait for them: those of the frame below
// it, and what notNested reads above. What it can't do is left to the stop.
func (l *Loan) warm(sp uint64) {
	i, ok := mappingOf(l.maps, sp)
	if !ok {
		return
	}
	m := l.maps[i]
	low, high := max(m.Start, sp-min(sp, maxFrame)), min(m.End, sp+handlerDepth)
	if l.pages.Readable(low, high-low) == high-low {
		return
	}
	_ = l.within(func() {
		var b [1]byte
		for at := low; at < high; at += pageSize {
			_, _ = l.mem.ReadAt(b[:], int64(at))
		}
	})
}

// choose stops candidates until one suits; when all have something to say
// against them it takes the one with the least.
func (l *Loan) choose(ctx context.Context, candidates []int) error {
	best, bestGrade := 0, unfit
	var why error
	for i, tid := range candidates {
		g, err := l.try(ctx, tid)
		if err != nil {
			l.letGo()
			if !retry(err) {
				return err
			}
			if why == nil || code.Of(err) != "TS9601" { // of a thread that has ended there is less to say
				why = err
			}
			continue
		}
		if g <= computing || i == len(candidates)-1 && g <= bestGrade {
			return l.setUp()
		}
		if g < bestGrade {
			best, bestGrade = tid, g
		}
		l.letGo()
	}
	if best != 0 {
		if _, err := l.try(ctx, best); err != nil {
			return err
		}
		return l.setUp()
	}
	if code.Of(why) == "TS9601" && l.lives() {
		why = code.New("TS9615", where(l.target.PID), "its threads come and go")
	}
	if why != nil {
		return why
	}
	return code.New("TS9615", where(l.target.PID), "")
}

// lives tells whether the process has a thread yet, though those that were tried
// have ended.
func (l *Loan) lives() bool {
	pid := l.target.PID
	first, ok := proc.TaskStat(pid, pid)
	if !ok || l.target.Start != 0 && first.Start != l.target.Start {
		return false
	}
	tid := proc.Living(pid)
	st, ok := proc.TaskStat(pid, tid)
	return tid != 0 && ok && !st.Killed
}

// retry tells whether another thread may be better off. After one that does not
// stop none is tried: it stays traced until the session ends.
func retry(err error) bool {
	switch code.Of(err) {
	case "TS9615", "TS9601":
		return true
	}
	return false
}

func unsuitable(tid int, why string) error {
	return code.New("TS9615", fmt.Sprintf("thread %d", tid), why)
}
