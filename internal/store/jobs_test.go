// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

func newJob(t testing.TB, s *Store, kind, target string) Job {
	t.Helper()
	j, err := s.CreateJob(t.Context(), Job{Kind: kind, Target: target})
	qt.Assert(t, qt.IsNil(err))
	return j
}

func TestTheLifeOfAJob(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		j, err := s.CreateJob(ctx, Job{Kind: "build", Target: "debian:x", Title: "a fix", Spec: []byte(`{}`), CreatedBy: "me"})
		qt.Assert(t, qt.IsNil(err))
		want := Job{
			ID: j.ID, Kind: "build", Target: "debian:x", Title: "a fix", Spec: []byte(`{}`), State: JobQueued,
			MaxAttempts: DefaultAttempts, Created: c.ms(), CreatedBy: "me",
		}
		qt.Assert(t, qt.DeepEquals(j, want))
		none, err := s.LeaseJob(ctx, "w1", []string{"prove"}, c.in(time.Minute))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(none))
		c.pass(time.Second)
		got, err := s.LeaseJob(ctx, "w1", []string{"prove", "build"}, c.in(time.Minute))
		qt.Assert(t, qt.IsNil(err))
		want.State, want.Worker, want.Attempt, want.Started, want.LeasedUntil = JobRunning, "w1", 1, c.ms(), c.in(time.Minute)
		qt.Assert(t, qt.DeepEquals(*got, want))
		none, err = s.LeaseJob(ctx, "w2", []string{"build"}, c.in(time.Minute))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(none))

		c.pass(50 * time.Second)
		cancel, err := s.Heartbeat(ctx, j.ID, "w1", c.in(time.Minute))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsFalse(cancel))
		c.pass(50 * time.Second)
		none, err = s.LeaseJob(ctx, "w2", []string{"build"}, c.in(time.Minute))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(none))
		_, err = s.Heartbeat(ctx, j.ID, "w2", c.in(time.Minute))
		qt.Check(t, qt.ErrorIs(err, ErrLost))
		_, err = s.Heartbeat(ctx, "none", "w1", c.in(time.Minute))
		qt.Check(t, qt.ErrorIs(err, ErrLost))
		qt.Assert(t, qt.IsNil(s.SetStage(ctx, j.ID, "w1", "compiling")))
		qt.Check(t, qt.ErrorIs(s.SetStage(ctx, j.ID, "w2", "x"), ErrLost))
		qt.Check(t, qt.ErrorIs(s.FinishJob(ctx, j.ID, "w2", JobResult{State: JobDone}), ErrLost))
		qt.Check(t, qt.IsNotNil(s.FinishJob(ctx, j.ID, "w1", JobResult{State: JobRunning})))
		result := JobResult{State: JobDone, Verdict: "live", Problem: []byte(`{"code":"TS1"}`), Patch: "p-v1", Artifact: "abc"}
		qt.Assert(t, qt.IsNil(s.FinishJob(ctx, j.ID, "w1", result)))
		qt.Check(t, qt.IsNil(s.FinishJob(ctx, j.ID, "w1", result))) // the first answer was lost
		qt.Check(t, qt.ErrorIs(s.FinishJob(ctx, j.ID, "w1", JobResult{State: JobFailed}), ErrLost))
		want.State, want.Stage, want.Ended, want.LeasedUntil = JobDone, "compiling", c.ms(), 0
		want.Verdict, want.Problem, want.Patch, want.Artifact = "live", result.Problem, "p-v1", "abc"
		stored, err := s.Job(ctx, j.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(stored, want))
		_, err = s.Job(ctx, "none")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		_, err = s.Heartbeat(ctx, j.ID, "w1", c.in(time.Minute))
		qt.Check(t, qt.ErrorIs(err, ErrLost))
		qt.Check(t, qt.ErrorIs(s.CancelJob(ctx, j.ID), ErrConflict))
		qt.Check(t, qt.ErrorIs(s.CancelJob(ctx, "none"), ErrNotFound))
	})
}

