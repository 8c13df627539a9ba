// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

// aFix is a fix of a file of its own; n also numbers its CVE.
func aFix(t testing.TB, n int) *series.Fix {
	id := fmt.Sprintf("fix-%d", n)
	d, err := fix.Parse(id, fmt.Appendf(nil, "--- a/fs/%d.c\n+++ b/fs/%d.c\n@@ -1 +1 @@\n-a\n+b\n", n, n))
	qt.Assert(t, qt.IsNil(err))
	return &series.Fix{Meta: series.Meta{ID: id, CVEs: []string{cve(n)}, Severity: series.High}, Diff: d}
}

func cve(n int) string { return fmt.Sprintf("CVE-2026-%d", 1000+n) }

func seriesOf(t testing.TB, name string, numbers ...int) *series.Series {
	s := &series.Series{Name: name, From: "6.1.190-1", To: "6.1.192-1"}
	for _, n := range numbers {
		s.Fixes = append(s.Fixes, aFix(t, n))
	}
	return s
}

func (p *plant) push(name string, extra bool, s *series.Series, facts map[string]selection.Fact) {
	p.t.Helper()
	b, err := selection.Push(target, s, facts).Bytes()
	qt.Assert(p.t, qt.IsNil(err))
	_, err = p.PushUpdate(p.t.Context(), name, extra, b, "ann")
	qt.Assert(p.t, qt.IsNil(err))
}

func (p *plant) policy(name string, change ...func(*selection.Policy)) {
	p.t.Helper()
	q := selection.Policy{Name: name}
	for _, f := range change {
		f(&q)
	}
	qt.Assert(p.t, qt.IsNil(p.ChangePolicy(p.t.Context(), name, "ann", func(selection.Policy, bool) (selection.Policy, string, error) {
		return q, "", nil
	})))
}

func without(n int, expires time.Time) func(*selection.Policy) {
	return func(p *selection.Policy) {
		p.Exclusions = append(p.Exclusions, selection.Exclusion{CVE: cve(n), Reason: "breaks nfs", Owner: "ann", Expires: expires})
	}
}

// choose lists what is to be built, as "policies: fixes".
func (p *plant) choose() ([]Wanted, []string) {
	p.t.Helper()
	all, err := p.Choose(p.t.Context())
	qt.Assert(p.t, qt.IsNil(err))
	var out []string
	for _, w := range all {
		out = append(out, strings.Join(w.Policies, " ")+": "+strings.Join(p.chosen(w), " "))
	}
	return all, out
}

// chosen is what a worker chooses by what it is told.
func (p *plant) chosen(w Wanted) (ids []string) {
	var sources []selection.Source
	for _, d := range w.Updates {
		b, err := p.Pushed(p.t.Context(), d)
		qt.Assert(p.t, qt.IsNil(err))
		_, s, known, err := selection.ReadPushed(b)
		qt.Assert(p.t, qt.IsNil(err))
		sources = append(sources, selection.Source{Series: s, Facts: known})
	}
	c, err := selection.From(sources, w.Policy, w.At)
	qt.Assert(p.t, qt.IsNil(err))
	qt.Assert(p.t, qt.Equals(selection.Key(c.Selection.Sharing(), w.Again), w.Selection))
	for _, f := range c.Selection.Fixes {
		ids = append(ids, f.ID)
	}
	return ids
}

// build publishes the live patch of what is wanted.
func (p *plant) build(w Wanted, version int) store.LivePatch {
	p.t.Helper()
	row, err := p.Publish(p.t.Context(), PublishRequest{Artifact: fixing(p.t, version, p.chosen(w)...), Selection: w.Selection, Actor: "job:1"})
	qt.Assert(p.t, qt.IsNil(err))
	return row
}

