// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
)

func cve(n int) string { return fmt.Sprintf("CVE-2026-%d", 1000+n) }

// numbered are fixes of one file and one CVE each; the second one needs the first.
func numbered(t testing.TB, numbers ...int) *series.Series {
	all := &series.Series{Name: "u", From: "6.1.190-1", To: "6.1.192-1"}
	for i, n := range numbers {
		id := fmt.Sprintf("fix-%d", n)
		d, err := fix.Parse(id, fmt.Appendf(nil, "--- a/fs/%d.c\n+++ b/fs/%d.c\n@@ -1 +1 @@\n-a\n+b\n", n, n))
		qt.Assert(t, qt.IsNil(err))
		f := &series.Fix{Meta: series.Meta{ID: id, CVEs: []string{cve(n)}, Severity: series.High}, Diff: d}
		if i == 1 {
			f.Requires = []string{all.Fixes[0].ID}
		}
		all.Fixes = append(all.Fixes, f)
	}
	return all
}

// pushFixes pushes numbered fixes.
func (s *site) pushFixes(numbers ...int) *api.Update {
	s.t.Helper()
	all := numbered(s.t, numbers...)
	b, err := selection.Push(target, all, map[string]selection.Fact{"fix-9": {Verdict: selection.NeedsReboot, Code: "TS5103"}}).Bytes()
	qt.Assert(s.t, qt.IsNil(err))
	u, err := s.admin.PushUpdate(s.t.Context(), "update", false, b)
	qt.Assert(s.t, qt.IsNil(err))
	return u
}

// queued lists the jobs of selections, as their policies, the oldest first.
func (s *site) queued() (out []string) {
	s.t.Helper()
	all, err := s.admin.Jobs(s.t.Context(), "", "", 100)
	qt.Assert(s.t, qt.IsNil(err))
	for _, j := range slices.Backward(all.Items) {
		out = append(out, strings.Join(j.Policies, " "))
	}
	return out
}

// builds publishes the live patch of what a policy chooses, as its job would.
func (s *site) builds(policy string, version int, fixes ...int) store.LivePatch {
	s.t.Helper()
	p, err := s.admin.Policy(s.t.Context(), policy)
	qt.Assert(s.t, qt.IsNil(err))
	m := livepatch.Manifest{
		Name: fmt.Sprintf("tsugi_v%d", version), Version: version,
		Target:    livepatch.TargetRef{Name: target, Release: testKernel.Release, Arch: "x86_64", BuildID: testKernel.BuildID},
		Functions: []livepatch.Function{{Object: "vmlinux", Name: "f", Change: "changed"}},
	}
	diffs := map[string][]byte{}
	for _, n := range fixes {
		id := fmt.Sprintf("fix-%d", n)
		m.Fixes = append(m.Fixes, livepatch.FixRef{ID: id, CVEs: []string{cve(n)}})
		diffs[id] = []byte("diff " + id)
	}
	lp, err := livepatch.New(m, "tsugi.ko", []byte{byte(version)}, diffs)
	qt.Assert(s.t, qt.IsNil(err))
	b, err := lp.Bytes()
	qt.Assert(s.t, qt.IsNil(err))
	row, err := s.pub.Publish(s.t.Context(), publish.PublishRequest{Artifact: b, Selection: p.Choices[0].Selection, Actor: "job:1"})
	qt.Assert(s.t, qt.IsNil(err))
	return row
}

