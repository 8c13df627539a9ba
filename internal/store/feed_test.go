// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

func TestReports(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		stored, err := s.AddReports(ctx, "m1", []Report{
			{ID: "r1", Time: 5, Kind: "state", Patch: "p", State: "applied", Body: []byte(`{"id":"r1"}`)}, {ID: "r2", Kind: "crash"},
		})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(stored, []string{"r1", "r2"}))
		c.pass(time.Second)
		// A second delivery, and another machine that uses the same id.
		stored, err = s.AddReports(ctx, "m1", []Report{{ID: "r2", Kind: "other"}, {ID: "r3", Kind: "state", Patch: "q"}})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(stored, []string{"r2", "r3"}))
		_, err = s.AddReports(ctx, "m2", []Report{{ID: "r1", Kind: "agent"}})
		qt.Assert(t, qt.IsNil(err))

		list := func(f ReportFilter, want ...string) []Report {
			t.Helper()
			found, err := s.Reports(ctx, f)
			qt.Assert(t, qt.IsNil(err))
			var got []string
			for _, r := range found {
				got = append(got, r.Machine+r.ID)
			}
			qt.Check(t, qt.DeepEquals(got, want), qt.Commentf("%+v", f))
			return found
		}
		all := list(ReportFilter{}, "m2r1", "m1r3", "m1r2", "m1r1")
		qt.Check(t, qt.DeepEquals(all[3], Report{
			Seq: all[3].Seq, Machine: "m1", ID: "r1", Time: 5, Received: c.in(-time.Second), Kind: "state", Patch: "p", State: "applied",
			Body: []byte(`{"id":"r1"}`),
		}))
		qt.Check(t, qt.Equals(all[2].Kind, "crash")) // the first delivery stays
		list(ReportFilter{Machine: "m1"}, "m1r3", "m1r2", "m1r1")
		list(ReportFilter{Kind: "state"}, "m1r3", "m1r1")
		list(ReportFilter{Patch: "p"}, "m1r1")
		list(ReportFilter{State: "applied"}, "m1r1")
		list(ReportFilter{Machine: "m1", Patch: "p", Kind: "state", State: "applied"}, "m1r1")
		list(ReportFilter{Machine: "m2", Patch: "p"})
		list(ReportFilter{Machine: "m1", Before: all[1].Seq, Limit: 1}, "m1r2")
		list(ReportFilter{Patch: "p", Kind: "crash"})
		list(ReportFilter{Patch: "p", Before: all[3].Seq})
		list(ReportFilter{Kind: "state", State: "applied"}, "m1r1")
		list(ReportFilter{Kind: "state", Before: all[1].Seq}, "m1r1")
		list(ReportFilter{Limit: 1}, "m2r1")
		list(ReportFilter{Limit: 2, Before: all[0].Seq}, "m1r3", "m1r2")
		n, err := s.PruneReports(ctx, c.ms())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, 2))
		list(ReportFilter{}, "m2r1", "m1r3")
	})
}

func TestReportsOfManyAtOnce(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%10 == 0 { // some leave before they have an answer
					time.AfterFunc(time.Duration(i)*10*time.Microsecond, cancel)
				}
				ids, err := s.AddReports(ctx, fmt.Sprintf("m%d", i), []Report{{ID: "a"}, {ID: "b"}})
				if i%10 == 0 && errors.Is(err, context.Canceled) {
					return
				}
				if err != nil || len(ids) != 2 {
					t.Errorf("machine %d: %v, %v", i, ids, err)
				}
			})
		}
		wg.Wait()
		for i := range 200 {
			found, err := s.Reports(t.Context(), ReportFilter{Machine: fmt.Sprintf("m%d", i)})
			qt.Assert(t, qt.IsNil(err))
			if i%10 != 0 {
				qt.Check(t, qt.HasLen(found, 2))
			} else {
				qt.Check(t, qt.IsTrue(len(found) == 0 || len(found) == 2)) // whole or not at all
			}
		}
	})
}