// fixing is a live patch of some fixes of aFix.
func fixing(t testing.TB, version int, ids ...string) []byte {
	m := livepatch.Manifest{
		Name: fmt.Sprintf("tsugi_v%d", version), Version: version,
		Target:    livepatch.TargetRef{Name: target, Release: "6.1.0-55-amd64", Arch: "x86_64", BuildID: buildID},
		Functions: []livepatch.Function{{Object: "vmlinux", Name: "f", Change: "changed"}},
	}
	diffs := map[string][]byte{}
	for _, id := range ids {
		n := 0
		_, err := fmt.Sscanf(id, "fix-%d", &n)
		qt.Assert(t, qt.IsNil(err))
		m.Fixes = append(m.Fixes, livepatch.FixRef{ID: id, CVEs: []string{cve(n)}})
		diffs[id] = []byte("diff " + id)
	}
	lp, err := livepatch.New(m, "tsugi.ko", []byte{byte(version)}, diffs)
	qt.Assert(t, qt.IsNil(err))
	b, err := lp.Bytes()
	qt.Assert(t, qt.IsNil(err))
	return b
}

// offers is what a policy's machines of a tier are offered, and the number of
// the index.
func (p *plant) offers(u *updater.Updater, tier, policy string) ([]int, int64) {
	p.t.Helper()
	qt.Assert(p.t, qt.IsNil(u.Refresh(p.t.Context())))
	x, err := u.Index(p.t.Context(), tier, buildID, policy)
	qt.Assert(p.t, qt.IsNil(err))
	if x == nil {
		return nil, 0
	}
	return versions(x), x.Sequence
}

func TestPoliciesThatChooseAlikeShareALivePatch(t *testing.T) {
	p := newPlant(t)
	u := p.machine()
	offers := func(policy string, want ...int) int64 {
		t.Helper()
		got, n := p.offers(u, "edge", policy)
		qt.Check(t, qt.DeepEquals(got, want), qt.Commentf("policy %s", policy))
		return n
	}
	ends := p.clock().Add(48 * time.Hour)
	p.policy("db", without(2, ends))
	p.policy("web", func(q *selection.Policy) { q.Description = "like the default one" })
	_, none := p.choose()
	qt.Check(t, qt.HasLen(none, 0)) // nothing is pushed
	p.push("update", false, seriesOf(t, "6.1.192-1", 1, 2, 3), map[string]selection.Fact{"fix-3": {Verdict: selection.NeedsReboot}})

	wanted, said := p.choose()
	qt.Assert(t, qt.DeepEquals(said, []string{"db: fix-1", "default web: fix-1 fix-2"}))
	_, again := p.choose()
	qt.Check(t, qt.DeepEquals(again, said))

	row := p.build(wanted[1], 1)
	qt.Check(t, qt.DeepEquals(row.Policies, []string{"default", "web"}))
	first := offers("", 1)
	offers("web", 1)
	offers("db")
	p.build(wanted[0], 2)
	qt.Check(t, qt.Equals(offers("", 1), first)) // nothing new for its machines
	offers("db", 2)
	_, none = p.choose()
	qt.Check(t, qt.HasLen(none, 0))

	// A policy comes to a selection that there is a newer live patch of: it
	// shares it, and is not offered any more what it excludes now.
	p.policy("web", without(2, time.Time{}))
	_, none = p.choose()
	qt.Check(t, qt.HasLen(none, 0))
	offers("web", 2)
	// Back again: the live patch of that is below what its machines have had.
	p.policy("web")
	wanted, said = p.choose()
	qt.Assert(t, qt.DeepEquals(said, []string{"web: fix-1 fix-2"}))
	_, err := p.Publish(t.Context(), PublishRequest{Artifact: artifact(t, 2), Actor: "bob", Policies: []string{"web"}})
	qt.Check(t, qt.Equals(code.Of(err), "TS7702"))
	row = p.build(wanted[0], 3)
	qt.Check(t, qt.DeepEquals(row.Policies, []string{"web"}))
	offers("web", 1, 2, 3)
	qt.Check(t, qt.Equals(offers("", 1), first))

	// A block is told to everybody.
	_, err = p.Block(t.Context(), row.ID, "oopses", true, "ann")
	qt.Assert(t, qt.IsNil(err))
	for _, policy := range []string{"", "db", "web"} {
		p.offers(u, "edge", policy)
		x, err := u.Index(t.Context(), "edge", buildID, policy)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(x.Blocked, []trust.BlockRef{{ID: row.ID, Version: 3, Reason: "oopses", Recall: true}}), qt.Commentf("policy %q", policy))
	}

	// The exclusion ends by itself. What it leads to is blocked: it is not built
	// once more, and shared when the block is taken back.
	p.later(49 * time.Hour)
	qt.Assert(t, qt.IsNil(p.Refresh(t.Context())))
	_, none = p.choose()
	qt.Check(t, qt.HasLen(none, 0))
	offers("db", 2)
	_, err = p.Unblock(t.Context(), row.ID, "ann")
	qt.Assert(t, qt.IsNil(err))
	_, none = p.choose()
	qt.Check(t, qt.HasLen(none, 0))
	offers("db", 2, 3)
	entries, err := p.db.AuditEntries(t.Context(), store.AuditFilter{Object: "db"})
	qt.Assert(t, qt.IsNil(err))
	var actions []string
	for _, e := range slices.Backward(entries) {
		actions = append(actions, e.Actor+" "+e.Action)
	}
	qt.Check(t, qt.DeepEquals(actions, []string{"ann policy.set", "server policy.choose", "server policy.choose", "server policy.share"}))
}

