// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/go-quicktest/qt"
)

// within runs f and fails the test on its error.
func within(t testing.TB, s *Store, f func(context.Context, *Tx) error) {
	t.Helper()
	qt.Assert(t, qt.IsNil(s.Update(t.Context(), func(tx *Tx) error { return f(t.Context(), tx) })))
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		_, err := s.Policy(ctx, "web")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		last, err := s.LastChange(ctx)
		qt.Assert(t, qt.IsNil(err))
		within(t, s, func(ctx context.Context, tx *Tx) error { return tx.SavePolicy(ctx, "web", []byte(`{"a":1}`), "ann") })
		news, err := s.Changes(ctx, last)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(news, []Change{{Seq: last + 1, Kind: KindPolicy, ID: "web"}}))
		first := c.ms()
		c.pass(time.Second)
		within(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.SetPolicyGroup(ctx, "g", "web"); err != nil {
				return err
			}
			return tx.SavePolicy(ctx, "web", []byte(`{"a":2}`), "bob")
		})
		all, err := s.Policies(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(all, []Policy{{Name: "web", Body: []byte(`{"a":2}`), Created: first, Changed: c.ms(), ChangedBy: "bob"}}))
		groups, err := s.PolicyGroups(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(groups, map[string]string{"g": "web"}))
		within(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.SaveChoice(ctx, Choice{Policy: "web", Target: "x", Selection: "s1", Body: []byte("{}"), Changed: 1}); err != nil {
				return err
			}
			return tx.SaveChoice(ctx, Choice{Policy: "default", Target: "x", Selection: "s1", Body: []byte("{}"), Changed: 1})
		})
		of, err := s.ChoosersOf(ctx, "x", "s1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(of, []string{"default", "web"}))
		within(t, s, func(ctx context.Context, tx *Tx) error {
			if err := tx.SetPolicyGroup(ctx, "g", ""); err != nil {
				return err
			}
			return tx.DeletePolicy(ctx, "web")
		})
		choices, err := s.Choices(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(choices, []Choice{{Policy: "default", Target: "x", Selection: "s1", Body: []byte("{}"), Changed: 1}}))
		err = s.Update(ctx, func(tx *Tx) error { return tx.DeletePolicy(ctx, "web") })
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
	})
}

func TestUpdatesKeepTheirPlace(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		push := func(target, name, digest string) {
			within(t, s, func(ctx context.Context, tx *Tx) error {
				return tx.SaveUpdate(ctx, Update{Target: target, Name: name, Digest: digest, Size: 3, Summary: []byte("{}"), CreatedBy: "ann"})
			})
		}
		push("x", "update", "d1")
		push("x", "own", "d2")
		push("y", "update", "d3")
		push("x", "update", "d4") // another text: its place stays
		var got []string
		all, err := s.Updates(t.Context(), "")
		qt.Assert(t, qt.IsNil(err))
		for _, u := range all {
			got = append(got, u.Target+" "+u.Name+" "+u.Digest)
		}
		qt.Check(t, qt.DeepEquals(got, []string{"x update d4", "x own d2", "y update d3"}))
		within(t, s, func(ctx context.Context, tx *Tx) error { return tx.DeleteUpdate(ctx, "x", "update") })
		all, err = s.Updates(t.Context(), "x")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(all, 1))
	})
}

