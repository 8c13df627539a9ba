// SPDX-License-Identifier: Apache-2.0

package jobs_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
)

// pushes pushes fixes named fix-N with CVEs.
func (s *site) pushes(n int) { s.pushesFor(target, n) }

func (s *site) pushesFor(target string, n int) {
	s.t.Helper()
	all := &series.Series{To: "6.1.192-1"}
	for i := range n {
		id := fmt.Sprintf("fix-%d", i+1)
		d, err := fix.Parse(id, []byte(strings.ReplaceAll(diff, "x.c", id+".c")))
		qt.Assert(s.t, qt.IsNil(err))
		all.Fixes = append(all.Fixes, &series.Fix{Meta: series.Meta{ID: id, CVEs: []string{fmt.Sprintf("CVE-2026-%d", 1001+i)}}, Diff: d})
	}
	b, err := selection.Push(target, all, nil).Bytes()
	qt.Assert(s.t, qt.IsNil(err))
	_, err = s.pub.PushUpdate(s.t.Context(), "update", false, b, "ann")
	qt.Assert(s.t, qt.IsNil(err))
}

func (s *site) excludes(policy string, cves ...string) {
	s.t.Helper()
	p := selection.Policy{Name: policy}
	for _, c := range cves {
		p.Exclusions = append(p.Exclusions, selection.Exclusion{CVE: c, Reason: "r", Owner: "ann"})
	}
	qt.Assert(s.t, qt.IsNil(s.pub.ChangePolicy(s.t.Context(), policy, "ann", func(selection.Policy, bool) (selection.Policy, string, error) {
		return p, "", nil
	})))
}

// chooses does what a server does every minute, and says how many jobs it made.
func (s *site) chooses() (made int) {
	s.t.Helper()
	wanted, err := s.pub.Choose(s.t.Context())
	qt.Assert(s.t, qt.IsNil(err))
	qt.Assert(s.t, qt.IsNil(s.queue.DropUnwanted(s.t.Context())))
	for _, w := range wanted {
		u := api.JobUpdate{Series: w.Updates, Selection: w.Selection, Again: w.Again, Policy: jobs.PolicyWire(w.Policy), At: w.At.UnixMilli(), Policies: w.Policies}
		yes, err := s.queue.SubmitUpdate(s.t.Context(), w.Target, w.Title, u, w.Pushed)
		qt.Assert(s.t, qt.IsNil(err))
		if yes {
			made++
		}
	}
	return made
}

// TestSelectionsAreBuiltSideBySide: one job for each distinct selection, each
// with a version of its own, and a live patch that is for who chose it.
func TestSelectionsAreBuiltSideBySide(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		s.pushes(3)
		for i := range 4 { // two policies for each of two selections; default is for itself
			s.excludes(fmt.Sprintf("p%d", i), fmt.Sprintf("CVE-2026-%d", 1001+i/2))
		}
		made := s.chooses()
		qt.Check(t, qt.Equals(made, 3))
		qt.Check(t, qt.Equals(s.chooses(), 0))
		for range 2 {
			s.work(selects(), s.queue)
		}
		all, err := s.queue.Jobs(t.Context(), store.JobFilter{})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(all, made))
		versions := map[int]bool{}
		policies := 0
		for _, j := range all {
			j = s.ended(j.ID)
			qt.Assert(t, qt.Equals(j.State, api.JobDone), qt.Commentf("%+v", j.Problem))
			row, err := s.db.LivePatch(t.Context(), j.Patch)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(row.Policies, j.Policies))
			qt.Check(t, qt.Equals(row.Selection, j.Selection))
			qt.Check(t, qt.DeepEquals(j.Omitted, []api.LeftFix{{ID: "fix-3", Kind: "reboot", Code: "TS5103", Why: "as a test"}}))
			versions[row.Version] = true
			policies += len(row.Policies)
		}
		qt.Check(t, qt.HasLen(versions, made))
		qt.Check(t, qt.Equals(policies, 5))
		qt.Check(t, qt.Equals(s.chooses(), 0))
	})
}