func TestAPolicyComesToATierWithItsLivePatch(t *testing.T) {
	p := newPlant(t)
	u := p.machine()
	p.push("update", false, seriesOf(t, "u", 1, 2), nil)
	wanted, _ := p.choose()
	old := p.build(wanted[0], 1)
	_, err := p.Promote(t.Context(), old.ID, "beta", "ann")
	qt.Assert(t, qt.IsNil(err))
	p.policy("default", without(1, time.Time{}))
	wanted, said := p.choose()
	qt.Assert(t, qt.DeepEquals(said, []string{"default: fix-2"}))
	p.build(wanted[0], 2)
	edge, _ := p.offers(u, "edge", "")
	beta, _ := p.offers(u, "beta", "")
	qt.Check(t, qt.DeepEquals(edge, []int{2}))
	qt.Check(t, qt.HasLen(beta, 0)) // who has it keeps it; nobody else gets what the policy excludes
	// When the exclusion has ended, it can be had again.
	p.policy("default", without(1, p.clock().Add(time.Hour)))
	_, _ = p.choose()
	beta, _ = p.offers(u, "beta", "")
	qt.Check(t, qt.HasLen(beta, 0))
	p.later(2 * time.Hour)
	_, _ = p.choose()
	beta, _ = p.offers(u, "beta", "")
	qt.Check(t, qt.DeepEquals(beta, []int{1}))
	// Also when the server was off in that moment.
	p.policy("default", without(1, p.clock().Add(time.Hour)))
	_, _ = p.choose()
	p.later(2 * time.Hour)
	p.Service = p.replica()
	_, _ = p.choose()
	beta, _ = p.offers(u, "beta", "")
	qt.Check(t, qt.DeepEquals(beta, []int{1}))
	p.policy("default", without(1, time.Time{}))
	beta, _ = p.offers(u, "beta", "")
	qt.Check(t, qt.HasLen(beta, 0))
	err = p.AuthoriseRevert(t.Context(), target, "edge", "default", 1, "slow", "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7714")) // nor is it what one goes back to
	// A person may not publish by hand what the policy excludes.
	for _, policies := range [][]string{nil, {"default"}} {
		_, err = p.Publish(t.Context(), PublishRequest{Artifact: fixing(t, 3, "fix-1"), Actor: "ann", Policies: policies})
		qt.Check(t, qt.Equals(code.Of(err), "TS7906"))
	}
	_, err = p.Publish(t.Context(), PublishRequest{Artifact: fixing(t, 3, "fix-1"), Actor: "ann", Policies: []string{"nobody"}})
	qt.Check(t, qt.Equals(code.Of(err), "TS7902"))
	p.policy("brave")
	row, err := p.Publish(t.Context(), PublishRequest{Artifact: fixing(t, 3, "fix-1"), Actor: "ann"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(row.Policies, []string{"brave"})) // all that exclude nothing of it

	// The revert of one policy is none of another's.
	qt.Assert(t, qt.IsNil(p.AuthoriseRevert(t.Context(), target, "edge", "brave", 0, "r", "ann")))
	p.offers(u, "edge", "")
	x, err := u.Index(t.Context(), "edge", buildID, "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(x.Revert))
	x, err = u.Index(t.Context(), "edge", buildID, "brave")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(x.Revert.Below, 3))
	qt.Check(t, qt.Equals(x.Policy, "brave"))

	p.policy("brave", func(q *selection.Policy) { q.SwapUnused = true })
	p.offers(u, "edge", "")
	x, err = u.Index(t.Context(), "edge", buildID, "brave")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(x.SwapUnused))

	qt.Assert(t, qt.IsNil(p.SetGroups(t.Context(), "brave", []string{"lab"}, "ann")))
	qt.Check(t, qt.Equals(code.Of(p.DeletePolicy(t.Context(), "brave", "ann")), "TS7903"))
	qt.Check(t, qt.Equals(code.Of(p.DeletePolicy(t.Context(), "default", "ann")), "TS7903"))
	qt.Assert(t, qt.IsNil(p.SetGroups(t.Context(), "default", []string{"lab"}, "ann")))
	qt.Assert(t, qt.IsNil(p.DeletePolicy(t.Context(), "brave", "ann")))
	gone, _ := p.offers(u, "edge", "brave")
	qt.Check(t, qt.HasLen(gone, 0))
	qt.Check(t, qt.Equals(code.Of(p.DeletePolicy(t.Context(), "brave", "ann")), "TS7902"))
	qt.Check(t, qt.Equals(code.Of(p.SetGroups(t.Context(), "brave", []string{"lab"}, "ann")), "TS7902"))
}

