// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

func livePatchOf(target string, version int) LivePatch {
	return LivePatch{
		ID: fmt.Sprintf("%s-v%d", target, version), Name: "tsugi_x", Version: version, Target: target, Release: "6.1", BuildID: "b-" + target,
		Arch: "x86_64", Digest: "d1", Size: 1, CipherDigest: "d2", CipherSize: 2, SealedKey: []byte{0, 255}, Manifest: []byte(`{"a":1}`),
		CVEs: []string{"CVE-1", "CVE-2"}, Fixes: []string{"one", "two"}, ProofDigest: "d3", ProvenanceDigest: "d4", Proven: true, Signed: true,
		CreatedBy: "admin",
	}
}

func TestLivePatches(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		v, err := s.NextVersion(ctx, "x")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(v, 1))
		one := livePatchOf("x", 1)
		qt.Assert(t, qt.IsNil(s.AddLivePatch(ctx, one)))
		one.Created = c.ms()
		got, err := s.LivePatch(ctx, one.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(got, one))
		v, err = s.NextVersion(ctx, "x")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(v, 2))
		_, err = s.LivePatch(ctx, "none")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		qt.Check(t, qt.ErrorIs(s.AddLivePatch(ctx, one), ErrConflict))
		same := livePatchOf("x", 1)
		same.ID = "other"
		qt.Check(t, qt.ErrorIs(s.AddLivePatch(ctx, same), ErrConflict)) // target and version

		// Nothing but what must be there.
		qt.Assert(t, qt.IsNil(s.AddLivePatch(ctx, LivePatch{ID: "bare", Target: "bare", Version: 7})))
		got, err = s.LivePatch(ctx, "bare")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(got, LivePatch{ID: "bare", Target: "bare", Version: 7, Created: c.ms()}))

		c.pass(time.Second)
		two, y := livePatchOf("x", 2), livePatchOf("y", 1)
		qt.Assert(t, qt.IsNil(s.AddLivePatch(ctx, two)))
		qt.Assert(t, qt.IsNil(s.AddLivePatch(ctx, y)))
		publish := func(id, tier string, want bool) {
			t.Helper()
			added, err := s.AddPublication(ctx, id, tier)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(added, want))
		}
		publish(two.ID, "stable", true)
		publish(two.ID, "edge", true)
		publish(two.ID, "edge", false)
		publish(one.ID, "edge", true)
		publish(y.ID, "edge", true)
		_, err = s.AddPublication(ctx, "none", "edge")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		_, err = s.AddPublication(ctx, one.ID, "none")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		got, err = s.LivePatch(ctx, two.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(got.Tiers, []string{"edge", "stable"})) // by rank

		for _, q := range []struct {
			f    LivePatchFilter
			want []string
		}{
			{LivePatchFilter{}, []string{y.ID, two.ID, one.ID, "bare"}},
			{LivePatchFilter{Target: "x"}, []string{two.ID, one.ID}},
			{LivePatchFilter{BuildID: "b-y"}, []string{y.ID}},
			{LivePatchFilter{Tier: "edge"}, []string{y.ID, two.ID, one.ID}},
			{LivePatchFilter{Tier: "stable", Target: "x"}, []string{two.ID}},
			{LivePatchFilter{Tier: "beta"}, []string{}},
			{LivePatchFilter{Limit: 1}, []string{y.ID}},
			{LivePatchFilter{Limit: 2, Before: &LivePatch{ID: y.ID, Created: c.ms()}}, []string{two.ID, one.ID}},
			{LivePatchFilter{Before: &LivePatch{ID: one.ID, Created: one.Created}}, []string{"bare"}},
		} {
			found, err := s.LivePatches(ctx, q.f)
			qt.Assert(t, qt.IsNil(err))
			ids := []string{}
			for _, p := range found {
				ids = append(ids, p.ID)
			}
			qt.Check(t, qt.DeepEquals(ids, q.want), qt.Commentf("%+v", q.f))
		}
		found, err := s.PublishedFor(ctx, "edge", "b-x", "")
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(found, 2))
		qt.Check(t, qt.DeepEquals([]int{found[0].Version, found[1].Version}, []int{1, 2}))
		found, err = s.PublishedFor(ctx, "stable", "b-y", "")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(found, 0))

		pubs, err := s.Publications(ctx, two.ID, "")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(pubs, []Publication{{two.ID, "edge", c.ms()}, {two.ID, "stable", c.ms()}}))
		pubs, err = s.Publications(ctx, "", "stable")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(pubs, []Publication{{two.ID, "stable", c.ms()}}))
		pubs, err = s.Publications(ctx, "", "")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(pubs, 4))

		c.pass(time.Second)
		qt.Assert(t, qt.IsNil(s.BlockLivePatch(ctx, two.ID, "oopses", true)))
		got, err = s.LivePatch(ctx, two.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals([]any{got.Blocked, got.Reason, got.Recall}, []any{c.ms(), "oopses", true}))
		qt.Assert(t, qt.IsNil(s.UnblockLivePatch(ctx, two.ID)))
		got, err = s.LivePatch(ctx, two.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals([]any{got.Blocked, got.Reason, got.Recall}, []any{int64(0), "", false}))
		qt.Check(t, qt.ErrorIs(s.BlockLivePatch(ctx, "none", "x", false), ErrNotFound))
		qt.Check(t, qt.ErrorIs(s.UnblockLivePatch(ctx, "none"), ErrNotFound))
	})
}