func TestOneBadWriteSpoilsNoOther(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		j := newJob(t, s, "build", "x")
		var wg sync.WaitGroup
		for i := range 60 {
			wg.Go(func() {
				job := j.ID
				if i%7 == 3 {
					job = "none"
				}
				err := s.AppendLog(t.Context(), job, 1, i, "x")
				if (job == "none") != errors.Is(err, ErrNotFound) || job != "none" && err != nil {
					t.Errorf("line %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		lines, err := s.Log(t.Context(), j.ID, 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(lines, 60-9))
	})
}

func TestOperatorsSettingsAudit(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		o, err := s.CreateOperator(ctx, "ann", OperatorAdmin, digest("ann"))
		qt.Assert(t, qt.IsNil(err))
		want := Operator{ID: o.ID, Name: "ann", Kind: OperatorAdmin, Hash: digest("ann"), Created: c.ms()}
		qt.Check(t, qt.DeepEquals(o, want))
		_, err = s.CreateOperator(ctx, "ann", OperatorReader, digest("x"))
		qt.Check(t, qt.ErrorIs(err, ErrConflict))
		_, err = s.CreateOperator(ctx, "bob", OperatorReader, digest("ann"))
		qt.Check(t, qt.ErrorIs(err, ErrConflict))
		qt.Assert(t, qt.IsNil(s.UseOperator(ctx, o.ID, c.in(time.Minute))))
		qt.Assert(t, qt.IsNil(s.UseOperator(ctx, o.ID, c.in(time.Second))))
		want.LastUsed = c.in(time.Minute)
		o, err = s.OperatorByHash(ctx, digest("ann"))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(o, want))
		_, err = s.OperatorByHash(ctx, digest("none"))
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		qt.Assert(t, qt.IsNil(s.RevokeOperator(ctx, o.ID)))
		qt.Check(t, qt.ErrorIs(s.RevokeOperator(ctx, o.ID), ErrNotFound))
		_, err = s.OperatorByHash(ctx, digest("ann"))
		qt.Check(t, qt.ErrorIs(err, ErrRevoked))
		_, err = s.CreateOperator(ctx, "ann", OperatorWorker, digest("ann2")) // the name is free again
		qt.Assert(t, qt.IsNil(err))
		all, err := s.Operators(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(all, 2))
		want.Revoked = c.ms()
		qt.Check(t, qt.DeepEquals(all[0], want))

		_, err = s.Setting(ctx, "k")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		qt.Assert(t, qt.IsNil(s.SetSetting(ctx, "k", "v1")))
		qt.Assert(t, qt.IsNil(s.SetSetting(ctx, "k", "v2")))
		qt.Assert(t, qt.IsNil(s.SetSetting(ctx, "l", "")))
		settings, err := s.Settings(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(settings, map[string]string{"k": "v2", "l": ""}))

		for i := range 4 {
			e := AuditEntry{Actor: []string{"ann", "bob"}[i%2], Action: "a.b", Object: fmt.Sprint(i), Detail: "d"}
			if i == 3 {
				e.Action = "c.d"
			}
			qt.Assert(t, qt.IsNil(s.Audit(ctx, e)))
		}
		entries, err := s.AuditEntries(ctx, AuditFilter{})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(entries, 4))
		qt.Check(t, qt.DeepEquals(entries[3], AuditEntry{ID: entries[3].ID, Time: c.ms(), Actor: "ann", Action: "a.b", Object: "0", Detail: "d", Seq: 1, Hash: entries[3].Hash}))
		for _, q := range []struct {
			f    AuditFilter
			want []string
		}{
			{AuditFilter{}, []string{"3", "2", "1", "0"}},
			{AuditFilter{Actor: "bob"}, []string{"3", "1"}},
			{AuditFilter{Action: "a.b"}, []string{"2", "1", "0"}},
			{AuditFilter{Action: "a.*"}, []string{"2", "1", "0"}},
			{AuditFilter{Action: "a%"}, []string{}},
			{AuditFilter{Action: "c.*", Actor: "bob"}, []string{"3"}},
			{AuditFilter{Object: "1"}, []string{"1"}},
			{AuditFilter{Limit: 1, Before: entries[1].ID}, []string{"1"}},
		} {
			found, err := s.AuditEntries(ctx, q.f)
			qt.Assert(t, qt.IsNil(err))
			got := []string{}
			for _, e := range found {
				got = append(got, e.Object)
			}
			qt.Check(t, qt.DeepEquals(got, q.want), qt.Commentf("%+v", q.f))
		}
	})
}