func TestAJobThatLosesItsWorkers(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		j := newJob(t, s, "build", "x")
		for attempt := 1; attempt <= DefaultAttempts; attempt++ {
			got, err := s.LeaseJob(ctx, fmt.Sprintf("w%d", attempt), []string{"build"}, c.in(time.Minute))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNotNil(got))
			qt.Check(t, qt.Equals(got.Attempt, attempt))
			c.pass(time.Minute)
			if attempt == 1 { // nobody else has it yet: its worker may go on
				_, err := s.Heartbeat(ctx, j.ID, "w1", c.in(time.Second))
				qt.Check(t, qt.IsNil(err))
				c.pass(time.Second)
			}
		}
		got, err := s.LeaseJob(ctx, "w", []string{"build"}, c.in(time.Minute))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(got))
		end, err := s.Job(ctx, j.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(end.State, JobFailed))
		qt.Check(t, qt.Equals(end.Ended, c.ms()))
		var p code.Problem
		qt.Assert(t, qt.IsNil(json.Unmarshal(end.Problem, &p)))
		qt.Check(t, qt.Equals(p.Code, "TS7409"))
		_, err = s.Heartbeat(ctx, j.ID, "w3", c.in(time.Minute))
		qt.Check(t, qt.ErrorIs(err, ErrLost))
	})
}

func TestAJobIsGivenBack(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		j := newJob(t, s, "build", "x")
		for range DefaultAttempts + 2 { // that is no attempt
			got, err := s.LeaseJob(ctx, "w", []string{"build"}, c.in(time.Minute))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNotNil(got))
			qt.Check(t, qt.Equals(got.Attempt, 1))
			qt.Check(t, qt.ErrorIs(s.ReleaseJob(ctx, j.ID, "other"), ErrLost))
			qt.Assert(t, qt.IsNil(s.ReleaseJob(ctx, j.ID, "w")))
		}
	})
}

func TestCancelling(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		waits, runs, lost := newJob(t, s, "a", "x"), newJob(t, s, "b", "x"), newJob(t, s, "c", "x")
		for _, kind := range []string{"b", "c"} {
			_, err := s.LeaseJob(ctx, "w", []string{kind}, c.in(time.Minute))
			qt.Assert(t, qt.IsNil(err))
		}
		for _, j := range []Job{waits, runs, lost} {
			qt.Assert(t, qt.IsNil(s.CancelJob(ctx, j.ID)))
		}
		state := func(j Job) JobState {
			j, err := s.Job(ctx, j.ID)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsTrue(j.Cancel))
			return j.State
		}
		qt.Check(t, qt.Equals(state(waits), JobCancelled))
		qt.Check(t, qt.Equals(state(runs), JobRunning))
		cancel, err := s.Heartbeat(ctx, runs.ID, "w", c.in(2*time.Minute))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(cancel))
		qt.Check(t, qt.IsNil(s.CancelJob(ctx, runs.ID))) // once more is as good as once
		c.pass(time.Minute)
		qt.Assert(t, qt.IsNil(s.SweepJobs(ctx)))
		qt.Check(t, qt.Equals(state(lost), JobCancelled)) // its worker is gone
		qt.Check(t, qt.Equals(state(runs), JobRunning))
		qt.Assert(t, qt.IsNil(s.FinishJob(ctx, runs.ID, "w", JobResult{State: JobCancelled})))
		qt.Check(t, qt.Equals(state(runs), JobCancelled))
		n, err := s.CountJobs(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(n, map[JobState]int{JobCancelled: 3}))
	})
}

func TestJobsBehindManyOthers(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		// More jobs that are to be given up than LeaseJob looks at in one go.
		for range 130 {
			j := newJob(t, s, "a", "x")
			got, err := s.LeaseJob(ctx, "w", []string{"a"}, c.in(time.Minute))
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(got.ID, j.ID))
			qt.Assert(t, qt.IsNil(s.CancelJob(ctx, j.ID)))
		}
		last := newJob(t, s, "a", "x")
		c.pass(time.Minute)
		got, err := s.LeaseJob(ctx, "w", []string{"a"}, c.in(time.Minute))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNotNil(got))
		qt.Check(t, qt.Equals(got.ID, last.ID))
	})
}