func TestTiers(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		ranks := func(want ...string) {
			t.Helper()
			tiers, err := s.Tiers(ctx)
			qt.Assert(t, qt.IsNil(err))
			got := []string{}
			for i, tier := range tiers {
				qt.Check(t, qt.Equals(tier.Rank, i+1))
				got = append(got, tier.Name)
			}
			qt.Assert(t, qt.DeepEquals(got, want))
		}
		qt.Assert(t, qt.IsNil(s.CreateTier(ctx, "lab", 1)))
		ranks("lab", "edge", "beta", "candidate", "stable")
		qt.Assert(t, qt.IsNil(s.CreateTier(ctx, "last", 0)))
		qt.Assert(t, qt.IsNil(s.CreateTier(ctx, "later", 99)))
		ranks("lab", "edge", "beta", "candidate", "stable", "last", "later")
		qt.Check(t, qt.ErrorIs(s.CreateTier(ctx, "edge", 1), ErrConflict))
		ranks("lab", "edge", "beta", "candidate", "stable", "last", "later")
		qt.Check(t, qt.ErrorIs(s.DeleteTier(ctx, "none"), ErrNotFound))

		token := newToken(t, s, Token{Name: "t", Tier: "lab"})
		m := enroll(t, s, enrollment("t", "m"))
		qt.Assert(t, qt.IsNil(s.RevokeToken(ctx, token.ID)))
		qt.Check(t, qt.ErrorIs(s.DeleteTier(ctx, "lab"), ErrConflict)) // a machine
		tiers, err := s.Tiers(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(tiers[0], Tier{Name: "lab", Rank: 1, Machines: 1, Created: c.ms()}))
		qt.Assert(t, qt.IsNil(s.Decommission(ctx, m.ID)))
		token = newToken(t, s, Token{Name: "u", Tier: "lab"})
		qt.Check(t, qt.ErrorIs(s.DeleteTier(ctx, "lab"), ErrConflict)) // a token
		qt.Assert(t, qt.IsNil(s.RevokeToken(ctx, token.ID)))
		n, err := nextSequence(ctx, s, "lab", "b", "default")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, 1))
		qt.Assert(t, qt.IsNil(s.DeleteTier(ctx, "lab")))
		_, err = s.Index(ctx, "lab", "b", "default")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))

		p := livePatchOf("x", 1)
		qt.Assert(t, qt.IsNil(s.AddLivePatch(ctx, p)))
		_, err = s.AddPublication(ctx, p.ID, "last")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.ErrorIs(s.DeleteTier(ctx, "last"), ErrConflict)) // a live patch
		qt.Assert(t, qt.IsNil(s.DeleteTier(ctx, "beta")))
		ranks("edge", "candidate", "stable", "last", "later")
		for _, name := range []string{"later", "stable", "edge", "candidate"} {
			qt.Assert(t, qt.IsNil(s.DeleteTier(ctx, name)))
		}
		ranks("last")
	})
}

func TestTheLastTierStays(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		for _, name := range []string{"beta", "stable", "edge"} {
			qt.Assert(t, qt.IsNil(s.DeleteTier(t.Context(), name)))
		}
		qt.Check(t, qt.ErrorIs(s.DeleteTier(t.Context(), "candidate"), ErrConflict))
	})
}

