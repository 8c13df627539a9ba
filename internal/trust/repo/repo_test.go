// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

var start = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

func keys(t testing.TB, n int) (out []*trust.Key) {
	for range n {
		k, err := trust.GenerateKey()
		qt.Assert(t, qt.IsNil(err))
		out = append(out, k)
	}
	return out
}

func public(k ...*trust.Key) (out []trust.PublicKey) {
	for _, k := range k {
		out = append(out, k.Public())
	}
	return out
}

// sample is a root of three keys of which two must sign, and the online keys.
func sample(t testing.TB) (root *Root, people, online []*trust.Key) {
	people, online = keys(t, 3), keys(t, 4)
	root = &Root{Version: 1, Expires: start.AddDate(2, 0, 0), Roles: map[string]Role{
		RoleRoot: {public(people...), 2}, RoleTargets: {public(online[0]), 1}, RoleSnapshot: {public(online[1]), 1}, RoleTimestamp: {public(online[2]), 1},
	}}
	return root, people, online
}

func signed(t testing.TB, r *Root, k ...*trust.Key) []byte {
	b, err := r.Bytes()
	qt.Assert(t, qt.IsNil(err))
	b, err = SignRoot(b, k...)
	qt.Assert(t, qt.IsNil(err))
	return b
}

func check(t *rapid.T, c qt.Checker, comments ...qt.Comment) {
	if err := c.Check(func(string, any) {}); err != nil {
		t.Fatalf("%v %v", err, comments)
	}
}

// follows checks by go-tuf that a machine with this root accepts a repository.
func follows(t testing.TB, root []byte, r *Repo, now time.Time) {
	m, err := trustedmetadata.New(root)
	qt.Assert(t, qt.IsNil(err))
	m.RefTime = now
	files := r.ByRole()
	_, err = m.UpdateTimestamp(files[RoleTimestamp])
	qt.Assert(t, qt.IsNil(err))
	_, err = m.UpdateSnapshot(files[RoleSnapshot], false)
	qt.Assert(t, qt.IsNil(err))
	_, err = m.UpdateTargets(files[RoleTargets])
	qt.Assert(t, qt.IsNil(err))
	for _, tier := range r.Tiers() {
		_, err = m.UpdateDelegatedTargets(files[trust.TierRole(tier)], trust.TierRole(tier), RoleTargets)
		qt.Assert(t, qt.IsNil(err))
	}
}

// TestWhateverIsDoneMachinesFollow lets a repository live through random days:
// after each step it is whole, no version goes back, and it can be opened
// again from its files.
func TestWhateverIsDoneMachinesFollow(t *testing.T) {
	spec, people, online := sample(t)
	root := signed(t, spec, people[:2]...)
	rapid.Check(t, func(rt *rapid.T) {
		now := start
		ring := Keyring(slices.Clone(online))
		r, err := New(root, ring, DefaultLifetimes(), []Tier{{"edge", public(online[3])}})
		check(rt, qt.IsNil(err))
		_, err = r.Sign(now)
		check(rt, qt.IsNil(err))
		was := r.Versions()
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			tier := rapid.SampledFrom([]string{"edge", "beta", "stable"}).Draw(rt, "tier")
			switch rapid.SampledFrom([]string{"set", "remove", "wait", "tier", "rotate", "drop", "advance", "bundle"}).Draw(rt, "do") {
			case "set":
				path := fmt.Sprintf("%s/%d.json", tier, rapid.IntRange(0, 3).Draw(rt, "file"))
				err := r.SetTarget(tier, path, TargetOf([]byte(path+rapid.StringN(0, 4, 8).Draw(rt, "content"))))
				check(rt, qt.Equals(err == nil, slices.Contains(r.Tiers(), tier)))
			case "remove":
				r.RemoveTarget(tier, tier+"/1.json")
			case "wait":
				now = now.Add(time.Duration(rapid.IntRange(1, 40*24*60).Draw(rt, "minutes")) * time.Minute)
			case "tier":
				there := slices.Contains(r.Tiers(), tier)
				err := r.AddTier(Tier{tier, public(online[3])})
				check(rt, qt.Equals(err != nil, there))
			case "rotate":
				k, err := trust.GenerateKey()
				check(rt, qt.IsNil(err))
				ring = append(ring, k)
				r.UseKeys(ring)
				check(rt, qt.Equals(r.RotateTier(tier, public(k)) == nil, slices.Contains(r.Tiers(), tier)))
			case "drop":
				if tier != "edge" {
					r.RemoveTier(tier)
				}
			case "advance":
				r.Advance(now)
			case "bundle":
				_, err := r.Sign(now)
				check(rt, qt.IsNil(err))
				_, err = r.Bundle(now, 30*24*time.Hour)
				check(rt, qt.IsNil(err))
			}
			_, err := r.Sign(now)
			check(rt, qt.IsNil(err))
			again, err := r.Sign(now)
			check(rt, qt.IsNil(err))
			check(rt, qt.HasLen(again, 0)) // once is enough
			for role, v := range r.Versions() {
				check(rt, qt.IsTrue(v >= was[role]), qt.Commentf("%s went from %d to %d", role, was[role], v))
				was[role] = v
			}
			follows(t, root, r, now)
			opened, err := Open(r.ByRole(), ring, DefaultLifetimes())
			check(rt, qt.IsNil(err))
			check(rt, qt.DeepEquals(opened.Versions(), r.Versions()))
			check(rt, qt.DeepEquals(opened.Targets("edge"), r.Targets("edge")))
			r = opened
		}
	})
}