func TestTheFeedTellsEveryWrite(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		var last int64
		news := func(want ...string) {
			t.Helper()
			changes, err := s.Changes(ctx, last)
			qt.Assert(t, qt.IsNil(err))
			got := []string{}
			for _, c := range changes {
				qt.Check(t, qt.IsTrue(c.Seq > last))
				got = append(got, string(c.Kind)+" "+c.ID)
			}
			qt.Check(t, qt.DeepEquals(got, want))
			last, err = s.LastChange(ctx)
			qt.Assert(t, qt.IsNil(err))
		}
		news([]string{}...)
		token := newToken(t, s, Token{Name: "t"})
		news("token " + token.ID)
		m := enroll(t, s, enrollment("t", "m"))
		news("machine "+m.ID, "token "+token.ID)
		_, err := s.UpdateMachine(ctx, m.ID, MachineChange{Hold: ptr(true)})
		qt.Assert(t, qt.IsNil(err))
		news("machine " + m.ID)
		qt.Assert(t, qt.IsNil(s.SaveCheckIns(ctx, []CheckInRow{{ID: m.ID}})))
		news("machine " + m.ID)
		qt.Assert(t, qt.IsNil(s.Decommission(ctx, m.ID)))
		news("machine " + m.ID)
		qt.Assert(t, qt.IsNil(s.RevokeToken(ctx, token.ID)))
		news("token " + token.ID)
		qt.Assert(t, qt.IsNil(s.CreateTier(ctx, "lab", 0)))
		news("tier lab")
		qt.Assert(t, qt.IsNil(s.DeleteTier(ctx, "lab")))
		news("tier lab")
		p := livePatchOf("x", 1)
		qt.Assert(t, qt.IsNil(s.AddLivePatch(ctx, p)))
		news("livepatch " + p.ID)
		for _, want := range [][]string{{"livepatch " + p.ID}, {}} { // publishing once more is no news
			_, err = s.AddPublication(ctx, p.ID, "edge")
			qt.Assert(t, qt.IsNil(err))
			news(want...)
		}
		qt.Assert(t, qt.IsNil(s.BlockLivePatch(ctx, p.ID, "r", false)))
		news("livepatch " + p.ID)
		qt.Assert(t, qt.IsNil(s.UnblockLivePatch(ctx, p.ID)))
		news("livepatch " + p.ID)
		_, err = s.SaveTUF(ctx, nil, 0)
		qt.Assert(t, qt.IsNil(err))
		news("tuf ")
		j := newJob(t, s, "build", "x")
		news("job " + j.ID)
		_, err = s.LeaseJob(ctx, "w", []string{"build"}, c.in(time.Minute))
		qt.Assert(t, qt.IsNil(err))
		news("job " + j.ID)
		_, err = s.Heartbeat(ctx, j.ID, "w", c.in(time.Minute))
		qt.Assert(t, qt.IsNil(err))
		news([]string{}...)
		qt.Assert(t, qt.IsNil(s.CancelJob(ctx, j.ID)))
		news("job " + j.ID)
		qt.Assert(t, qt.IsNil(s.FinishJob(ctx, j.ID, "w", JobResult{State: JobCancelled})))
		news("job " + j.ID)
		o, err := s.CreateOperator(ctx, "o", OperatorAdmin, digest("o"))
		qt.Assert(t, qt.IsNil(err))
		news("operator " + o.ID)
		qt.Assert(t, qt.IsNil(s.RevokeOperator(ctx, o.ID)))
		news("operator " + o.ID)
		qt.Assert(t, qt.IsNil(s.SetSetting(ctx, "k", "v")))
		news("setting k")
	})
}

