// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/series"
)

var day = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

// fixOf makes a fix that repairs CVEs and requires others.
func fixOf(id string, severity series.Severity, cves []string, requires ...string) *series.Fix {
	return &series.Fix{
		Meta: series.Meta{ID: id, CVEs: cves, Severity: severity, Requires: requires},
		Diff: &fix.Fix{ID: id, Raw: []byte(id)},
	}
}

func cve(n int) string { return fmt.Sprintf("CVE-2026-%04d", n) }

func ids(fs []*series.Fix) []string {
	out := []string{}
	for _, f := range fs {
		out = append(out, f.ID)
	}
	return out
}

// TestChoose lists what a policy does to a series of seven.
func TestChoose(t *testing.T) {
	t.Parallel()
	s := &series.Series{Fixes: []*series.Fix{
		fixOf("helper", "", nil),
		fixOf("ext4", series.High, []string{cve(1), cve(2)}),
		fixOf("tcp", series.Low, []string{cve(3)}, "helper"),
		fixOf("usb", "", []string{cve(4)}, "ext4"),
		fixOf("kvm", series.Medium, []string{cve(5)}),
		fixOf("kvm-more", series.Medium, []string{cve(6)}, "kvm"),
		fixOf("arm", series.Critical, []string{cve(7)}),
	}}
	facts := map[string]Fact{
		"kvm": {Verdict: NeedsReboot, Code: "TS4030", Why: "struct kvm grows"},
		"arm": {Verdict: IsNotAffected},
	}
	excluding := func(x Exclusion) Policy {
		x.Reason, x.Owner = "it breaks our backups", "ops"
		return Policy{Name: "db", Exclusions: []Exclusion{x}}
	}
	for _, c := range []struct {
		name   string
		policy Policy
		want   []string
		left   string
	}{
		{"security takes what it requires", Policy{}, []string{"helper", "ext4", "tcp", "usb"}, "kvm=reboot kvm-more=dragged:kvm arm=not-affected"},
		{"all", Policy{Scope: All}, []string{"helper", "ext4", "tcp", "usb"}, "kvm=reboot kvm-more=dragged:kvm arm=not-affected"},
		{
			"less severe ones, and who is required by them alone",
			Policy{MinSeverity: series.Medium},
			[]string{"ext4", "usb"},
			"helper=out-of-scope tcp=lesser kvm=reboot kvm-more=dragged:kvm arm=not-affected",
		},
		{
			"what is too mild is that before all, on the target too",
			Policy{MinSeverity: series.High},
			[]string{"ext4", "usb"},
			"helper=out-of-scope tcp=lesser kvm=lesser kvm-more=lesser arm=not-affected",
		},
		{
			"a CVE, the fix of which repairs another", excluding(Exclusion{CVE: cve(2)}),
			[]string{"helper", "tcp"},
			"ext4=excluded:" + cve(2) + " usb=dragged:ext4 kvm=reboot kvm-more=dragged:kvm arm=not-affected",
		},
		{
			"a fix that others require", excluding(Exclusion{Fix: "helper"}),
			[]string{"ext4", "usb"},
			"helper=excluded:helper tcp=dragged:helper kvm=reboot kvm-more=dragged:kvm arm=not-affected",
		},
		{
			"an exclusion that has ended", excluding(Exclusion{CVE: cve(1), Expires: day}),
			[]string{"helper", "ext4", "tcp", "usb"},
			"kvm=reboot kvm-more=dragged:kvm arm=not-affected",
		},
		{
			"an exclusion on its last day", excluding(Exclusion{CVE: cve(4), Expires: day.Add(time.Hour)}),
			[]string{"helper", "ext4", "tcp"},
			"usb=excluded:" + cve(4) + " kvm=reboot kvm-more=dragged:kvm arm=not-affected",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			sel := Choose(s, c.policy, facts, day)
			qt.Check(t, qt.DeepEquals(ids(sel.Fixes), c.want))
			left := ""
			for i, l := range sel.Left {
				if i > 0 {
					left += " "
				}
				left += fmt.Sprintf("%s=%s", l.ID, l.Kind)
				if l.By != "" {
					left += ":" + l.By
				}
			}
			qt.Check(t, qt.Equals(left, c.left))
			qt.Check(t, qt.Equals(sel.Digest, series.Digest(sel.Fixes)))
		})
	}
}