func TestExtraSeriesAreForThoseThatNameThem(t *testing.T) {
	p := newPlant(t)
	p.push("update", false, seriesOf(t, "u", 1), nil)
	p.push("own", true, seriesOf(t, "own", 7), nil)
	p.policy("lab", func(q *selection.Policy) { q.Extra = []string{"own"} })
	_, said := p.choose()
	qt.Check(t, qt.DeepEquals(said, []string{"default: fix-1", "lab: fix-1 fix-7"}))

	// One id is one fix.
	b, err := selection.Push(target, seriesOf(t, "third", 7), nil).Bytes()
	qt.Assert(t, qt.IsNil(err))
	_, err = p.PushUpdate(t.Context(), "third", true, b, "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7901"))
	_, err = p.PushUpdate(t.Context(), "../x", true, b, "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7901"))

	qt.Assert(t, qt.IsNil(p.DeleteUpdate(t.Context(), target, "own", "ann")))
	qt.Check(t, qt.Equals(code.Of(p.DeleteUpdate(t.Context(), target, "own", "ann")), "TS7904"))
	_, said = p.choose()
	qt.Check(t, qt.DeepEquals(said, []string{"default lab: fix-1"}))
	qt.Assert(t, qt.IsNil(p.DeleteUpdate(t.Context(), target, "update", "ann")))
	_, said = p.choose()
	qt.Check(t, qt.HasLen(said, 0))
	choices, err := p.db.Choices(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(choices, 0))
}

func TestABundleIsForThePoliciesOfItsMachines(t *testing.T) {
	p := newPlant(t)
	p.push("update", false, seriesOf(t, "u", 1, 2), nil)
	p.policy("db", without(2, time.Time{}))
	wanted, _ := p.choose()
	qt.Assert(t, qt.HasLen(wanted, 2))
	p.build(wanted[0], 1) // db
	p.build(wanted[1], 2) // default
	mine, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	other, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	file, err := p.Bundle(t.Context(), nil, "edge", []Recipient{{Key: mine.Recipient(), Policy: "db"}, {Key: other.Recipient(), Policy: "default"}}, "ann")
	qt.Assert(t, qt.IsNil(err))
	b, err := trust.ReadBundle(file)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(b.Info.Policy(mine.Recipient()), "db"))
	qt.Check(t, qt.Equals(b.Info.Policy(other.Recipient()), ""))
	for who, want := range map[trust.Identity]int{mine: 1, other: 2} {
		keys, err := b.Keys(who.Recipient())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(keys, 1))
		offers, _ := p.offers(p.machineAt(t.TempDir(), b), "edge", b.Info.Policy(who.Recipient()))
		qt.Check(t, qt.DeepEquals(offers, []int{want}))
		qt.Check(t, qt.Not(qt.Equals(keys[trust.PatchID(target, want)], "")))
	}
}

