// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
)

// engines runs a test on each engine, with a database of its own.
func engines(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, "sqlite:"+t.TempDir()+"/tsugi.db")
	})
	t.Run("postgresql", func(t *testing.T) {
		t.Parallel()
		test(t, testenv.Postgres(t))
	})
}

// clock is a time that tests move.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time           { return c.now }
func (c *clock) ms() int64                { return c.now.UnixMilli() }
func (c *clock) pass(d time.Duration)     { c.now = c.now.Add(d) }
func (c *clock) in(d time.Duration) int64 { return c.now.Add(d).UnixMilli() }

func open(t testing.TB, dsn string, options ...Option) *Store {
	t.Helper()
	s, err := Open(context.Background(), dsn, options...)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(s.Close())) })
	return s
}

// stores runs a test on each engine, with an open store and a clock.
func stores(t *testing.T, test func(t *testing.T, s *Store, c *clock)) {
	engines(t, func(t *testing.T, dsn string) {
		c := &clock{now: time.UnixMilli(1_800_000_000_000)}
		test(t, open(t, dsn, WithClock(c.Now)), c)
	})
}

func TestNewDatabase(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		qt.Assert(t, qt.IsNil(s.Ping(t.Context())))
		v, err := s.Schema(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(v >= 7))
		tiers, err := s.Tiers(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.DeepEquals(tiers, []Tier{
			{Name: "edge", Rank: 1}, {Name: "beta", Rank: 2}, {Name: "candidate", Rank: 3}, {Name: "stable", Rank: 4},
		}))
	})
}