// TestAPolicyThatExcludesACVEHasItsOwnLivePatchOfAPackage: it is built, published
// proven and signed for that policy alone, as for kernels.
func TestAPolicyThatExcludesACVEHasItsOwnLivePatchOfAPackage(t *testing.T) {
	t.Parallel()
	const libx = "debian:libx1=1.0-1"
	s := newSite(t, "sqlite:"+t.TempDir()+"/db")
	s.pushesFor(libx, 3)
	s.excludes("careful", "CVE-2026-1002")
	s.excludes("same", "CVE-2026-1002")
	qt.Assert(t, qt.Equals(s.chooses(), 2))
	s.work(selects(), s.queue)
	all, err := s.queue.Jobs(t.Context(), store.JobFilter{})
	qt.Assert(t, qt.IsNil(err))
	got := map[string]string{}
	for _, j := range all {
		j = s.ended(j.ID)
		qt.Assert(t, qt.Equals(j.State, api.JobDone), qt.Commentf("%+v", j.Problem))
		row, err := s.db.LivePatch(t.Context(), j.Patch)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(row.Proven))
		qt.Check(t, qt.Equals(row.Release, ""))
		qt.Check(t, qt.DeepEquals(row.Policies, j.Policies))
		for _, p := range row.Policies {
			x, err := s.pub.Index(t.Context(), "edge", row.BuildID, p)
			qt.Assert(t, qt.IsNil(err))
			for _, e := range x.Patches {
				got[p] += fmt.Sprint(e.ID, e.CVEs)
			}
		}
	}
	id := func(policy string) string { return strings.SplitN(got[policy], "[", 2)[0] }
	qt.Check(t, qt.Equals(got["same"], got["careful"]))
	qt.Check(t, qt.Not(qt.Equals(id("default"), id("careful"))))
	qt.Check(t, qt.Equals(got["default"], id("default")+"[CVE-2026-1001 CVE-2026-1002 CVE-2026-1003]"))
	qt.Check(t, qt.Equals(got["careful"], id("careful")+"[CVE-2026-1001 CVE-2026-1003]"))
	qt.Check(t, qt.Equals(s.chooses(), 0))
}

// selects is an executor that makes the live patch of a choice as far as a
// server can tell.
func selects() executor {
	return func(ctx context.Context, l *api.Lease, log *jobs.Log, b jobs.Backend) (*jobs.Outcome, error) {
		text, err := b.Series(ctx, l.Update.Series[0])
		if err != nil {
			return nil, err
		}
		_, s, facts, err := selection.ReadPushed(text)
		if err != nil {
			return nil, err
		}
		sel := selection.Choose(s, jobs.PolicyOf(l.Update.Policy), facts, time.UnixMilli(l.Update.At))
		if key := selection.Key(sel.Sharing(), l.Update.Again); key != l.Update.Selection {
			return nil, fmt.Errorf("another choice: %s", key)
		}
		l.Spec.Fixes = nil
		for _, f := range sel.Fixes {
			l.Spec.Fixes = append(l.Spec.Fixes, api.JobDiff{ID: f.ID, CVEs: f.CVEs, Diff: string(f.Diff.Raw)})
		}
		out, err := live(l)
		if err == nil {
			out.Omitted = []api.LeftFix{{ID: "fix-3", Kind: "reboot", Code: "TS5103", Why: "as a test"}}
		}
		return out, err
	}
}

func TestAJobOfASelectionIsMadeOnceAndAgainWhenThereIsReason(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		s.pushes(2)
		qt.Assert(t, qt.Equals(s.chooses(), 1))
		stop := s.work(executor(func(context.Context, *api.Lease, *jobs.Log, jobs.Backend) (*jobs.Outcome, error) {
			return nil, code.New("TS3101", "fs/x.c", "as a test")
		}), s.queue)
		all, err := s.queue.Jobs(t.Context(), store.JobFilter{})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(s.ended(all[0].ID).State, api.JobFailed))
		stop()
		s.later(time.Minute)
		qt.Check(t, qt.Equals(s.chooses(), 0)) // the same would fail again
		s.later(time.Minute)
		s.pushes(2)
		qt.Check(t, qt.Equals(s.chooses(), 1)) // unless somebody says so
		s.later(time.Minute)
		s.excludes("default", "CVE-2026-1001")
		qt.Check(t, qt.Equals(s.chooses(), 1))
		queued := func() (out []string) {
			all, err := s.queue.Jobs(t.Context(), store.JobFilter{State: store.JobQueued})
			qt.Assert(t, qt.IsNil(err))
			for _, j := range all {
				out = append(out, j.Title)
			}
			return out
		}
		qt.Check(t, qt.DeepEquals(queued(), []string{"1 fix for policy default"})) // what nobody chooses any more is not built
		s.later(time.Minute)
		s.excludes("default")
		qt.Check(t, qt.Equals(s.chooses(), 1)) // it was not a person who cancelled it
		qt.Check(t, qt.DeepEquals(queued(), []string{"2 fixes for policy default"}))
	})
}