// What a bundle carries is what its index leads machines to: not what the policy
// excludes by now, nor what is reverted.
func TestABundleHoldsWhatItsIndexOffers(t *testing.T) {
	p := newPlant(t)
	for v, ids := range [][]string{{"fix-1"}, {"fix-1", "fix-2"}, {"fix-1", "fix-2", "fix-3"}} {
		_, err := p.Publish(t.Context(), PublishRequest{Artifact: fixing(t, v+1, ids...), Actor: "ann"})
		qt.Assert(t, qt.IsNil(err))
	}
	mine, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	holds := func(want int) {
		t.Helper()
		file, err := p.Bundle(t.Context(), nil, "edge", []Recipient{{Key: mine.Recipient(), Policy: "default"}}, "ann")
		qt.Assert(t, qt.IsNil(err))
		b, err := trust.ReadBundle(file)
		qt.Assert(t, qt.IsNil(err))
		keys, err := b.Keys(mine.Recipient())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(slices.Sorted(maps.Keys(keys)), []string{trust.PatchID(target, want)}))
	}
	holds(3)
	p.policy("default", without(3, time.Time{}))
	holds(2)
	qt.Assert(t, qt.IsNil(p.AuthoriseRevert(t.Context(), target, "edge", "", 1, "x", "ann")))
	holds(1)
}

// TestACorrectedAttributionIsExcludedToo: a live patch that is there does not
// know that one of its fixes is what the policy excludes.
func TestACorrectedAttributionIsExcludedToo(t *testing.T) {
	p := newPlant(t)
	u := p.machine()
	s := seriesOf(t, "u", 1, 2)
	p.push("update", false, s, nil)
	p.policy("default", without(9, time.Time{}))
	wanted, _ := p.choose()
	p.build(wanted[0], 1)
	offers, _ := p.offers(u, "edge", "")
	qt.Assert(t, qt.DeepEquals(offers, []int{1}))
	s.Fixes[0].CVEs = []string{cve(9)}
	p.push("update", false, s, nil)
	_, said := p.choose()
	qt.Check(t, qt.DeepEquals(said, []string{"default: fix-2"}))
	offers, _ = p.offers(u, "edge", "")
	qt.Check(t, qt.HasLen(offers, 0))
	_, err := p.Publish(t.Context(), PublishRequest{Artifact: fixing(t, 3, "fix-1"), Actor: "ann"})
	qt.Check(t, qt.Equals(code.Of(err), "TS7906"))
}