func TestMachinesFollowThePolicyOfTheirGroup(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	plain := s.enroll(s.token().Secret, "plain")
	db := s.enroll(s.token(func(n *api.NewToken) { n.Group = "db" }).Secret, "db")
	qt.Check(t, qt.Equals(db.checkIn(t).Policy, ""))
	plain.checkIn(t)
	s.pushFixes(1, 2, 9)
	_, err := s.admin.SetPolicy(ctx, api.Policy{Name: "databases"})
	qt.Assert(t, qt.IsNil(err))
	eventually(t, "one job for both policies", func() bool {
		return slices.Equal(s.queued(), []string{"databases default"}) || slices.Equal(s.queued(), []string{"default"})
	})
	first := s.builds("default", 1, 1, 2)
	eventually(t, "both policies have it", func() bool {
		p, err := s.admin.LivePatch(ctx, first.ID)
		return err == nil && slices.Equal(p.Policies, []string{"databases", "default"})
	})

	// Excluding says before what it drags along, and for how many machines.
	question := api.PolicyQuestion{Exclude: []api.Exclusion{{CVE: cve(1), Reason: "stalls", Owner: "ann"}}, Groups: []string{"db"}}
	preview, err := s.admin.PreviewPolicy(ctx, "databases", question)
	qt.Assert(t, qt.IsNil(err))
	was := preview.Targets[0]
	var goes []string
	for _, l := range was.Goes {
		goes = append(goes, l.ID+" "+l.Kind+" "+strings.Join(l.Needs, ","))
	}
	qt.Check(t, qt.DeepEquals(goes, []string{"fix-1 excluded ", "fix-2 dragged fix-1"}))
	qt.Check(t, qt.Equals(was.Machines, 1))
	qt.Check(t, qt.DeepEquals(was.Tiers, map[string]int{"edge": 1}))
	qt.Check(t, qt.Equals(was.OpenCVEs, 3))
	qt.Check(t, qt.Equals(was.Fixes, 0))
	_, err = s.admin.PreviewPolicy(ctx, "nosuch", api.PolicyQuestion{})
	refused(t, err, 404, "TS7902")
	_, err = s.admin.PreviewPolicy(ctx, "databases", api.PolicyQuestion{Include: []string{cve(7)}})
	refused(t, err, 404, "TS7905")

	// The group's machines hear of their policy, and of its end before it comes.
	ends := s.clock().Add(6 * 24 * time.Hour).UnixMilli()
	_, err = s.admin.Exclude(ctx, "databases", api.Exclude{Exclusions: []api.Exclusion{{CVE: cve(2), Reason: "stalls", Owner: "ann", Expires: ends}}})
	qt.Assert(t, qt.IsNil(err))
	woken := make(chan bool, 1)
	db.checkIn(t)
	go func() {
		yes, err := db.Wait(context.WithoutCancel(ctx), db.etag, 30*time.Second)
		woken <- yes && err == nil
	}()
	_, err = s.admin.SetPolicyGroups(ctx, "databases", []string{"db"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(<-woken))
	a := db.checkIn(t)
	qt.Assert(t, qt.IsNotNil(a))
	qt.Check(t, qt.Equals(a.Policy, "databases"))
	qt.Check(t, qt.DeepEquals(a.Ending, []api.Ending{{Name: cve(2), Reason: "stalls", Ends: ends}}))
	_, err = s.admin.SetPolicyGroups(ctx, "nosuch", []string{"db"})
	refused(t, err, 404, "TS7902")

	// Its live patch is for it alone; nobody else gets the key.
	eventually(t, "the job of the exclusion", func() bool { return slices.Contains(s.queued(), "databases") })
	second := s.builds("databases", 2, 1)
	eventually(t, "the index of the policy", func() bool {
		a := db.checkIn(t)
		return a != nil && a.Keys[second.ID] != ""
	})
	plain.etag, db.etag = "", ""
	qt.Check(t, qt.DeepEquals(keysOf(plain.checkIn(t)), []string{first.ID}))
	qt.Check(t, qt.DeepEquals(keysOf(db.checkIn(t)), []string{second.ID})) // the first holds what it excludes now

	// A machine that had the other policy's live patch goes to its own.
	db.report.Patch = api.Patch{ID: first.ID, Name: first.Name, Version: 1, State: api.Healthy}
	db.checkIn(t)
	m, err := s.admin.Machine(ctx, db.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(m.Policy, "databases"))
	qt.Check(t, qt.Equals(m.Protection, api.Outdated))
	qt.Check(t, qt.Equals(m.Target, second.ID))
	db.report.Patch = api.Patch{ID: second.ID, Name: second.Name, Version: 2, State: api.Healthy, Policy: "databases"}
	db.checkIn(t)
	_, err = s.admin.SetPolicyGroups(ctx, "default", []string{"db"})
	qt.Assert(t, qt.IsNil(err))
	eventually(t, "the machine is to go down to the default policy's", func() bool {
		m, err := s.admin.Machine(ctx, db.enrolled.Machine)
		return err == nil && m.Protection == api.Outdated && m.Target == first.ID
	})
	db.report.Patch.Policy = "../x"
	_, _, err = db.CheckIn(ctx, db.report, "")
	refused(t, err, 422, "TS7601")
}

func keysOf(a *api.Assignment) (ids []string) {
	for id := range a.Keys {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func TestAnExclusionEndsByItself(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	s.pushFixes(1, 2)
	ends := s.clock().Add(time.Hour).UnixMilli()
	_, err := s.admin.Exclude(ctx, "default", api.Exclude{Exclusions: []api.Exclusion{{CVE: cve(2), Reason: "stalls", Owner: "ann", Expires: ends}}})
	qt.Assert(t, qt.IsNil(err))
	chosen := func() int {
		p, err := s.admin.Policy(ctx, "default")
		qt.Assert(t, qt.IsNil(err))
		return p.Choices[0].Fixes
	}
	qt.Check(t, qt.Equals(chosen(), 1))
	eventually(t, "a job for one fix", func() bool { return len(s.queued()) > 0 && s.newestJob().Title == "1 fix for policy default" })
	s.builds("default", 1, 1)
	jobs := len(s.queued())
	waiting, err := s.admin.Jobs(ctx, api.JobQueued, "", 100) // the job of the choice before has gone
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(waiting.Items, 1))

	s.shift.Store(int64(61 * time.Minute))
	qt.Assert(t, qt.IsNil(s.choose(ctx))) // as every minute
	qt.Check(t, qt.Equals(chosen(), 2))
	qt.Check(t, qt.HasLen(s.queued(), jobs+1))
	qt.Check(t, qt.Equals(s.newestJob().Title, "2 fixes for policy default"))
	qt.Assert(t, qt.IsNil(s.choose(ctx))) // and no second time
	qt.Check(t, qt.HasLen(s.queued(), jobs+1))

	// A job that was cancelled is tried again when the same is pushed again.
	job := s.newestJob()
	_, err = s.admin.CancelJob(ctx, job.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(s.choose(ctx)))
	p, err := s.admin.Policy(ctx, "default")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(p.Choices[0].State, api.ChoiceFailed))
	s.shift.Store(int64(62 * time.Minute))
	s.pushFixes(1, 2)
	qt.Assert(t, qt.IsNil(s.choose(ctx)))
	qt.Check(t, qt.Not(qt.Equals(s.newestJob().ID, job.ID)))
	entries, err := s.db.AuditEntries(ctx, store.AuditFilter{Action: "policy.choose"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(len(entries) >= 2))
}

func (s *site) newestJob() api.Job {
	s.t.Helper()
	all, err := s.admin.Jobs(s.t.Context(), "", "", 1)
	qt.Assert(s.t, qt.IsNil(err))
	return all.Items[0]
}

func TestWhatIsPushedIsChecked(t *testing.T) {
	s := newSite(t)
	for name, body := range map[string]string{
		"nothing": "", "no JSON": "x", "another format": `{"format":2}`, "no fix": `{"format":1,"target":"debian:x","fixes":[]}`,
		"a broken diff": `{"format":1,"target":"debian:x","fixes":[{"id":"a","diff":"--- a/x\n"}]}`,
		"a bad verdict": `{"format":1,"target":"debian:x","fixes":[{"id":"a","diff":"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n","fact":{"verdict":"maybe"}}]}`,
		"unknown words": `{"format":1,"target":"debian:x","fixes":[],"x":1}`,
	} {
		_, err := s.admin.PushUpdate(t.Context(), "update", false, []byte(body))
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%s", name))
	}
	u := s.pushFixes(1, 2, 9)
	qt.Check(t, qt.Equals(u.Fixes, 3))
	qt.Check(t, qt.Equals(u.Reboot, 1))
	qt.Check(t, qt.Equals(u.To, "6.1.192-1"))
	worker, err := s.admin.CreateOperator(t.Context(), api.NewOperator{Name: "build-7", Role: "worker"})
	qt.Assert(t, qt.IsNil(err))
	b, err := s.client(worker.Secret).Series(t.Context(), u.Digest)
	qt.Assert(t, qt.IsNil(err))
	_, there, _, err := selection.ReadPushed(b)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(there.Fixes, 3))
	_, err = s.client(worker.Secret).Series(t.Context(), strings.Repeat("0", 64))
	qt.Check(t, qt.IsNotNil(err))
	qt.Assert(t, qt.IsNil(s.admin.DeleteUpdate(t.Context(), target, "update")))
	refused(t, s.admin.DeleteUpdate(t.Context(), target, "update"), 404, "TS7904")
}
