// SPDX-License-Identifier: Apache-2.0

package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/store"
)

func TestAJobIsBuiltAndPublished(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		first, second := s.submit(), s.submit()
		s.work(builds(), s.queue)
		j := s.ended(first)
		qt.Check(t, qt.Equals(j.State, api.JobDone))
		qt.Check(t, qt.Equals(j.Verdict, "live"))
		qt.Check(t, qt.Equals(j.Attempt, 1))
		qt.Check(t, qt.Equals(j.Patch, "debian-6.1.0-55-amd64-v1"))
		qt.Check(t, qt.StringContains(s.log(first), "built version 1\n"))
		// A later build replaces an earlier one.
		qt.Check(t, qt.Equals(s.ended(second).Patch, "debian-6.1.0-55-amd64-v2"))
		r, size, err := s.queue.OpenArtifact(t.Context(), second)
		qt.Assert(t, qt.IsNil(err))
		b, err := io.ReadAll(r)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(int64(len(b)), size))
		qt.Check(t, qt.IsNil(r.Close()))
		all, err := s.db.LivePatches(t.Context(), store.LivePatchFilter{})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(all, 2))
		qt.Check(t, qt.DeepEquals(all[0].Tiers, []string{"edge"}))
		qt.Check(t, qt.IsTrue(all[0].Proven))
		qt.Check(t, qt.Equals(all[0].CreatedBy, "job:"+second))
	})
}

func TestWhatHappensInAnAttemptIsTold(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		do      executor
		change  func(*api.NewJob)
		state   api.JobState
		verdict string
		code    code.Code
	}{
		{name: "a verdict of reboot is a job that is done", do: func(_ context.Context, _ *api.Lease, log *jobs.Log, _ jobs.Backend) (*jobs.Outcome, error) {
			log.Problem(code.New("TS4010", "v", "it grows"))
			return &jobs.Outcome{Verdict: "reboot", Report: []byte("{}")}, nil
		}, state: api.JobDone, verdict: "reboot"},
		{name: "a problem fails the job", do: func(context.Context, *api.Lease, *jobs.Log, jobs.Backend) (*jobs.Outcome, error) {
			return nil, fmt.Errorf("fix: %w", code.New("TS1103", "fs/x.c", "hunk 1"))
		}, state: api.JobFailed, code: "TS1103"},
		{name: "an error without a code fails the job", do: func(context.Context, *api.Lease, *jobs.Log, jobs.Backend) (*jobs.Outcome, error) {
			return nil, errors.New("out of luck")
		}, state: api.JobFailed, code: "TS7509"},
		{name: "a panic fails the job and not the worker", do: func(context.Context, *api.Lease, *jobs.Log, jobs.Backend) (*jobs.Outcome, error) {
			panic("nil map")
		}, state: api.JobFailed, code: "TS7509"},
		{name: "a proof that does not hold", do: func(_ context.Context, l *api.Lease, _ *jobs.Log, _ jobs.Backend) (*jobs.Outcome, error) {
			out, err := live(l)
			out.Proven = false
			return out, errors.Join(err, code.New("TS7506", "", ""))
		}, state: api.JobFailed, verdict: "live", code: "TS7506"},
		{name: "a worker that says proven without a proof", do: func(_ context.Context, l *api.Lease, _ *jobs.Log, _ jobs.Backend) (*jobs.Outcome, error) {
			out, err := live(l)
			out.Proof = nil
			return out, err
		}, state: api.JobFailed, verdict: "live", code: "TS7508"},
		{name: "a worker that uploads no live patch", do: func(_ context.Context, l *api.Lease, _ *jobs.Log, _ jobs.Backend) (*jobs.Outcome, error) {
			out, err := live(l)
			out.Artifact = []byte("something else")
			return out, err
		}, state: api.JobFailed, verdict: "live", code: "TS7001"},
		{name: "a build that is not to be published", do: builds(), change: func(n *api.NewJob) { n.Publish = false }, state: api.JobDone, verdict: "live"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "sqlite:"+t.TempDir()+"/db")
			change := func(*api.NewJob) {}
			if tt.change != nil {
				change = tt.change
			}
			id := s.submit(change)
			s.work(tt.do, s.queue)
			j := s.ended(id)
			qt.Check(t, qt.Equals(j.State, tt.state))
			qt.Check(t, qt.Equals(j.Verdict, tt.verdict))
			qt.Check(t, qt.Equals(j.Patch, ""))
			if tt.code != "" {
				qt.Assert(t, qt.IsNotNil(j.Problem))
				qt.Check(t, qt.Equals(j.Problem.Code, tt.code))
			}
			all, err := s.db.LivePatches(t.Context(), store.LivePatchFilter{})
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.HasLen(all, 0))
			// The worker lives on.
			s.work(builds(), s.queue)
			s.ended(s.submit())
		})
	}
}

func TestAKilledWorkersJobIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		id := s.submit()
		// A worker that never speaks again.
		l, err := s.queue.Lease(t.Context(), "killed", 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(l.Attempt, 1))
		qt.Assert(t, qt.IsNil(s.queue.AppendLog(t.Context(), id, api.JobLog{Worker: "killed", Attempt: 1, Seq: 1, Text: "first words\n"})))
		other, err := s.queue.Lease(t.Context(), "other", 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(other)) // its lease holds
		s.later(61 * time.Second)
		s.work(builds(), s.queue)
		j := s.ended(id)
		qt.Check(t, qt.Equals(j.State, api.JobDone))
		qt.Check(t, qt.Equals(j.Attempt, 2))
		log := s.log(id)
		qt.Check(t, qt.IsTrue(strings.Index(log, "first words") < strings.Index(log, "attempt 2")), qt.Commentf("%s", log))
		// It was not dead but cut off, and comes back: nothing of it counts.
		_, err = s.queue.Heartbeat(t.Context(), id, api.Heartbeat{Worker: "killed"})
		qt.Check(t, qt.Equals(code.Of(err), "TS7503"))
		err = s.queue.AppendLog(t.Context(), id, api.JobLog{Worker: "killed", Attempt: 1, Seq: 2, Text: "late\n"})
		qt.Check(t, qt.Equals(code.Of(err), "TS7503"))
		err = s.queue.PutFile(t.Context(), id, api.JobFile{Worker: "killed", Attempt: 1, Name: api.JobReport}, strings.NewReader("{}"), 2)
		qt.Check(t, qt.Equals(code.Of(err), "TS7503"))
		err = s.queue.Finish(t.Context(), id, api.JobResult{Worker: "killed", State: api.JobFailed})
		qt.Check(t, qt.Equals(code.Of(err), "TS7503"))
		qt.Check(t, qt.Equals(s.job(id).State, api.JobDone))
	})
}

func TestAttemptsComeToAnEnd(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		id := s.submit()
		for attempt := 1; attempt <= store.DefaultAttempts; attempt++ {
			l, err := s.queue.Lease(t.Context(), fmt.Sprint("w", attempt), 0)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(l.Attempt, attempt))
			s.later(2 * time.Minute)
		}
		l, err := s.queue.Lease(t.Context(), "w", 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(l))
		j := s.job(id)
		qt.Check(t, qt.Equals(j.State, api.JobFailed))
		qt.Check(t, qt.Equals(j.Problem.Code, "TS7409"))
	})
}

func TestAServerThatWasKilledTakesItsJobsUpAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite:"+t.TempDir()+"/db")
	mine, others := s.submit(), s.submit()
	for _, w := range []string{"here/1", "elsewhere/1"} {
		_, err := s.queue.Lease(t.Context(), w, 0)
		qt.Assert(t, qt.IsNil(err))
	}
	qt.Assert(t, qt.IsNil(s.queue.Expire(t.Context(), func(w string) bool { return strings.HasPrefix(w, "here/") })))
	s.work(builds(), s.queue)
	j := s.ended(mine)
	qt.Check(t, qt.Equals(j.State, api.JobDone))
	qt.Check(t, qt.Equals(j.Attempt, 2))
	qt.Check(t, qt.Equals(s.job(others).State, api.JobRunning))
}