// A build makes more than the chosen fixes: fixed modules of those that need a
// reboot, and spare ones that turn out to be needed. Who excludes one of these
// has a live patch of its own.
func TestPoliciesThatExcludeOtherwiseDoNotShare(t *testing.T) {
	p := newPlant(t)
	p.push("update", false, seriesOf(t, "u", 1, 2, 3), map[string]selection.Fact{"fix-3": {Verdict: selection.NeedsReboot}})
	p.policy("db", without(3, time.Time{}))
	p.policy("web", func(q *selection.Policy) { q.Description = "as default" })
	wanted, said := p.choose()
	qt.Assert(t, qt.DeepEquals(said, []string{"db: fix-1 fix-2", "default web: fix-1 fix-2"}))
	qt.Check(t, qt.Not(qt.Equals(wanted[0].Selection, wanted[1].Selection)))

	// The belt: whatever the selection says, nobody is given what he excludes.
	row, err := p.Publish(t.Context(), PublishRequest{Artifact: fixing(t, 1, "fix-1", "fix-3"), Selection: wanted[0].Selection, Actor: "job:1"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(row.Policies, 0))
	_, again := p.choose()
	qt.Check(t, qt.DeepEquals(again, []string{"default web: fix-1 fix-2"}))
	row, err = p.db.LivePatch(t.Context(), row.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(row.Policies, 0))
}

func TestAPolicyThatIsMadeAgainHasItsIndexesAgain(t *testing.T) {
	p := newPlant(t)
	u := p.machine()
	p.push("update", false, seriesOf(t, "u", 1, 2), nil)
	p.policy("db", without(2, time.Time{}))
	wanted, _ := p.choose()
	p.build(wanted[0], 1)
	was, n := p.offers(u, "edge", "db")
	qt.Assert(t, qt.DeepEquals(was, []int{1}))
	qt.Assert(t, qt.IsNil(p.DeletePolicy(t.Context(), "db", "ann")))
	gone, _ := p.offers(u, "edge", "db")
	qt.Check(t, qt.HasLen(gone, 0))
	p.policy("db", without(2, time.Time{}))
	_, said := p.choose()
	qt.Check(t, qt.DeepEquals(said, []string{"default: fix-1 fix-2"}))
	back, m := p.offers(u, "edge", "db")
	qt.Check(t, qt.DeepEquals(back, []int{1}))
	qt.Check(t, qt.IsTrue(m > n), qt.Commentf("index %d after %d", m, n))
}

func TestOneBadUpdateDoesNotStopTheOthers(t *testing.T) {
	p := newPlant(t)
	p.push("update", false, seriesOf(t, "u", 1, 2), nil)
	p.push("own", true, seriesOf(t, "own", 7), nil)
	p.policy("lab", func(q *selection.Policy) { q.Extra = []string{"own"} })
	_, said := p.choose()
	qt.Assert(t, qt.DeepEquals(said, []string{"default: fix-1 fix-2", "lab: fix-1 fix-2 fix-7"}))
	before, err := p.db.Choices(t.Context())
	qt.Assert(t, qt.IsNil(err))

	updates, err := p.db.Updates(t.Context(), target)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(p.blobs.Delete(t.Context(), pushedName(updates[1].Digest))))
	p.policy("default", without(1, time.Time{}))
	wanted, err := p.replica().Choose(t.Context()) // one that has not read it yet
	qt.Check(t, qt.ErrorMatches(err, "(?s)policy lab for "+target+": update own .*"))
	qt.Assert(t, qt.HasLen(wanted, 1))
	qt.Check(t, qt.DeepEquals(p.chosen(wanted[0]), []string{"fix-2"}))
	after, err := p.db.Choices(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(after, 2))
	qt.Check(t, qt.DeepEquals(after[1], before[1])) // what lab chose before stays

	selected, err := p.replica().Select(t.Context(), selection.Policy{Name: "lab", Extra: []string{"own"}}, p.clock())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(selected, 1))
	qt.Check(t, qt.IsNotNil(selected[0].Err))
}

func TestAChoiceIsBuiltAgainWhenSomebodyAsks(t *testing.T) {
	p := newPlant(t)
	u := p.machine()
	p.push("update", false, seriesOf(t, "u", 1, 2), nil)
	p.policy("db", without(2, time.Time{}))
	p.policy("web", func(q *selection.Policy) { q.Description = "as default" })
	wanted, _ := p.choose()
	p.build(wanted[0], 1)
	old := p.build(wanted[1], 2)
	_, err := p.Block(t.Context(), old.ID, "oopses", false, "ann")
	qt.Assert(t, qt.IsNil(err))
	_, said := p.choose()
	qt.Assert(t, qt.HasLen(said, 0)) // what is blocked is not built again by itself
	targets, err := p.Rebuild(t.Context(), "default", "", "ann")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(targets, []string{target}))
	wanted, said = p.choose()
	qt.Assert(t, qt.DeepEquals(said, []string{"default web: fix-1 fix-2"})) // those that share it too, and no others
	qt.Check(t, qt.Equals(wanted[0].Again, 1))
	row := p.build(wanted[0], 3)
	qt.Check(t, qt.DeepEquals(row.Policies, []string{"default", "web"}))
	offers, _ := p.offers(u, "edge", "")
	qt.Check(t, qt.DeepEquals(offers, []int{3}))
	_, said = p.choose()
	qt.Check(t, qt.HasLen(said, 0))

	for policy, want := range map[string]string{"nobody": "TS7902", "db": ""} {
		_, err = p.Rebuild(t.Context(), policy, target, "ann")
		qt.Check(t, qt.Equals(string(code.Of(err)), want))
	}
	_, err = p.Rebuild(t.Context(), "db", "debian:6.1.0-54-amd64", "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7909"))
}