func TestARootNeedsEnoughOfItsPeople(t *testing.T) {
	spec, people, _ := sample(t)
	one := signed(t, spec, people[0])
	qt.Check(t, qt.Equals(code.Of(VerifyRoot(one)), "TS7131"))
	other := signed(t, spec, people[2])
	both, err := MergeRoots(one, other)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(VerifyRoot(both)))
	ids, err := SignedBy(both, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(ids, 2))
	again, err := SignRoot(both, people[0]) // signing twice counts once
	qt.Assert(t, qt.IsNil(err))
	ids, err = SignedBy(again, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(ids, 2))

	spec.Version = 3
	_, err = MergeRoots(both, signed(t, spec, people[1]))
	qt.Check(t, qt.Equals(code.Of(err), "TS7131"))
	qt.Check(t, qt.Equals(code.Of(VerifySuccessor(both, signed(t, spec, people...))), "TS7131")) // version 2 is left out
	spec.Version = 2
	qt.Check(t, qt.IsNil(VerifySuccessor(both, signed(t, spec, people[1:]...))))
	qt.Check(t, qt.Equals(code.Of(VerifySuccessor(both, signed(t, spec, people[1]))), "TS7131"))

	fresh := keys(t, 1)
	spec.Roles[RoleRoot] = Role{public(fresh...), 1}
	qt.Check(t, qt.Equals(code.Of(VerifySuccessor(both, signed(t, spec, people[0], people[1]))), "TS7131")) // the new key did not sign
	qt.Check(t, qt.Equals(code.Of(VerifySuccessor(both, signed(t, spec, fresh...))), "TS7131"))             // nor the old ones
	next := signed(t, spec, people[0], people[1], fresh[0])
	qt.Check(t, qt.IsNil(VerifySuccessor(both, next)))
	read, err := ReadRoot(next)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(read.Roles[RoleRoot].Keys[0].ID(), fresh[0].ID()))
}

func TestRootsThatBreakARuleAreRefused(t *testing.T) {
	for name, edit := range map[string]func(*Root){
		"version zero":            func(r *Root) { r.Version = 0 },
		"no timestamp key":        func(r *Root) { delete(r.Roles, RoleTimestamp) },
		"more signers than keys":  func(r *Root) { r.Roles[RoleRoot] = Role{r.Roles[RoleRoot].Keys, 4} },
		"a threshold of zero":     func(r *Root) { r.Roles[RoleRoot] = Role{r.Roles[RoleRoot].Keys, 0} },
		"one key counted twice":   func(r *Root) { k := r.Roles[RoleRoot].Keys[0]; r.Roles[RoleRoot] = Role{[]trust.PublicKey{k, k}, 2} },
		"a role that TUF has not": func(r *Root) { r.Roles["mirrors"] = r.Roles[RoleRoot] },
	} {
		t.Run(name, func(t *testing.T) {
			spec, _, _ := sample(t)
			edit(spec)
			_, err := spec.Bytes()
			qt.Check(t, qt.Equals(code.Of(err), "TS7131"))
		})
	}
}

func TestWhatCanNotBeSignedIsSaid(t *testing.T) {
	spec, people, online := sample(t)
	root := signed(t, spec, people[:2]...)
	for i, role := range []string{RoleTargets, RoleSnapshot, RoleTimestamp, "tier-edge"} {
		r, err := New(root, slices.Delete(slices.Clone(online), i, i+1), DefaultLifetimes(), []Tier{{"edge", public(online[3])}})
		qt.Assert(t, qt.IsNil(err))
		_, err = r.Sign(start)
		qt.Check(t, qt.Equals(code.Of(err), "TS7130"))
		qt.Check(t, qt.StringContains(err.Error(), role))
	}
	r, err := New(root, online, DefaultLifetimes(), nil)
	qt.Assert(t, qt.IsNil(err))
	_, err = r.Sign(start.AddDate(3, 0, 0))
	qt.Check(t, qt.Equals(code.Of(err), "TS7113"))
	_, err = New(signed(t, spec, people[0]), online, DefaultLifetimes(), nil)
	qt.Check(t, qt.Equals(code.Of(err), "TS7131"))
	spec.Version, spec.Expires = 2, start.AddDate(-1, 0, 0)
	_, err = r.Sign(start)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(code.Of(r.ImportRoot(signed(t, spec, people...), start)), "TS7131"))
}

func FuzzReadRoot(f *testing.F) {
	spec, people, _ := sample(f)
	f.Add(signed(f, spec, people...))
	f.Add([]byte(`{"signed":{"_type":"root","roles":{"root":null},"keys":{"a":null}},"signatures":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadRoot(b)
		if err != nil && code.Of(err) == "" {
			t.Fatalf("%v", err)
		}
		if err == nil && r == nil {
			t.Fatal("nothing")
		}
		for _, err := range []error{VerifyRoot(b), VerifySuccessor(b, b)} {
			if err != nil && code.Of(err) == "" {
				t.Fatalf("%v", err)
			}
		}
		if _, err := SignRoot(b, people[0]); err != nil && code.Of(err) == "" {
			t.Fatalf("%v", err)
		}
	})
}