// TestARequiredFixThatCantBe: what is too mild comes back for one that requires
// it, unless it can't be live itself; then that is the reason.
func TestARequiredFixThatCantBe(t *testing.T) {
	t.Parallel()
	s := &series.Series{Fixes: []*series.Fix{
		fixOf("root", series.Low, []string{cve(1)}), fixOf("mid", series.Low, []string{cve(2)}, "root"), fixOf("top", series.High, []string{cve(3)}, "mid"),
		fixOf("mild", series.Low, []string{cve(4)}, "root"),
	}}
	p := Policy{MinSeverity: series.High}
	qt.Check(t, qt.DeepEquals(ids(Choose(s, p, nil, day).Fixes), []string{"root", "mid", "top"}))
	sel := Choose(s, p, map[string]Fact{"root": {Verdict: NeedsReboot, Code: "TS4030", Why: "it grows"}}, day)
	qt.Check(t, qt.HasLen(sel.Fixes, 0))
	var left []string
	for _, l := range sel.Left {
		left = append(left, fmt.Sprintf("%s=%s:%s", l.ID, l.Kind, l.By))
	}
	qt.Check(t, qt.DeepEquals(left, []string{"root=reboot:", "mid=dragged:root", "top=dragged:mid", "mild=lesser:"}))
	qt.Check(t, qt.Equals(sel.Left[0].Code, "TS4030"))
}

// TestSharing: the chosen fixes are the same each time; what a build makes of
// the rest is not.
func TestSharing(t *testing.T) {
	t.Parallel()
	s := &series.Series{Fixes: []*series.Fix{
		fixOf("a", series.High, []string{cve(1)}), fixOf("mild", series.Low, []string{cve(2)}), fixOf("boot", series.High, []string{cve(3)}),
		fixOf("none", series.High, []string{cve(4)}), fixOf("on-boot", series.High, []string{cve(5)}, "boot"),
	}}
	facts := map[string]Fact{"boot": {Verdict: NeedsReboot, Code: "TS4030"}, "none": {Verdict: IsNotAffected}}
	base := Policy{Name: "base", MinSeverity: series.Medium}
	without := func(id string) Policy {
		p := base
		p.Name, p.Exclusions = "without-"+id, []Exclusion{{Fix: id, Reason: "of " + id, Owner: "ops"}}
		return p
	}
	first := Choose(s, base, facts, day)
	other := base
	other.Name, other.Scope, other.SwapUnused = "other", All, true
	qt.Check(t, qt.Equals(Choose(s, other, facts, day).Sharing(), first.Sharing()), qt.Commentf("who asks does not matter"))
	reason := without("boot")
	reason.Exclusions[0].Reason, reason.Exclusions[0].Owner = "another reason", "somebody"
	qt.Check(t, qt.Equals(Choose(s, reason, facts, day).Sharing(), Choose(s, without("boot"), facts, day).Sharing()))
	seen := map[string]string{first.Sharing(): "nothing"}
	check := func(what string, sel *Selection) {
		qt.Check(t, qt.Equals(sel.Digest, first.Digest), qt.Commentf("%s", what))
		qt.Check(t, qt.Equals(seen[sel.Sharing()], ""), qt.Commentf("%s", what))
		seen[sel.Sharing()] = what
	}
	for _, id := range []string{"mild", "boot", "none", "on-boot"} {
		check("without "+id, Choose(s, without(id), facts, day))
	}
	facts["boot"] = Fact{Verdict: NeedsReboot, Code: "TS4010"}
	check("another reason to reboot", Choose(s, base, facts, day))
	facts["boot"] = Fact{Verdict: NeedsReboot, Code: "TS4030"}
	changed := *s.Fixes[2]
	changed.Diff = &fix.Fix{ID: "boot", Raw: []byte("another text")}
	s.Fixes[2] = &changed
	check("another text of what can't be live", Choose(s, base, facts, day))
}

func TestAnExploitedFixIsNeverTooMild(t *testing.T) {
	t.Parallel()
	f := fixOf("a", series.Low, []string{cve(1)})
	f.Exploited = true
	sel := Choose(&series.Series{Fixes: []*series.Fix{f}}, Policy{MinSeverity: series.High}, nil, day)
	qt.Check(t, qt.HasLen(sel.Fixes, 1))
}