func TestNoJobIsClaimedTwice(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		const jobs = 120
		for range jobs {
			newJob(t, s, "build", "x")
		}
		until := c.in(time.Hour)
		var wg sync.WaitGroup
		var mu sync.Mutex
		claimed := map[string]int{}
		for w := range 8 {
			wg.Go(func() {
				for {
					j, err := s.LeaseJob(t.Context(), fmt.Sprintf("w%d", w), []string{"build"}, until)
					if err != nil {
						t.Errorf("worker %d: %v", w, err)
						return
					}
					if j == nil {
						return
					}
					mu.Lock()
					claimed[j.ID]++
					mu.Unlock()
					if err := s.FinishJob(t.Context(), j.ID, j.Worker, JobResult{State: JobDone}); err != nil {
						t.Errorf("worker %d: %v", w, err)
					}
				}
			})
		}
		wg.Wait()
		qt.Check(t, qt.HasLen(claimed, jobs))
		for id, n := range claimed {
			qt.Check(t, qt.Equals(n, 1), qt.Commentf("%s", id))
		}
		n, err := s.CountJobs(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(n, map[JobState]int{JobDone: jobs}))
	})
}

func TestJobLists(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		a, b, d := newJob(t, s, "build", "x"), newJob(t, s, "build", "y"), newJob(t, s, "build", "x")
		_, err := s.LeaseJob(ctx, "w", []string{"build"}, c.in(time.Minute)) // the oldest
		qt.Assert(t, qt.IsNil(err))
		for _, q := range []struct {
			f    JobFilter
			want []string
		}{
			{JobFilter{}, []string{d.ID, b.ID, a.ID}},
			{JobFilter{State: JobQueued}, []string{d.ID, b.ID}},
			{JobFilter{State: JobRunning}, []string{a.ID}},
			{JobFilter{Target: "x"}, []string{d.ID, a.ID}},
			{JobFilter{Limit: 1}, []string{d.ID}},
			{JobFilter{Limit: 1, Before: d.ID}, []string{b.ID}},
		} {
			found, err := s.Jobs(ctx, q.f)
			qt.Assert(t, qt.IsNil(err))
			ids := []string{}
			for _, j := range found {
				ids = append(ids, j.ID)
			}
			qt.Check(t, qt.DeepEquals(ids, q.want), qt.Commentf("%+v", q.f))
		}
	})
}

func TestLogs(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		j, other := newJob(t, s, "build", "x"), newJob(t, s, "build", "x")
		add := func(attempt, seq int, text string) {
			t.Helper()
			qt.Assert(t, qt.IsNil(s.AppendLog(ctx, j.ID, attempt, seq, text)))
		}
		add(1, 1, "b")
		add(1, 0, "a")
		add(2, 0, "c")
		add(1, 1, "again") // a repetition
		qt.Assert(t, qt.IsNil(s.AppendLog(ctx, other.ID, 1, 0, "other")))
		lines, err := s.Log(ctx, j.ID, 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(lines, []LogLine{
			{Position: 1<<32 + 1, Attempt: 1, Seq: 0, Time: c.ms(), Text: "a"},
			{Position: 1<<32 + 2, Attempt: 1, Seq: 1, Time: c.ms(), Text: "b"},
			{Position: 2<<32 + 1, Attempt: 2, Seq: 0, Time: c.ms(), Text: "c"},
		}))
		lines, err = s.Log(ctx, j.ID, lines[1].Position)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(lines, 1))
		qt.Check(t, qt.ErrorIs(s.AppendLog(ctx, "none", 1, 0, "x"), ErrNotFound))
	})
}