// A tier goes while machines are moved into it: never is one in a tier that
// is not there.
func TestTiersThatGoWhileMachinesCome(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		ctx := t.Context()
		newToken(t, s, Token{Name: "t"})
		m := enroll(t, s, enrollment("t", "m"))
		for range 10 {
			qt.Assert(t, qt.IsNil(s.CreateTier(ctx, "brief", 0)))
			var moved, deleted error
			var wg sync.WaitGroup
			wg.Go(func() { _, moved = s.UpdateMachine(ctx, m.ID, MachineChange{Tier: ptr("brief")}) })
			wg.Go(func() { deleted = s.DeleteTier(ctx, "brief") })
			wg.Wait()
			switch {
			case moved == nil && errors.Is(deleted, ErrConflict):
				_, err := s.UpdateMachine(ctx, m.ID, MachineChange{Tier: ptr("stable")})
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNil(s.DeleteTier(ctx, "brief")))
			case errors.Is(moved, ErrNotFound) && deleted == nil:
			default:
				t.Fatalf("moved: %v; deleted: %v", moved, deleted)
			}
		}
	})
}

func TestIndexes(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		ctx := t.Context()
		_, err := s.Index(ctx, "edge", "b", "default")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
		qt.Assert(t, qt.IsNil(s.Update(ctx, func(tx *Tx) error { return tx.SetRevert(ctx, "edge", "b", "default", []byte(`{"to":1}`)) })))
		for want := range int64(3) {
			n, err := nextSequence(ctx, s, "edge", "b", "default")
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(n, want+1))
		}
		n, err := nextSequence(ctx, s, "edge", "b", "web") // another policy's counts for itself
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, 1))
		n, err = nextSequence(ctx, s, "beta", "b", "default")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, 1))
		all, err := s.Indexes(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(all, []Index{
			{Tier: "beta", BuildID: "b", Policy: "default", Sequence: 1},
			{Tier: "edge", BuildID: "b", Policy: "default", Sequence: 3, Revert: []byte(`{"to":1}`)},
			{Tier: "edge", BuildID: "b", Policy: "web", Sequence: 1},
		}))
		qt.Assert(t, qt.IsNil(s.Update(ctx, func(tx *Tx) error { return tx.SetRevert(ctx, "edge", "b", "default", nil) })))
		x, err := s.Index(ctx, "edge", "b", "default")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(x, Index{Tier: "edge", BuildID: "b", Policy: "default", Sequence: 3}))
	})
}

func TestTUF(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		files, generation, err := s.TUFFiles(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(files, 0))
		qt.Check(t, qt.Equals(generation, 0))
		file := func(role string, version int64) TUFFile {
			return TUFFile{Role: role, Version: version, Name: fmt.Sprintf("%d.%s.json", version, role), Body: []byte(role + "\x00"), Created: c.ms()}
		}
		generation, err = s.SaveTUF(ctx, []TUFFile{file("root", 1), file("targets", 1), file("timestamp", 1)}, 0)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(generation, 1))
		_, err = s.SaveTUF(ctx, []TUFFile{file("timestamp", 2)}, 0)
		qt.Check(t, qt.ErrorIs(err, ErrConflict))
		c.pass(time.Second)
		generation, err = s.SaveTUF(ctx, []TUFFile{file("root", 2), file("timestamp", 2)}, generation)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(generation, 2))
		files, generation, err = s.TUFFiles(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(generation, 2))
		old := func(f TUFFile) TUFFile { f.Created = c.in(-time.Second); return f }
		qt.Check(t, qt.DeepEquals(files, []TUFFile{old(file("root", 1)), file("root", 2), old(file("targets", 1)), file("timestamp", 2)}))
		qt.Assert(t, qt.IsNil(s.Update(ctx, func(tx *Tx) error { return tx.DeleteTUFRole(ctx, "targets") })))
		files, _, err = s.TUFFiles(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(files, 3))
	})
}

func TestOnlyOneSignsAGeneration(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		var wg sync.WaitGroup
		const signers, rounds = 6, 10
		for i := range signers {
			wg.Go(func() {
				for done := 0; done < rounds; {
					_, generation, err := s.TUFFiles(t.Context())
					if err == nil {
						_, err = s.SaveTUF(t.Context(), []TUFFile{{
							Role: "timestamp", Version: generation + 1, Name: "timestamp.json", Body: fmt.Append(nil, i),
						}}, generation)
					}
					switch {
					case err == nil:
						done++
					case !errors.Is(err, ErrConflict):
						t.Errorf("signer %d: %v", i, err)
						return
					}
				}
			})
		}
		wg.Wait()
		files, generation, err := s.TUFFiles(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(generation, signers*rounds))
		qt.Assert(t, qt.HasLen(files, 1))
		qt.Check(t, qt.Equals(files[0].Version, signers*rounds))
	})
}

func nextSequence(ctx context.Context, s *Store, tier, buildID, policy string) (n int64, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		n, err = tx.NextSequence(ctx, tier, buildID, policy)
		return err
	})
	return n, err
}