func TestLinesAndVersions(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		ctx := t.Context()
		_, err := s.EndOfLine(ctx, "web", "x")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		for v, selection := range map[int]string{1: "s1", 2: "s2", 4: "s1"} {
			p := livePatchOf("x", v)
			p.Selection = selection
			qt.Assert(t, qt.IsNil(s.AddLivePatch(ctx, p)))
			_, err := s.AddPublication(ctx, p.ID, "edge")
			qt.Assert(t, qt.IsNil(err))
		}
		within(t, s, func(ctx context.Context, tx *Tx) error {
			for _, id := range []string{"x-v1", "x-v2"} {
				if _, err := tx.AddToLine(ctx, id, "web"); err != nil {
					return err
				}
			}
			if added, err := tx.AddToLine(ctx, "x-v2", "web"); added || err != nil {
				t.Errorf("twice: %v %v", added, err)
			}
			_, err := tx.AddToLine(ctx, "x-v4", "default")
			return err
		})
		end, err := s.EndOfLine(ctx, "web", "x")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(end, LineEnd{ID: "x-v2", Version: 2, Selection: "s2"}))
		_, err = s.AddPublication(ctx, "x-v1", "stable")
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(s.BlockLivePatch(ctx, "x-v1", "r", false)))
		line, err := s.LineOf(ctx, "web", "x")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(line, []LinePatch{
			{LineEnd: end, Tiers: []string{"edge"}},
			{LineEnd: LineEnd{ID: "x-v1", Version: 1, Selection: "s1", Blocked: true}, Tiers: []string{"edge", "stable"}},
		}))
		qt.Assert(t, qt.IsNil(s.BlockLivePatch(ctx, "x-v4", "r", false)))
		end, err = s.NewestOf(ctx, "x", "s1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(end, LineEnd{ID: "x-v4", Version: 4, Selection: "s1", Blocked: true}))
		newest, err := s.NewestFor(ctx, "x", 2)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(newest, 2))
		in, err := s.PoliciesIn(ctx, "edge", "b-x")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(in, []string{"default", "web"}))
		of, err := s.PublishedFor(ctx, "edge", "b-x", "web")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(of, 2))

		// Versions are drawn once, above all that is published, whoever draws.
		var mu sync.Mutex
		seen := map[int]bool{}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 5 {
					err := s.Update(ctx, func(tx *Tx) error {
						v, err := tx.DrawVersion(ctx, "x")
						mu.Lock()
						defer mu.Unlock()
						if seen[v] && s.engine == engineSQLite || v < 5 {
							t.Errorf("version %d", v)
						}
						seen[v] = true
						return err
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var next int
		within(t, s, func(ctx context.Context, tx *Tx) (err error) {
			next, err = tx.DrawVersion(ctx, "x")
			return err
		})
		qt.Check(t, qt.Equals(next, 25))
	})
}

func TestJobsOfSelections(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		_, err := s.JobOf(ctx, "x", "s1")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		_, err = s.CreateJob(ctx, Job{Kind: "build", Target: "x", Selection: "s1"})
		qt.Assert(t, qt.IsNil(err))
		j, err := s.LeaseJob(ctx, "w", []string{"build"}, c.in(time.Minute))
		qt.Assert(t, qt.IsNil(err))
		within(t, s, func(ctx context.Context, tx *Tx) error { return tx.SetJobVersion(ctx, j.ID, "w", 7) })
		err = s.Update(ctx, func(tx *Tx) error { return tx.SetJobVersion(ctx, j.ID, "another", 8) })
		qt.Check(t, qt.ErrorIs(err, ErrLost))
		qt.Assert(t, qt.IsNil(s.FinishJob(ctx, j.ID, "w", JobResult{State: JobDone, Omitted: []byte("[1]")})))
		done, err := s.Job(ctx, j.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(done.Version, 7))
		qt.Check(t, qt.Equals(string(done.Omitted), "[1]"))
		c.pass(time.Second)
		second, err := s.CreateJob(ctx, Job{Kind: "build", Target: "x", Selection: "s1"})
		qt.Assert(t, qt.IsNil(err))
		newest, err := s.JobOf(ctx, "x", "s1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(newest.ID, second.ID))
	})
}