func TestRequiredByNobodyKnown(t *testing.T) {
	t.Parallel()
	sel := Choose(&series.Series{Fixes: []*series.Fix{fixOf("a", "", []string{cve(1)}, "gone")}}, Policy{}, nil, day)
	qt.Assert(t, qt.HasLen(sel.Left, 1))
	qt.Check(t, qt.Equals(sel.Left[0].Kind, Dragged))
	qt.Check(t, qt.HasLen(sel.Offers(), 0), qt.Commentf("nothing that is kept would help"))
}

func TestIdleExclusionsAreTold(t *testing.T) {
	t.Parallel()
	p := Policy{Exclusions: []Exclusion{{CVE: cve(9)}, {CVE: cve(1)}, {Fix: "old", Expires: day.Add(-1)}}}
	sel := Choose(&series.Series{Fixes: []*series.Fix{fixOf("a", "", []string{cve(1)})}}, p, nil, day)
	qt.Assert(t, qt.HasLen(sel.Idle, 1))
	qt.Check(t, qt.Equals(sel.Idle[0].Name(), cve(9)))
}

// TestOffers shows the ways out: a chain that hangs on one exclusion, and a fix
// that two exclusions would both have to be lifted for.
func TestOffers(t *testing.T) {
	t.Parallel()
	s := &series.Series{Fixes: []*series.Fix{
		fixOf("a", "", []string{cve(1)}), fixOf("b", "", []string{cve(2)}), fixOf("c", "", []string{cve(3)}),
		fixOf("a2", "", []string{cve(4)}, "a"), fixOf("a3", "", []string{cve(5)}, "a2"),
		fixOf("bc", "", []string{cve(6)}, "b", "c"), fixOf("d", "", []string{cve(7)}),
	}}
	p := Policy{Exclusions: []Exclusion{{CVE: cve(1)}, {CVE: cve(2)}, {CVE: cve(3)}}}
	sel := Choose(s, p, nil, day)
	qt.Check(t, qt.DeepEquals(ids(sel.Fixes), []string{"d"}))
	qt.Check(t, qt.DeepEquals(sel.Offers(), []Offer{
		{Excluded: []string{"a"}, Dragged: []string{"a2", "a3"}, Keep: []Keep{{"a2", []string{"a"}}, {"a3", []string{"a"}}}},
		{Excluded: []string{"b", "c"}, Dragged: []string{"bc"}, Keep: []Keep{{"bc", []string{"b", "c"}}}},
	}))
}

// drawn is a series of fixes that require earlier and later ones, with facts
// and a policy.
type drawn struct {
	s     *series.Series
	p     Policy
	facts map[string]Fact
}

func draw(t *rapid.T) drawn {
	n := rapid.IntRange(1, 12).Draw(t, "fixes")
	d := drawn{s: &series.Series{}, facts: map[string]Fact{}}
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("f%d", i)
	}
	for i, id := range all {
		var cves []string
		if rapid.Bool().Draw(t, "cve") {
			cves = []string{cve(i)}
		}
		severity := rapid.SampledFrom([]series.Severity{"", series.Low, series.High}).Draw(t, "severity")
		requires := rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 2, rapid.ID[string]).Draw(t, "requires")
		d.s.Fixes = append(d.s.Fixes, fixOf(id, severity, cves, requires...))
		if v := rapid.SampledFrom([]Verdict{"", "", "", IsLive, NeedsReboot, IsNotAffected, IsError}).Draw(t, "verdict"); v != "" {
			d.facts[id] = Fact{Verdict: v}
		}
	}
	d.p.Scope = rapid.SampledFrom([]Scope{"", Security, All}).Draw(t, "scope")
	d.p.MinSeverity = rapid.SampledFrom([]series.Severity{"", series.Medium}).Draw(t, "least")
	for _, id := range rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, 3, rapid.ID[string]).Draw(t, "excluded") {
		d.p.Exclusions = append(d.p.Exclusions, Exclusion{Fix: id})
	}
	return d
}

