// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

// chainOf is the audit log in the order of its chain.
func chainOf(t testing.TB, s *Store) []AuditEntry {
	t.Helper()
	var all []AuditEntry
	c, err := s.CheckAudit(t.Context(), func(e AuditEntry) error { all = append(all, e); return nil })
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(c.Broken))
	qt.Assert(t, qt.Equals(c.Outside, 0))
	return all
}

// TestAHashNeverChanges: what was exported must be checkable by every later
// program.
func TestAHashNeverChanges(t *testing.T) {
	t.Parallel()
	e := AuditEntry{ID: "018f", Time: 1_800_000_000_000, Actor: "alice", Action: "livepatch.promote", Object: "x", Detail: "to stable", Seq: 1}
	first := ChainHash("", e)
	qt.Check(t, qt.Equals(first, "40d5c4d00a632862747f417644680ff8219385ccdc35803e3128e1518ccea9cf"))
	e.Seq = 2
	qt.Check(t, qt.Equals(ChainHash(first, e), "d3c71e49e00ef5e86988dd13525debf449422464f0fcef16d0e4698070d5549e"))
	// No two entries share what is hashed: lengths stand before the texts.
	a, b := e, e
	a.Object, a.Detail = "ab", "c"
	b.Object, b.Detail = "a", "bc"
	qt.Check(t, qt.Not(qt.Equals(ChainHash(first, a), ChainHash(first, b))))
}

func TestTheChainOfManyWriters(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		const writers, each = 8, 12
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					err := s.Update(t.Context(), func(tx *Tx) error {
						for range 1 + i%3 {
							if err := tx.Audit(t.Context(), AuditEntry{Actor: fmt.Sprint(w), Action: "a", Object: fmt.Sprint(i)}); err != nil {
								return err
							}
						}
						if i%4 == 0 { // in another order than the others
							if err := tx.LockPolicies(t.Context()); err != nil {
								return err
							}
						}
						return tx.SetSetting(t.Context(), fmt.Sprint(w), fmt.Sprint(i))
					})
					if err != nil {
						t.Errorf("write: %v", err)
					}
				}
			})
		}
		wg.Wait()
		all := chainOf(t, s)
		qt.Check(t, qt.HasLen(all, writers*each*2))
		// What was not stored leaves no gap.
		broken := errors.New("broken")
		qt.Check(t, qt.ErrorIs(s.Update(t.Context(), func(tx *Tx) error {
			return errors.Join(tx.Audit(t.Context(), AuditEntry{Actor: "no"}), broken)
		}), broken))
		qt.Assert(t, qt.IsNil(s.Audit(t.Context(), AuditEntry{Actor: "last"})))
		qt.Check(t, qt.Equals(chainOf(t, s)[len(all)].Actor, "last"))
	})
}

func TestEveryChangeOfTheAuditLogShows(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		for i := range 9 {
			qt.Assert(t, qt.IsNil(s.Audit(t.Context(), AuditEntry{Actor: "alice", Action: "a", Object: fmt.Sprint(i), Detail: "d"})))
			c.pass(time.Minute)
		}
		before := chainOf(t, s)
		noted := before[8]
		for _, damage := range []struct {
			what string
			sql  string
			at   int64
		}{
			{"another actor", "UPDATE audit SET actor = 'bob' WHERE seq = 4", 4},
			{"another time", "UPDATE audit SET time = time + 1 WHERE seq = 4", 4},
			{"another id", "UPDATE audit SET id = 'x' WHERE seq = 1", 1},
			{"another object", "UPDATE audit SET object = '' WHERE seq = 9", 9},
			{"another hash", "UPDATE audit SET hash = '' WHERE seq = 5", 5},
			{"an entry removed", "DELETE FROM audit WHERE seq = 3", 3},
			{"the first removed", "DELETE FROM audit WHERE seq = 1", 1},
			{"the last removed", "DELETE FROM audit WHERE seq > 7", 8},
			{"all removed", "DELETE FROM audit", 1},
			{"the last moved beyond the end", "UPDATE audit SET seq = 100 WHERE seq = 9", 9},
			{"two exchanged", "UPDATE audit SET object = '7', seq = 100 WHERE seq = 3", 3},
		} {
			_, err := s.write.ExecContext(t.Context(), damage.sql)
			qt.Assert(t, qt.IsNil(err))
			found, err := s.CheckAudit(t.Context(), nil)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNotNil(found.Broken), qt.Commentf("%s", damage.what))
			qt.Check(t, qt.Equals(found.Broken.Seq, damage.at), qt.Commentf("%s: %v", damage.what, found.Broken))
			// A check in pieces finds the same.
			pieces, _, err := s.CheckAuditOn(t.Context(), AuditChain{}, 1000)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(pieces.Broken, found.Broken), qt.Commentf("%s", damage.what))
			// As it was.
			_, err = s.write.ExecContext(t.Context(), "DELETE FROM audit")
			qt.Assert(t, qt.IsNil(err))
			for _, e := range before {
				_, err = s.write.ExecContext(t.Context(), "INSERT INTO audit (id, time, actor, action, object, detail, seq, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
					e.ID, e.Time, e.Actor, e.Action, e.Object, e.Detail, e.Seq, e.Hash)
				qt.Assert(t, qt.IsNil(err))
			}
		}
		qt.Check(t, qt.DeepEquals(chainOf(t, s), before))
		piece, last, err := s.CheckAuditOn(t.Context(), AuditChain{Seq: 4, Hash: before[3].Hash}, 2)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(last, 9))
		qt.Check(t, qt.Equals(piece.AuditChain, AuditChain{Seq: 9, Hash: noted.Hash})) // a page at least
		// An entry that an older program wrote beside this one shows, and gets
		// its place when the database is next opened.
		_, err = s.write.ExecContext(t.Context(), "INSERT INTO audit (id, time, actor, action, object, detail) VALUES ('0', 5, 'old', 'a', 'o', '')")
		qt.Assert(t, qt.IsNil(err))
		found, err := s.CheckAudit(t.Context(), nil)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(found.Outside, 1))
		qt.Check(t, qt.Equals(found.AuditChain, AuditChain{Seq: noted.Seq, Hash: noted.Hash}))
		qt.Assert(t, qt.IsNil(s.adopt(t.Context())))
		all := chainOf(t, s)
		qt.Assert(t, qt.HasLen(all, 10))
		qt.Check(t, qt.Equals(all[9].Actor, "old"))
		qt.Check(t, qt.DeepEquals(all[:9], before))
		// After damage it goes on, and the damage stays visible.
		_, err = s.write.ExecContext(t.Context(), "DELETE FROM audit WHERE seq = 10")
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(s.Audit(t.Context(), AuditEntry{Actor: "after"})))
		found, err = s.CheckAudit(t.Context(), nil)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(found.Broken.Seq, 10))
	})
}