func TestAWorkerThatStopsGivesItsJobBack(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		id := s.submit()
		begun := make(chan struct{})
		stop := s.work(executor(func(ctx context.Context, _ *api.Lease, log *jobs.Log, _ jobs.Backend) (*jobs.Outcome, error) {
			log.Printf("the first half")
			close(begun)
			<-ctx.Done()
			return nil, ctx.Err()
		}), s.queue)
		<-begun
		stop()
		j := s.job(id)
		qt.Check(t, qt.Equals(j.State, api.JobQueued))
		s.work(builds(), s.queue)
		j = s.ended(id)
		qt.Check(t, qt.Equals(j.State, api.JobDone))
		qt.Check(t, qt.Equals(j.Attempt, 1)) // the one that was given back does not count
		log := s.log(id)
		qt.Check(t, qt.StringContains(log, "the first half"))
		qt.Check(t, qt.StringContains(log, "goes back to the queue"))
		qt.Check(t, qt.StringContains(log, "built version 1"))
	})
}

func TestCancelling(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		waiting := s.submit()
		qt.Assert(t, qt.IsNil(s.queue.Cancel(t.Context(), waiting)))
		qt.Check(t, qt.Equals(s.job(waiting).State, api.JobCancelled))
		qt.Check(t, qt.Equals(code.Of(s.queue.Cancel(t.Context(), waiting)), "TS7502"))
		qt.Check(t, qt.Equals(code.Of(s.queue.Cancel(t.Context(), "nobody")), "TS7501"))

		running := s.submit()
		begun := make(chan struct{})
		s.work(executor(func(ctx context.Context, _ *api.Lease, _ *jobs.Log, _ jobs.Backend) (*jobs.Outcome, error) {
			close(begun)
			<-ctx.Done()
			return nil, ctx.Err()
		}), s.queue)
		<-begun
		qt.Assert(t, qt.IsNil(s.queue.Cancel(t.Context(), running)))
		j := s.ended(running)
		qt.Check(t, qt.Equals(j.State, api.JobCancelled))
		qt.Check(t, qt.Equals(j.Problem.Code, "TS7504"))
	})
}

func TestACancelledJobOfADeadWorker(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite:"+t.TempDir()+"/db")
	id := s.submit()
	_, err := s.queue.Lease(t.Context(), "killed", 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(s.job(id).Cancelling))
	qt.Assert(t, qt.IsNil(s.queue.Cancel(t.Context(), id)))
	j := s.job(id)
	qt.Check(t, qt.Equals(j.State, api.JobRunning)) // until its worker hears of it
	qt.Check(t, qt.IsTrue(j.Cancelling))
	s.later(time.Hour)
	l, err := s.queue.Lease(t.Context(), "other", 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(l))
	j = s.job(id)
	qt.Check(t, qt.Equals(j.State, api.JobCancelled))
	qt.Check(t, qt.IsFalse(j.Cancelling))
}

// TestPublishedOnceThoughTheServerDies stands for a server that is killed
// after it published and before it wrote that the job is done.
func TestPublishedOnceThoughTheServerDies(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		id := s.submit()
		l, err := s.queue.Lease(t.Context(), "killed", 0)
		qt.Assert(t, qt.IsNil(err))
		out, err := live(l)
		qt.Assert(t, qt.IsNil(err))
		_, err = s.publish(t.Context(), jobs.Publication{Artifact: out.Artifact, Proof: out.Proof, Report: out.Report, Job: id, Actor: "job:" + id})
		qt.Assert(t, qt.IsNil(err))
		s.later(time.Hour)
		s.work(builds(), s.queue)
		j := s.ended(id)
		qt.Check(t, qt.Equals(j.State, api.JobDone))
		qt.Check(t, qt.Equals(j.Patch, "debian-6.1.0-55-amd64-v1"))
		r, _, err := s.queue.OpenArtifact(t.Context(), id)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(r.Close()))
		all, err := s.db.LivePatches(t.Context(), store.LivePatchFilter{})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(all, 1))
	})
}