// meddler is storage in whose reads something else happens.
type meddler struct {
	blob.Store
	meanwhile func()
}

func (m *meddler) Open(ctx context.Context, name string) (io.ReadSeekCloser, blob.Info, error) {
	if do := m.meanwhile; do != nil && strings.HasPrefix(name, updateDir) {
		m.meanwhile = nil
		do()
	}
	return m.Store.Open(ctx, name)
}

// Another server may change what a choice is made from while it is made.
func TestNoChoiceIsMadeFromWhatIsNoMore(t *testing.T) {
	p := newPlant(t)
	p.push("update", false, seriesOf(t, "u", 1, 2), nil)
	m := &meddler{Store: p.blobs, meanwhile: func() { p.policy("default", without(2, time.Time{})) }}
	s, err := New(Options{Store: p.db, Blobs: m, Keys: p.set.Keys, Now: p.clock})
	qt.Assert(t, qt.IsNil(err))
	wanted, err := s.Choose(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(wanted, 1))
	qt.Check(t, qt.DeepEquals(p.chosen(wanted[0]), []string{"fix-1"}))
	choices, err := p.db.Choices(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(choices, 1))
	qt.Check(t, qt.Equals(choices[0].Selection, wanted[0].Selection))

	// Nor is a fix pushed that another series has got meanwhile.
	p.push("other", true, seriesOf(t, "o", 6), nil)
	m.meanwhile = func() { p.push("third", true, seriesOf(t, "t", 7), nil) }
	s.read = nil // it has to read what it checks against
	b, err := selection.Push(target, seriesOf(t, "own", 7), nil).Bytes()
	qt.Assert(t, qt.IsNil(err))
	_, err = s.PushUpdate(t.Context(), "own", true, b, "ann")
	qt.Check(t, qt.Equals(code.Of(err), "TS7901"))
}

func TestWhatIsPushedGoesWhenItIsReplaced(t *testing.T) {
	p := newPlant(t)
	has := func(digest string) bool {
		_, err := p.Pushed(t.Context(), digest)
		return err == nil
	}
	var digests []string
	for i := range 3 {
		p.push("update", false, seriesOf(t, "u", i+1), nil)
		updates, err := p.db.Updates(t.Context(), target)
		qt.Assert(t, qt.IsNil(err))
		digests = append(digests, updates[0].Digest)
	}
	// The second is still asked for by a job.
	job, err := p.db.CreateJob(t.Context(), store.Job{Kind: "build", Target: target, Selection: "s", Spec: fmt.Appendf(nil, `{"update":{"series":[%q]}}`, digests[1])})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(p.Prune(t.Context())))
	qt.Check(t, qt.DeepEquals([]bool{has(digests[0]), has(digests[1]), has(digests[2])}, []bool{true, true, true})) // not yet: somebody may be reading it
	p.later(8 * 24 * time.Hour)
	qt.Assert(t, qt.IsNil(p.Prune(t.Context())))
	qt.Check(t, qt.DeepEquals([]bool{has(digests[0]), has(digests[1]), has(digests[2])}, []bool{false, true, true}))
	qt.Assert(t, qt.IsNil(p.db.CancelJob(t.Context(), job.ID)))
	qt.Assert(t, qt.IsNil(p.Prune(t.Context())))
	qt.Check(t, qt.DeepEquals([]bool{has(digests[0]), has(digests[1]), has(digests[2])}, []bool{false, false, true}))
}