func TestAWorkerThatChoosesOtherwiseBuildsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, "sqlite:"+t.TempDir()+"/db")
	s.pushes(2)
	updates, err := s.db.Updates(t.Context(), target)
	qt.Assert(t, qt.IsNil(err))
	p, err := jobs.NewPipeline(jobs.PipelineOptions{Home: t.TempDir()})
	qt.Assert(t, qt.IsNil(err))
	for name, c := range map[string]struct {
		update api.JobUpdate
		target string
		code   code.Code
	}{
		"another choice": {api.JobUpdate{Series: []string{updates[0].Digest}, Selection: strings.Repeat("ab", 32)}, target, "TS7907"},
		"another target": {api.JobUpdate{Series: []string{updates[0].Digest}}, "debian:6.1.0-54-amd64", "TS7901"},
		"no series":      {api.JobUpdate{}, target, "TS7901"},
		"no digest":      {api.JobUpdate{Series: []string{"../../x"}}, target, "TS7904"},
	} {
		l := &api.Lease{Spec: api.NewJob{Target: c.target}, Update: &c.update}
		_, err := p.Execute(t.Context(), l, nil, s.queue)
		qt.Check(t, qt.Equals(code.Of(err), c.code), qt.Commentf("%s: %v", name, err))
	}
}

func TestAPolicyTravelsWhole(t *testing.T) {
	t.Parallel()
	p := selection.Policy{
		Name: "db", Description: "d", MinSeverity: series.High, Scope: selection.All, SwapUnused: true, Extra: []string{"own"},
		Exclusions: []selection.Exclusion{
			{CVE: "CVE-2026-1001", Reason: "r", Owner: "o", Expires: time.UnixMilli(1_800_000_000_000).UTC()},
			{Fix: "a", Reason: "r", Owner: "o"},
		},
	}
	qt.Check(t, qt.DeepEquals(jobs.PolicyOf(jobs.PolicyWire(p)), p))
	qt.Check(t, qt.IsTrue(slices.Equal(p.Extra, jobs.PolicyWire(p).Extra)))
}

// Servers that look at the same time make one job of a choice.
func TestServersThatChooseAtOnceMakeOneJob(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		s.pushes(2)
		wanted, err := s.pub.Choose(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(wanted, 1))
		w := wanted[0]
		u := api.JobUpdate{Series: w.Updates, Selection: w.Selection, Policy: jobs.PolicyWire(w.Policy), At: w.At.UnixMilli(), Policies: w.Policies}
		var made atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				yes, err := s.queue.SubmitUpdate(t.Context(), w.Target, w.Title, u, w.Pushed)
				if err != nil {
					t.Errorf("submit: %v", err)
				}
				if yes {
					made.Add(1)
				}
			})
		}
		wg.Wait()
		qt.Check(t, qt.Equals(made.Load(), 1))
		all, err := s.queue.Jobs(t.Context(), store.JobFilter{})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(all, 1))
	})
}

// TestAJobOfAPackageLooksForItsKernelFirst: a worker that has none and can't
// fetch one says so before it prepares a package for minutes.
func TestAJobOfAPackageLooksForItsKernelFirst(t *testing.T) {
	bin := t.TempDir()
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(bin, "apt-get"), []byte("#!/bin/sh\necho 'E: no network here' >&2; exit 100\n"), 0o755)))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	p, err := jobs.NewPipeline(jobs.PipelineOptions{Home: t.TempDir(), Builder: "tsugi test"})
	qt.Assert(t, qt.IsNil(err))
	s := newSite(t, "sqlite:"+filepath.Join(t.TempDir(), "db"))
	id := s.submit(func(n *api.NewJob) { n.Target = "debian:libx1=1.0-1" })
	s.work(p, s.queue)
	j := s.ended(id)
	qt.Assert(t, qt.Equals(j.State, api.JobFailed))
	qt.Check(t, qt.Equals(j.Problem.Code, "TS6123"))
	qt.Check(t, qt.StringContains(s.log(id), "no network here"))
	qt.Check(t, qt.Not(qt.StringContains(s.log(id), "is prepared")))
}
