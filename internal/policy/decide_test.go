// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

const buildID = "0123456789abcdef"

func index(versions ...int) *trust.Index {
	x := &trust.Index{
		Format: trust.IndexFormat, Tier: "stable", Sequence: 1,
		Target: trust.IndexRef{Name: "debian:6.1", Release: "6.1", Arch: "x86_64", BuildID: buildID},
	}
	for _, v := range versions {
		x.Patches = append(x.Patches, trust.Offer{ID: id(v), Name: fmt.Sprintf("tsugi_%d", v), Version: v, Digest: strings.Repeat("ab", 32), Size: 1})
	}
	return x
}

func id(v int) string { return fmt.Sprintf("p-v%d", v) }

func block(x *trust.Index, v int, recall bool) *trust.Index {
	x.Blocked = append(x.Blocked, trust.BlockRef{ID: id(v), Version: v, Reason: "oopses on nfs servers", Recall: recall})
	return x
}

func revert(x *trust.Index, to, below int) *trust.Index {
	x.Revert = &trust.Revert{To: to, Below: below, Reason: "too slow", By: "ops"}
	return x
}

func TestDecide(t *testing.T) {
	t.Parallel()
	other := index(1)
	other.Target.BuildID = "ffffffffffffffff"
	for _, c := range []struct {
		name    string
		facts   policy.Facts
		action  policy.Action
		version int // of the offer; 0: none
		reason  string
	}{
		{"a machine without an index keeps nothing", policy.Facts{}, policy.Keep, 0, "no live patch for this kernel and policy"},
		{"a machine keeps what it has when the index goes away", policy.Facts{Current: 3, Floor: 3}, policy.Keep, 0, "version 3 stays"},
		{"a package without an index is called one", policy.Facts{Package: true}, policy.Keep, 0, "no live patch for this package and policy"},
		{"an index of another kernel says nothing", policy.Facts{Index: other}, policy.Keep, 0, "another kernel"},
		{"the newest version is applied", policy.Facts{Index: index(1, 2, 3)}, policy.Apply, 3, "newest"},
		{"a newer version replaces an older one", policy.Facts{Index: index(1, 2, 3), Current: 2, Floor: 2}, policy.Apply, 3, "replaces version 2"},
		{"the newest version stays", policy.Facts{Index: index(1, 2), Current: 2, Floor: 2}, policy.Keep, 0, "newest"},
		{"tsugi=off skips everything", policy.Facts{Index: block(index(1, 2), 2, true), Current: 2, Off: true}, policy.Keep, 0, "tsugi=off"},
		{"an older tier takes nothing away", policy.Facts{Index: index(1, 2), Current: 5, Floor: 5}, policy.Keep, 0, "nothing newer"},
		{"an older tier is not applied below the floor", policy.Facts{Index: index(1, 2), Floor: 5}, policy.Keep, 0, "only a signed revert"},
		{"the floor itself is applied again after a boot", policy.Facts{Index: index(1, 2), Floor: 2}, policy.Apply, 2, "before this boot"},
		{"also with a hold", policy.Facts{Index: index(1, 2), Floor: 2, Hold: true}, policy.Apply, 2, "before this boot"},
		{"a hold keeps a newer one out", policy.Facts{Index: index(1, 2, 3), Current: 2, Floor: 2, Hold: true}, policy.Wait, 3, "held"},
		{"a window has to open for a newer one", policy.Facts{Index: index(3), Current: 2, Floor: 2}, policy.Wait, 3, "window"},
		{"a blocked version is not applied", policy.Facts{Index: block(index(1, 2), 2, false)}, policy.Apply, 1, "newest"},
		{"a block alone takes nothing out", policy.Facts{Index: block(index(1, 2), 2, false), Current: 2, Floor: 2}, policy.Keep, 0, "until a newer one comes"},
		{"a block of the floor lets it down after a boot", policy.Facts{Index: block(index(1, 2), 2, false), Floor: 2}, policy.Apply, 1, ""},
		{"a block of another version does not", policy.Facts{Index: block(index(1, 2), 2, false), Floor: 3}, policy.Keep, 0, "is blocked"},
		{"two blocks let it down twice", policy.Facts{Index: block(block(index(1, 2, 3), 2, false), 3, false), Floor: 3}, policy.Apply, 1, ""},
		{"a recall goes back to the newest below", policy.Facts{Index: block(index(1, 2, 3), 3, true), Current: 3, Floor: 3}, policy.Apply, 2, "recalled: oopses"},
		{"a recall goes to a newer one if there is one", policy.Facts{Index: block(index(1, 2, 3, 4), 3, true), Current: 3, Floor: 3}, policy.Apply, 4, "recalled"},
		{"a recall of the only one takes it out", policy.Facts{Index: block(index(3), 3, true), Current: 3, Floor: 3}, policy.Revert, 0, "recalled"},
		{"a recall of one that left the index takes it out", policy.Facts{Index: block(index(), 3, true), Current: 3, Floor: 3}, policy.Revert, 0, "recalled"},
		{"a hold outlasts a recall", policy.Facts{Index: block(index(3), 3, true), Current: 3, Floor: 3, Hold: true}, policy.Wait, 0, "held"},
		{"a recall does not wait for a window", policy.Facts{Index: block(index(2, 3), 3, true), Current: 3, Floor: 3}, policy.Apply, 2, "recalled"},
		{"a revert leads to its version", policy.Facts{Index: revert(index(1, 2, 3), 1, 3), Current: 3, Floor: 3}, policy.Apply, 1, "reverted: too slow"},
		{"a revert to 0 takes it out", policy.Facts{Index: revert(index(1, 2, 3), 0, 3), Current: 3, Floor: 3}, policy.Revert, 0, "reverted"},
		{"a revert keeps its versions out", policy.Facts{Index: revert(index(1, 2, 3), 0, 3)}, policy.Keep, 0, "reverted"},
		{"a revert lets the floor down after a boot", policy.Facts{Index: revert(index(1, 2, 3), 1, 3), Floor: 3}, policy.Apply, 1, ""},
		{"a revert does not touch what is above it", policy.Facts{Index: revert(index(1, 2, 3, 4), 1, 3), Current: 4, Floor: 4}, policy.Keep, 0, "newest"},
		{"a newer version than the reverted ones is applied", policy.Facts{Index: revert(index(1, 2, 3, 4), 1, 3), Current: 3, Floor: 3}, policy.Apply, 4, "takes its place"},
		{"a quarantined version is left out", policy.Facts{Index: index(1, 2, 3), Quarantined: []string{id(3)}, Floor: 2, Current: 2}, policy.Keep, 0, "quarantine"},
		{"a version taken out by hand stays out", policy.Facts{Index: index(1, 2), Reverted: []string{id(2)}, Floor: 2}, policy.Keep, 0, "by hand"},
		{"another policy's machines go to theirs, down", policy.Facts{Index: index(1, 3), Current: 5, Moved: true}, policy.Apply, 3, "of the policy that this machine has now"},
		{"and up", policy.Facts{Index: index(1, 6), Current: 5, Moved: true}, policy.Apply, 6, "of the policy"},
		{"unless both policies share it", policy.Facts{Index: index(3, 5), Current: 5, Moved: true}, policy.Keep, 0, "newest"},
		{"or a window has to open", policy.Facts{Index: index(3), Current: 5, Moved: true}, policy.Wait, 3, "window"},
		{"or the machine is held", policy.Facts{Index: index(3), Current: 5, Moved: true, Hold: true}, policy.Wait, 3, "held"},
		{"not below the floor of their new policy", policy.Facts{Index: index(1, 3), Current: 5, Floor: 4, Moved: true}, policy.Keep, 0, "no live patch for this kernel yet"},
		{"and keep what they have until theirs is there", policy.Facts{Index: index(), Current: 5, Moved: true}, policy.Keep, 0, "version 5 stays"},
		{"a revert of their new policy is none of another's version", policy.Facts{Index: revert(index(1, 6), 1, 6), Current: 5, Moved: true}, policy.Apply, 1, "of the policy"},
		{"a recall is for everybody", policy.Facts{Index: block(index(), 5, true), Current: 5, Moved: true}, policy.Revert, 0, "recalled"},
		{"one whose turn has not come is waited for", policy.Facts{Index: index(2), Waiting: []string{id(2)}}, policy.Wait, 2, "its rollout has not come"},
		{"and the one before it is had meanwhile", policy.Facts{Index: index(1, 2), Waiting: []string{id(2)}}, policy.Apply, 1, ""},
		{"and stays", policy.Facts{Index: index(1, 2), Waiting: []string{id(2)}, Current: 1, Floor: 1}, policy.Wait, 2, "its rollout has not come"},
		{"a recall leads to none whose turn has not come", policy.Facts{Index: block(index(1, 2, 3), 2, true), Waiting: []string{id(3)}, Current: 2, Floor: 2}, policy.Apply, 1, "recalled"},
		{"nor to an older one whose turn has not come", policy.Facts{Index: index(1, 2), Waiting: []string{id(1)}, Current: 2, Floor: 2}, policy.Keep, 0, "newest"},
		{"nor for a machine that moved", policy.Facts{Index: index(1, 3), Waiting: []string{id(3)}, Current: 5, Moved: true}, policy.Apply, 1, "of the policy"},
		{"until a newer one comes", policy.Facts{Index: index(1, 2, 3), Reverted: []string{id(2)}, Floor: 2}, policy.Apply, 3, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := c.facts
			f.BuildID = buildID
			if !strings.Contains(c.name, "window") {
				f.InWindow = true
			}
			d := policy.Decide(f)
			qt.Check(t, qt.Equals(d.Action, c.action), qt.Commentf("%s", d.Reason))
			got := 0
			if d.Offer != nil {
				got = d.Offer.Version
			}
			qt.Check(t, qt.Equals(got, c.version), qt.Commentf("%s", d.Reason))
			qt.Check(t, qt.StringContains(d.Reason, c.reason))
		})
	}
}