func TestAChoiceIsBuiltByOneJobAtATime(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		job := Job{Kind: "build", Target: "x", Spec: []byte("{}"), Selection: "s1"}
		first, err := s.CreateJob(ctx, job)
		qt.Assert(t, qt.IsNil(err))
		_, err = s.CreateJob(ctx, job)
		qt.Check(t, qt.ErrorIs(err, ErrConflict))
		_, err = s.LeaseJob(ctx, "w", []string{"build"}, c.in(time.Hour))
		qt.Assert(t, qt.IsNil(err))
		_, err = s.CreateJob(ctx, job) // one that runs counts too
		qt.Check(t, qt.ErrorIs(err, ErrConflict))
		for _, other := range []Job{{Kind: "build", Target: "y", Selection: "s1"}, {Kind: "build", Target: "x", Selection: "s2"}, {Kind: "build", Target: "x"}, {Kind: "build", Target: "x"}} {
			_, err = s.CreateJob(ctx, other)
			qt.Check(t, qt.IsNil(err))
		}
		qt.Assert(t, qt.IsNil(s.FinishJob(ctx, first.ID, "w", JobResult{State: JobFailed})))
		_, err = s.CreateJob(ctx, job)
		qt.Check(t, qt.IsNil(err))
	})
}

func TestRebuildsAreCounted(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		for want := 1; want <= 2; want++ {
			within(t, s, func(ctx context.Context, tx *Tx) error {
				n, err := tx.AddRebuild(ctx, "x", "s1")
				qt.Check(t, qt.Equals(n, want))
				return err
			})
		}
		all, err := s.Rebuilds(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(all, map[[2]string]int{{"x", "s1"}: 2}))
	})
}

// What LockPolicies guards is not lost when many change it at once.
func TestWhoHoldsThePoliciesIsAlone(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		const writers = 8
		var wg sync.WaitGroup
		for range writers {
			wg.Go(func() {
				err := s.Update(t.Context(), func(tx *Tx) error {
					if err := tx.LockPolicies(t.Context()); err != nil {
						return err
					}
					p, err := tx.Policy(t.Context(), "web")
					if err != nil && !errors.Is(err, ErrNotFound) {
						return err
					}
					return tx.SavePolicy(t.Context(), "web", append(p.Body, 'x'), "ann")
				})
				if err != nil {
					t.Errorf("write: %v", err)
				}
			})
		}
		wg.Wait()
		p, err := s.Policy(t.Context(), "web")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(p.Body), strings.Repeat("x", writers)))
	})
}

// Two servers of an older program may have made two jobs of one choice.
func TestTheThirdSchemaLeavesOneJobOfAChoice(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, dsn string) {
		older := fstest.MapFS{}
		for _, n := range []string{"00001_service.sql", "00002_policies.sql"} {
			b, err := fs.ReadFile(embedded, "migrations/"+n)
			qt.Assert(t, qt.IsNil(err))
			older[n] = &fstest.MapFile{Data: b}
		}
		s, err := connect(dsn)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(s.migrate(t.Context(), older)))
		for id, of := range map[string][2]string{"1": {"done", "s"}, "2": {"queued", "s"}, "3": {"running", "s"}, "4": {"queued", "s"}, "5": {"queued", ""}, "6": {"queued", ""}} {
			_, err := s.write.ExecContext(t.Context(), `INSERT INTO jobs (id, kind, target, title, spec, state, stage, attempt, max_attempts, worker,
				leased_until, cancel, created, created_by, started, ended, verdict, problem, patch, artifact, selection)
				VALUES ('`+id+`', 'build', 'x', '', '', '`+of[0]+`', '', 0, 3, '', 0, FALSE, 7, '', 0, 0, '', '', '', '', '`+of[1]+`')`)
			qt.Assert(t, qt.IsNil(err))
		}
		qt.Assert(t, qt.IsNil(s.Close()))
		s = open(t, dsn)
		all, err := s.Jobs(t.Context(), JobFilter{})
		qt.Assert(t, qt.IsNil(err))
		var got []string
		for _, j := range all {
			got = append(got, j.ID+" "+string(j.State))
		}
		qt.Check(t, qt.DeepEquals(got, []string{"6 queued", "5 queued", "4 cancelled", "3 cancelled", "2 queued", "1 done"}))
	})
}