// A reader that always asks after the highest number that it has seen learns
// of every change, however many write at the same time.
func TestTheFeedMissesNothing(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		const writers, writes = 8, 25
		stop := make(chan struct{})
		seen := map[string]bool{}
		var reader, wg sync.WaitGroup
		reader.Go(func() {
			var last int64
			for end := false; ; {
				changes, err := s.Changes(t.Context(), last)
				if err != nil {
					t.Errorf("changes: %v", err)
					return
				}
				for _, c := range changes {
					seen[c.ID] = true
					last = max(last, c.Seq)
				}
				if end {
					return
				}
				select {
				case <-stop:
					end = true // once more
				default:
				}
			}
		})
		for w := range writers {
			wg.Go(func() {
				for i := range writes {
					if err := s.SetSetting(t.Context(), fmt.Sprintf("%d/%d", w, i), "x"); err != nil {
						t.Errorf("writer %d: %v", w, err)
					}
				}
			})
		}
		wg.Wait()
		close(stop)
		reader.Wait()
		qt.Check(t, qt.HasLen(seen, writers*writes))
	})
}

func TestATransactionIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		ctx := t.Context()
		before, err := s.LastChange(ctx)
		qt.Assert(t, qt.IsNil(err))
		p, stop := livePatchOf("x", 1), errors.New("stop")
		write := func(end error) error {
			return s.Update(ctx, func(tx *Tx) error {
				if err := tx.AddLivePatch(ctx, p); err != nil {
					return err
				}
				if _, err := tx.AddPublication(ctx, p.ID, "edge"); err != nil {
					return err
				}
				if got, err := tx.LivePatch(ctx, p.ID); err != nil || !slices.Equal(got.Tiers, []string{"edge"}) {
					return fmt.Errorf("the transaction does not see its own writes: %v, %w", got.Tiers, err)
				}
				if err := tx.Audit(ctx, AuditEntry{Action: "publish"}); err != nil {
					return err
				}
				return end
			})
		}
		qt.Check(t, qt.ErrorIs(write(stop), stop))
		_, err = s.LivePatch(ctx, p.ID)
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		entries, err := s.AuditEntries(ctx, AuditFilter{})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(entries, 0))
		after, err := s.LastChange(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(after, before))

		qt.Assert(t, qt.IsNil(write(nil)))
		changes, err := s.Changes(ctx, before)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(changes, []Change{{before + 1, KindLivePatch, p.ID}}))
		qt.Check(t, qt.ErrorIs(write(nil), ErrConflict))

		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		qt.Check(t, qt.ErrorIs(s.SetSetting(cancelled, "k", "v"), context.Canceled))
		_, err = s.AddReports(cancelled, "m", []Report{{ID: "r"}})
		qt.Check(t, qt.ErrorIs(err, context.Canceled))
	})
}

// Callers that leave in the middle of a transaction leave nothing of it, and
// the store as it should be.
func TestCallersThatLeave(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*200*time.Microsecond)
				defer cancel()
				p := livePatchOf("x", i+1)
				err := s.Update(ctx, func(tx *Tx) error {
					if err := tx.AddLivePatch(ctx, p); err != nil {
						return err
					}
					_, err := tx.AddPublication(ctx, p.ID, "edge")
					return err
				})
				stored, other := s.LivePatch(t.Context(), p.ID)
				switch {
				case err == nil && (other != nil || len(stored.Tiers) != 1):
					t.Errorf("%d: stored as %v, %v", i, stored.Tiers, other)
				case err != nil && other == nil && len(stored.Tiers) != 1: // at the commit either may be true
					t.Errorf("%d: half stored: %v", i, stored.Tiers)
				case err != nil && ctx.Err() == nil:
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		wg.Wait()
		qt.Assert(t, qt.IsNil(s.SetSetting(t.Context(), "k", "v")))
	})
}

func TestAClosedStoreTakesNothing(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, dsn string) {
		s, err := Open(t.Context(), dsn)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(s.Close()))
		_, err = s.AddReports(t.Context(), "m", []Report{{ID: "r"}})
		qt.Check(t, qt.ErrorIs(err, errClosed))
		qt.Check(t, qt.IsNotNil(s.SetSetting(t.Context(), "k", "v")))
		qt.Check(t, qt.IsNotNil(s.Ping(t.Context())))
		qt.Check(t, qt.IsNil(s.Close()))
	})
}