// TestEverySelectionIsWhole: each fix is chosen or left out with a reason, what
// is chosen has all that it requires, and only what hangs on something that is
// out for good is dragged along.
func TestEverySelectionIsWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		sel := Choose(d.s, d.p, d.facts, day)
		if len(sel.Fixes)+len(sel.Left) != len(d.s.Fixes) {
			t.Fatalf("%d chosen and %d left of %d", len(sel.Fixes), len(sel.Left), len(d.s.Fixes))
		}
		left := map[string]Left{}
		for _, l := range sel.Left {
			left[l.ID] = l
		}
		for _, f := range sel.Fixes {
			for _, id := range f.Requires {
				if l, out := left[id]; out {
					t.Fatalf("%s is chosen and requires %s, which is %s", f.ID, id, l.Kind)
				}
			}
			if _, by := d.p.excludes(f, day); by != "" {
				t.Fatalf("%s is excluded and chosen", f.ID)
			}
		}
		for _, l := range sel.Left {
			if l.Kind != Dragged {
				continue
			}
			if n, out := left[l.By]; !out || n.Kind.Yields() {
				t.Fatalf("%s is dragged along by %s, which is %q", l.ID, l.By, n.Kind)
			}
			for _, need := range l.Needs {
				if left[need].Kind != Excluded {
					t.Fatalf("%s would work with %s, which is %q", l.ID, need, left[need].Kind)
				}
			}
		}
	})
}

// TestExcludingMoreNeverBringsMore holds for what a person may try.
func TestExcludingMoreNeverBringsMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		before := ids(Choose(d.s, d.p, d.facts, day).Fixes)
		d.p.Exclusions = append(d.p.Exclusions, Exclusion{Fix: rapid.SampledFrom(d.s.Fixes).Draw(t, "more").ID})
		for _, id := range ids(Choose(d.s, d.p, d.facts, day).Fixes) {
			if !slices.Contains(before, id) {
				t.Fatalf("excluding %s brought %s", d.p.Exclusions[len(d.p.Exclusions)-1].Fix, id)
			}
		}
	})
}

// TestKeepingWhatIsOfferedWorks takes each offer at its word: without the
// exclusions that it names, the fix is chosen, unless it is out of scope; with
// fewer it is not.
func TestKeepingWhatIsOfferedWorks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		d.p.Scope, d.p.MinSeverity = All, ""
		for _, o := range Choose(d.s, d.p, d.facts, day).Offers() {
			for _, k := range o.Keep {
				for skip := range len(k.Keep) + 1 {
					p := d.p
					p.Exclusions = slices.DeleteFunc(slices.Clone(p.Exclusions), func(x Exclusion) bool {
						return slices.Contains(k.Keep, x.Fix) && (skip == len(k.Keep) || x.Fix != k.Keep[skip])
					})
					got := slices.Contains(ids(Choose(d.s, p, d.facts, day).Fixes), k.Fix)
					if _, is := d.facts[k.Fix]; is && d.facts[k.Fix].Verdict != IsLive {
						continue // it was dragged first; by itself it can't be live either
					}
					if got != (skip == len(k.Keep)) {
						t.Fatalf("%s with %v kept but number %d: chosen %t", k.Fix, k.Keep, skip, got)
					}
				}
			}
		}
	})
}

func TestLeaveTakesWhatRequiresIt(t *testing.T) {
	t.Parallel()
	s := &series.Series{Fixes: []*series.Fix{
		fixOf("a", "", []string{cve(1)}), fixOf("b", "", []string{cve(2)}, "a"), fixOf("c", "", []string{cve(3)}, "b"), fixOf("d", "", []string{cve(4)}),
	}}
	sel := Choose(s, Policy{}, nil, day)
	whole := sel.Digest
	qt.Check(t, qt.DeepEquals(sel.Leave(Left{ID: "a", Kind: Reboot, Code: "TS4010"}), []string{"a", "b", "c"}))
	qt.Check(t, qt.DeepEquals(ids(sel.Fixes), []string{"d"}))
	qt.Check(t, qt.Not(qt.Equals(sel.Digest, whole)))
	qt.Check(t, qt.HasLen(sel.Leave(Left{ID: "a"}), 0), qt.Commentf("it is gone already"))
	sel.Sort(s)
	qt.Check(t, qt.Equals(sel.Left[2].By, "b"))
}