// TestDecideNeverBreaksItsPromises draws machines and indexes and holds what
// Decide's comment says, stated anew and without its code.
func TestDecideNeverBreaksItsPromises(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		version := rapid.IntRange(1, 6)
		versions := rapid.SliceOfNDistinct(version, 0, 6, rapid.ID[int]).Draw(t, "versions")
		slices.Sort(versions)
		x := index(versions...)
		for _, v := range rapid.SliceOfNDistinct(version, 0, 3, rapid.ID[int]).Draw(t, "blocked") {
			block(x, v, rapid.Bool().Draw(t, "recall"))
		}
		if rapid.Bool().Draw(t, "revert") {
			to := rapid.IntRange(0, 5).Draw(t, "to")
			revert(x, to, rapid.IntRange(to+1, 7).Draw(t, "below"))
		}
		if _, err := x.Bytes(); err != nil {
			t.Fatalf("the test drew an index that is none: %v", err)
		}
		f := policy.Facts{
			BuildID: buildID, Index: x,
			Current: rapid.IntRange(0, 6).Draw(t, "current"), Floor: rapid.IntRange(0, 6).Draw(t, "floor"),
			Moved: rapid.Bool().Draw(t, "moved"),
			Hold:  rapid.Bool().Draw(t, "hold"), Off: rapid.IntRange(0, 9).Draw(t, "off") == 0, InWindow: rapid.Bool().Draw(t, "window"),
		}
		for _, v := range rapid.SliceOfN(version, 0, 2).Draw(t, "quarantined") {
			f.Quarantined = append(f.Quarantined, id(v))
		}
		for _, v := range rapid.SliceOfN(version, 0, 2).Draw(t, "by hand") {
			f.Reverted = append(f.Reverted, id(v))
		}
		for _, v := range rapid.SliceOfN(version, 0, 3).Draw(t, "waiting") {
			if v != f.Current {
				f.Waiting = append(f.Waiting, id(v))
			}
		}
		d := policy.Decide(f)
		if d.Action == policy.Apply && slices.Contains(f.Waiting, d.Offer.ID) {
			t.Fatalf("before its turn: %+v", d)
		}
		if d.Reason == "" || (d.Action == policy.Apply) && d.Offer == nil || (d.Action == policy.Keep || d.Action == policy.Revert) && d.Offer != nil {
			t.Fatalf("%+v", d)
		}
		if f.Off && d.Action != policy.Keep {
			t.Fatalf("off, and yet %+v", d)
		}
		again := d.Offer != nil && f.Current == 0 && d.Offer.Version == f.Floor
		if f.Hold && (d.Action == policy.Apply && !again || d.Action == policy.Revert) {
			t.Fatalf("held, and yet %+v", d)
		}
		isBlocked := func(v int) (on, recall bool) {
			for _, b := range x.Blocked {
				if b.Version == v {
					return true, b.Recall
				}
			}
			return false, false
		}
		isReverted := func(v int) bool { return x.Revert != nil && v > x.Revert.To && v <= x.Revert.Below }
		_, recalled := isBlocked(f.Current)
		moved := f.Moved && !slices.ContainsFunc(x.Patches, func(p trust.Offer) bool { return p.Version == f.Current })
		wanted := f.Current > 0 && (recalled || isReverted(f.Current) && !moved)
		if d.Action == policy.Revert && !wanted {
			t.Fatalf("nobody asked: %+v", d)
		}
		if d.Offer == nil {
			return
		}
		o := *d.Offer
		if on, _ := isBlocked(o.Version); on || isReverted(o.Version) || slices.Contains(f.Quarantined, o.ID) || slices.Contains(f.Reverted, o.ID) {
			t.Fatalf("a version that must not be loaded: %+v", d)
		}
		if !slices.ContainsFunc(x.Patches, func(p trust.Offer) bool { return p.ID == o.ID }) {
			t.Fatalf("an offer of nobody: %+v", d)
		}
		if o.Version < f.Floor {
			on, _ := isBlocked(f.Floor)
			if !on && !isReverted(f.Floor) {
				t.Fatalf("below the floor %d: %+v", f.Floor, d)
			}
		}
		if o.Version <= f.Current && !wanted && !moved {
			t.Fatalf("not forward: %+v", d)
		}
		if d.Action == policy.Apply && !f.InWindow && !wanted && !again {
			t.Fatalf("outside the window: %+v", d)
		}
		// What was applied is kept by the next decision.
		if d.Action == policy.Apply {
			f.Current, f.Floor, f.Moved = o.Version, max(f.Floor, o.Version), false
			if next := policy.Decide(f); next.Action == policy.Apply || next.Action == policy.Revert {
				t.Fatalf("applied %d, then %+v", o.Version, next)
			}
		}
	})
}