func TestAVersionThatIsTakenMeanwhile(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		var byHand atomic.Bool
		s.published = func() {
			if byHand.Swap(true) {
				return
			}
			other, err := live(&api.Lease{Version: 1, Spec: api.NewJob{Target: target, Fixes: []api.JobDiff{{ID: "by-hand", Diff: diff}}}})
			qt.Check(t, qt.IsNil(err))
			_, err = s.publish(t.Context(), jobs.Publication{Artifact: other.Artifact, Actor: "ann"})
			qt.Check(t, qt.IsNil(err))
		}
		id := s.submit()
		s.work(builds(), s.queue)
		j := s.ended(id)
		qt.Check(t, qt.Equals(j.State, api.JobDone))
		qt.Check(t, qt.Equals(j.Patch, "debian-6.1.0-55-amd64-v2"))
	})
}

// TestAFlakyNetworkLosesNothing holds that whatever call fails, before or
// after it arrived, a job ends as it should, once, with all of its log.
func TestAFlakyNetworkLosesNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		r := rand.New(rand.NewPCG(1, 2))
		b := &flaky{Backend: s.queue, fails: func(int) (bool, bool) { return r.IntN(5) == 0, r.IntN(5) == 0 }}
		s.work(executor(func(_ context.Context, l *api.Lease, log *jobs.Log, _ jobs.Backend) (*jobs.Outcome, error) {
			for i := range 200 {
				log.Printf("line %03d %s", i, strings.Repeat("x", 1000))
			}
			return live(l)
		}), b)
		for n := 1; n <= 2; n++ {
			id := s.submit()
			j := s.ended(id)
			qt.Check(t, qt.Equals(j.State, api.JobDone))
			qt.Check(t, qt.Equals(j.Attempt, 1))
			log := s.log(id)
			at := -1
			for i := range 200 {
				next := strings.Index(log, fmt.Sprintf("line %03d", i))
				qt.Assert(t, qt.IsTrue(next > at), qt.Commentf("line %d", i))
				at = next
			}
			qt.Check(t, qt.Equals(strings.Count(log, "line 000"), 1))
			all, err := s.db.LivePatches(t.Context(), store.LivePatchFilter{})
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.HasLen(all, n))
		}
	})
}

func TestManyWorkersShareTheQueue(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		var begun atomic.Int32
		var ids []string
		for range 24 {
			ids = append(ids, s.submit(func(n *api.NewJob) { n.Publish = false }))
		}
		for range 4 {
			s.work(executor(func(context.Context, *api.Lease, *jobs.Log, jobs.Backend) (*jobs.Outcome, error) {
				begun.Add(1)
				return &jobs.Outcome{Verdict: "not-affected"}, nil
			}), s.queue)
		}
		for _, id := range ids {
			qt.Check(t, qt.Equals(s.ended(id).State, api.JobDone))
		}
		qt.Check(t, qt.Equals(begun.Load(), 24))
	})
}

func TestJobsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite:"+t.TempDir()+"/db")
	tests := []struct {
		name   string
		change func(*api.NewJob)
		code   code.Code
	}{
		{"no target", func(n *api.NewJob) { n.Target = "" }, "TS2301"},
		{"a kernel of nobody", func(n *api.NewJob) { n.Target = "plan9:4" }, "TS2301"},
		{"a directory of the worker", func(n *api.NewJob) { n.Target = "tree:/etc" }, "TS7505"},
		{"no fix", func(n *api.NewJob) { n.Fixes = nil }, "TS1107"},
		{"no diff", func(n *api.NewJob) { n.Fixes[0].Diff = "hello" }, "TS1101"},
		{"a path out of the tree", func(n *api.NewJob) { n.Fixes[0].Diff = strings.ReplaceAll(diff, "fs/x.c", "../x.c") }, "TS1102"},
		{"to publish what is not proven", func(n *api.NewJob) { n.Prove = false }, "TS7505"},
		{"a name that is none", func(n *api.NewJob) { n.Name = "a b" }, "TS7505"},
		{"too long a name", func(n *api.NewJob) { n.Name = strings.Repeat("a", 46) }, "TS7505"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := api.NewJob{Target: target, Fixes: []api.JobDiff{{ID: "f", Diff: diff}}, Prove: true, Publish: true}
			tt.change(&n)
			_, err := s.queue.Submit(t.Context(), n, "ann")
			qt.Check(t, qt.Equals(code.Of(err), tt.code), qt.Commentf("%v", err))
		})
	}
}

func TestUploadsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite:"+t.TempDir()+"/db")
	id := s.submit()
	_, err := s.queue.Lease(t.Context(), "w", 0)
	qt.Assert(t, qt.IsNil(err))
	put := func(f api.JobFile, size int64) code.Code {
		return code.Of(s.queue.PutFile(t.Context(), id, f, strings.NewReader("abc"), size))
	}
	qt.Check(t, qt.Equals(put(api.JobFile{Worker: "w", Attempt: 1, Name: "../../tuf/metadata/1.root.json"}, 3), "TS7508"))
	qt.Check(t, qt.Equals(put(api.JobFile{Worker: "w", Attempt: 1, Name: api.JobReport}, 0), "TS7508"))
	qt.Check(t, qt.Equals(put(api.JobFile{Worker: "w", Attempt: 1, Name: api.JobReport}, api.MaxJobFiles+1), "TS7508"))
	qt.Check(t, qt.Equals(put(api.JobFile{Worker: "w", Attempt: 2, Name: api.JobReport}, 3), "TS7503"))
	qt.Check(t, qt.Equals(put(api.JobFile{Worker: "w", Attempt: 1, Name: api.JobReport}, 2), "TS7413")) // not what was announced
	qt.Check(t, qt.Equals(code.Of(s.queue.AppendLog(t.Context(), id, api.JobLog{Worker: "w", Attempt: 1, Seq: 0, Text: "x"})), "TS7508"))
	qt.Check(t, qt.Equals(code.Of(s.queue.AppendLog(t.Context(), id, api.JobLog{Worker: "w", Attempt: 1, Seq: 1, Text: strings.Repeat("x", api.MaxJobLog+1)})), "TS7508"))
	_, _, err = s.queue.OpenArtifact(t.Context(), id)
	qt.Check(t, qt.Equals(code.Of(err), "TS7507"))
}

func TestTheObjectCacheIsShared(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite:"+t.TempDir()+"/db")
	key := strings.Repeat("0a", 32)
	b, err := s.queue.CacheGet(t.Context(), key)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(b))
	qt.Assert(t, qt.IsNil(s.queue.CachePut(t.Context(), key, []byte("an object"))))
	b, err = s.queue.CacheGet(t.Context(), key)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(b), "an object"))
	for _, bad := range []string{"", "x", "../" + key, strings.ToUpper(key), key + "00"} {
		_, err := s.queue.CacheGet(t.Context(), bad)
		qt.Check(t, qt.Equals(code.Of(err), "TS7508"))
		qt.Check(t, qt.Equals(code.Of(s.queue.CachePut(t.Context(), bad, []byte("x"))), "TS7508"))
	}
	qt.Check(t, qt.Equals(code.Of(s.queue.CachePut(t.Context(), key, nil)), "TS7508"))
}

func TestALogThatNeverEndsIsCut(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite:"+t.TempDir()+"/db")
	long := s.submit()
	s.work(executor(func(_ context.Context, _ *api.Lease, log *jobs.Log, _ jobs.Backend) (*jobs.Outcome, error) {
		for range 6000 {
			log.Printf("%s", strings.Repeat("y", 1000))
		}
		return &jobs.Outcome{Verdict: "reboot"}, nil
	}), s.queue)
	s.ended(long)
	log := s.log(long)
	qt.Check(t, qt.IsTrue(len(log) < 5<<20), qt.Commentf("%d bytes", len(log)))
	qt.Check(t, qt.StringContains(log, "more lines are left out"))
}

func TestAJobsAuthorLivesWithRefusals(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite:"+t.TempDir()+"/db")
	accept := []string{"TS4057", "TS4010:x"}
	id := s.submit(func(n *api.NewJob) { n.Accept = accept })
	qt.Check(t, qt.DeepEquals(s.job(id).Accept, accept))
	l, err := s.queue.Lease(t.Context(), "w", 0)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(l.Spec.Accept, accept))
	_, err = s.queue.Submit(t.Context(), api.NewJob{Target: target, Fixes: l.Spec.Fixes, Accept: []string{"TS405"}}, "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7505"))
}
