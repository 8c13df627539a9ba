// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/notify"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/store"
)

// unkept is what a machine says whose keeper does not run.
var unkept = api.Problem{Code: "TS9440", What: "what keeps live patches in processes does not run on this machine"}

// TestAMachineThatFailsWithAPackageFails: wherever a kernel's failure counts.
func TestAMachineThatFailsWithAPackageFails(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	ctx := t.Context()
	kernel, p := s.publishVersion(1), s.publishPackage(openssl, 1, 1)
	token := s.token(func(in *api.NewToken) { in.Group = "web" }).Secret
	add := func(name string, change func(*api.CheckIn, *api.Package)) *host {
		h := s.enroll(token, name)
		h.report.Patch = api.Patch{ID: kernel.ID, Name: kernel.Name, Version: 1, State: api.Healthy}
		x := with(openssl, p, api.Processes{Protected: 3})
		change(&h.report, &x)
		h.report.Packages = append(h.report.Packages, x)
		h.checkIn(t)
		return h
	}
	in := func(state api.State, problem api.Problem) func(*api.CheckIn, *api.Package) {
		return func(_ *api.CheckIn, x *api.Package) { x.Patch.State, x.Patch.Problem = state, &problem }
	}
	hosts := map[string]*host{
		"crashed": add("crashed", in(api.Quarantined, api.Problem{Code: "TS9503", What: "nginx was ended by SIGSEGV"})),
		"refused": add("refused", in(api.Blocked, api.Problem{Code: "TS9661", What: "the disk is full"})),
		"unkept":  add("unkept", func(c *api.CheckIn, _ *api.Package) { c.Problems = []api.Problem{unkept} }),
	}
	whole := add("whole", func(*api.CheckIn, *api.Package) {})
	add("liar", func(c *api.CheckIn, x *api.Package) { // nothing is published for it
		y := unpatched(postgres)
		y.Patch.State = api.Blocked
		c.Packages = []api.Package{y}
	})
	s.recount()

	for name, reason := range map[string]string{
		"crashed": openssl.Name + ": nginx was ended by SIGSEGV", "refused": openssl.Name + ": the disk is full",
		"unkept": openssl.Name + ": what keeps live patches in processes does not run on this machine",
	} {
		m, err := s.admin.Machine(ctx, hosts[name].enrolled.Machine)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(m.Protection, api.Failing), qt.Commentf("%s", name))
		qt.Check(t, qt.Equals(m.Reason, reason))
		qt.Check(t, qt.Equals(m.Packages[0].Protection, api.Failing))
	}
	// What it had fixed is open again, though nothing else is there for it.
	d := read[api.CVEDetail](s, "/v1/cves/"+cve(1))
	qt.Check(t, qt.DeepEquals(d.Open, map[api.Need]int{api.NeedLivePatch: 2}))
	m, err := s.admin.Machine(ctx, hosts["crashed"].enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(m.Needs, map[api.Need]int{api.NeedLivePatch: 1}))
	list, err := s.admin.Machines(ctx, client.MachineFilter{Protection: api.Failing})
	qt.Assert(t, qt.IsNil(err))
	var names []string
	for _, m := range list.Items {
		names = append(names, m.Hostname)
	}
	qt.Check(t, qt.ContentEquals(names, []string{"crashed", "refused", "unkept"}))
	list, err = s.admin.Machines(ctx, client.MachineFilter{Protection: api.Protected})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(list.Items, 2))

	o := read[api.Overview](s, "/v1/overview")
	qt.Check(t, qt.Equals(o.Protections[api.Failing], 3))
	qt.Check(t, qt.Equals(o.Protections[api.Protected], 2))
	qt.Check(t, qt.Equals(counted(t, s, `tsugi_machines{protection="failing"}`), 3))
	qt.Check(t, qt.Equals(counted(t, s, `tsugi_package_machines{protection="failing",target="`+openssl.Name+`"}`), 3))
	var f notify.Facts
	qt.Assert(t, qt.IsNil(s.machineFacts(ctx, &f)))
	qt.Check(t, qt.DeepEquals(f.Groups, []notify.GroupFacts{{Group: "web", Machines: 5, Failing: 3, Packages: []string{openssl.Name}}}))
	qt.Assert(t, qt.IsNil(s.takeSample(ctx)))
	h := read[api.History](s, "/v1/history?days=1")
	qt.Check(t, qt.Equals(h.Samples[len(h.Samples)-1].Protections[api.Failing], 3))

	// It is asked for in a rollout only where it can be had.
	p2 := s.publishPackage(openssl, 2, 1, 2)
	eventually(t, "the preview knows the live patch", func() bool {
		look, err := s.admin.PreviewRollout(ctx, api.NewRollout{LivePatch: p2.ID, Tier: "edge", Plan: quickPlan()})
		qt.Assert(t, qt.IsNil(err))
		return look.Bars["unable"] == 1
	})

	// A recall makes those fail that have it, until it is out.
	whole.checkIn(t)
	_, err = s.admin.Block(ctx, p.ID, api.Block{Reason: "it crashes nginx", Recall: true})
	qt.Assert(t, qt.IsNil(err))
	_, err = s.admin.Block(ctx, p2.ID, api.Block{Reason: "it crashes nginx", Recall: true})
	qt.Assert(t, qt.IsNil(err))
	failing := func() api.Protection {
		m, err := s.admin.Machine(ctx, whole.enrolled.Machine)
		qt.Assert(t, qt.IsNil(err))
		return m.Protection
	}
	eventually(t, "the recall is known", func() bool { return failing() == api.Failing })
	whole.report.Packages = []api.Package{unpatched(openssl)}
	whole.checkIn(t)
	qt.Check(t, qt.Equals(failing(), api.Protected))

	// The problem ends, and the word with it.
	hosts["unkept"].report.Problems, hosts["unkept"].report.Packages = nil, []api.Package{unpatched(openssl)}
	hosts["unkept"].checkIn(t)
	m, err = s.admin.Machine(ctx, hosts["unkept"].enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(m.Protection, api.Protected))
}

// TestWhatIsPushedForAPackageIsOpen: until a live patch has it, and for those alone
// whose processes map the package.
func TestWhatIsPushedForAPackageIsOpen(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	p := s.publishPackage(openssl, 1, 1)
	token := s.token().Secret
	has, lacks := s.enroll(token, "has"), s.enroll(token, "lacks")
	has.report.Packages = []api.Package{with(openssl, p, api.Processes{Protected: 1})}
	has.checkIn(t)
	lacks.checkIn(t)
	update, err := selection.Push(openssl.Name, numbered(t, 1, 7), nil).Bytes()
	qt.Assert(t, qt.IsNil(err))
	_, err = s.pub.PushUpdate(ctx, "openssl", false, update, "ann")
	qt.Assert(t, qt.IsNil(err))
	needs := func(h *host) map[api.Need]int {
		m, err := s.admin.Machine(ctx, h.enrolled.Machine)
		qt.Assert(t, qt.IsNil(err))
		return m.Needs
	}
	eventually(t, "the update is known", func() bool { return len(needs(has)) > 0 })
	qt.Check(t, qt.DeepEquals(needs(has), map[api.Need]int{api.NeedBuild: 1}))
	qt.Check(t, qt.HasLen(needs(lacks), 0))
	s.recount()
	d := read[api.CVEDetail](s, "/v1/cves/"+cve(7))
	qt.Check(t, qt.DeepEquals(d.Open, map[api.Need]int{api.NeedBuild: 1}))

	// Who chooses for the package is told how many machines that concerns.
	policy, err := s.admin.Policy(ctx, "default")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(policy.Choices, 1))
	qt.Check(t, qt.Equals(policy.Choices[0].Machines, 1))
	qt.Check(t, qt.Equals(policy.Machines, 2))
	preview, err := s.admin.PreviewPolicy(ctx, "default", api.PolicyQuestion{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(preview.Targets, 1))
	qt.Check(t, qt.DeepEquals(preview.Targets[0].Tiers, map[string]int{"edge": 1}))
}

// TestTargetsOfPackages: a package is listed while anything is there for it or
// named, and only counts whom it has to do with.
func TestTargetsOfPackages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	targets := func() map[string]api.TargetInfo {
		s.recount()
		out := map[string]api.TargetInfo{}
		for _, x := range read[api.List[api.TargetInfo]](s, "/v1/targets").Items {
			out[x.Target] = x
		}
		return out
	}
	token := s.token().Secret
	a, b := s.enroll(token, "a"), s.enroll(token, "b")
	for _, h := range []*host{a, b} {
		h.report.Packages = []api.Package{unpatched(openssl), unpatched(postgres)}
		h.checkIn(t)
	}
	qt.Check(t, qt.HasLen(targets(), 1)) // nothing is published: what they say may be made up
	p := s.publishPackage(openssl, 1, 1)
	_, err := s.admin.SetWindow(ctx, openssl.Name, api.SetWindow{Until: s.clock().AddDate(0, 1, 0).UnixMilli(), Note: "until the upgrade"})
	qt.Assert(t, qt.IsNil(err))
	var now map[string]api.TargetInfo
	eventually(t, "it is listed", func() bool { now = targets(); return now[openssl.Name].Machines == 2 })
	lib := now[openssl.Name]
	qt.Check(t, qt.DeepEquals([]any{lib.Release, lib.Patches, lib.Newest, lib.Window.Note}, []any{"", 1, p.ID, "until the upgrade"}))
	qt.Check(t, qt.DeepEquals(lib.Tiers, map[string]int{"edge": 2}))
	qt.Check(t, qt.DeepEquals(lib.Protections, map[api.Protection]int{api.Unprotected: 2}))
	_, there := now[postgres.Name]
	qt.Check(t, qt.IsFalse(there))
	qt.Check(t, qt.Equals(now[testKernel.Release].Machines, 2))

	// A machine that is no more counts no more, in no view.
	a.report.Packages = []api.Package{with(openssl, p, api.Processes{Protected: 2})}
	a.checkIn(t)
	qt.Assert(t, qt.IsNil(s.admin.Decommission(ctx, a.enrolled.Machine)))
	qt.Check(t, qt.DeepEquals(targets()[openssl.Name].Protections, map[api.Protection]int{api.Unprotected: 1}))
	got, err := s.admin.LivePatch(ctx, p.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(got.Machines, 0))
	gone, err := s.admin.Machine(ctx, a.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(gone.Protection, api.Gone))
	qt.Check(t, qt.HasLen(gone.Open, 0))
	eventually(t, "the vulnerability's page counts it no more", func() bool {
		s.recount()
		d := read[api.CVEDetail](s, "/v1/cves/"+cve(1))
		return d.Fleet == 1 && d.Machines == 1
	})

	// The package stays listed when its only live patch is blocked.
	_, err = s.admin.Block(ctx, p.ID, api.Block{Reason: "no"})
	qt.Assert(t, qt.IsNil(err))
	eventually(t, "nothing is offered", func() bool { return targets()[openssl.Name].Protections[api.NotCovered] == 1 })
	qt.Check(t, qt.Equals(targets()[openssl.Name].Newest, ""))
}

// TestADumpHasThePackages: a server that starts on what was restored says the
// same of every machine, and hands out the same keys and catalogue.
func TestADumpHasThePackages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	p := s.publishPackage(openssl, 1, 1, 2)
	h := s.enroll(s.token().Secret, "web-1")
	x := with(openssl, p, api.Processes{Protected: 7, Pending: 1, Unprotected: 2})
	x.Reasons = []api.ProcessReason{{Problem: api.Problem{Code: "TS9608", What: "a seccomp filter forbids mmap"}, Processes: 2, Program: "sshd"}}
	h.report.Packages = []api.Package{x, unpatched(postgres)}
	answer := h.checkIn(t)
	_, err := h.Report(ctx, []api.Report{{ID: "1", Time: 1, Kind: api.ReportHealth, Kernel: testKernel, Patch: x.Patch}})
	qt.Assert(t, qt.IsNil(err))
	s.recount()
	before, err := s.admin.Machine(ctx, h.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	targets := read[api.List[api.TargetInfo]](s, "/v1/targets")

	var d bytes.Buffer
	qt.Assert(t, qt.IsNil(s.db.Dump(ctx, &d)))
	dsn := "sqlite:" + filepath.Join(t.TempDir(), "restored")
	qt.Assert(t, qt.IsNil(store.Restore(ctx, dsn, &d)))
	r := &site{t: t, dir: s.dir, log: &bytes.Buffer{}, files: s.files, secret: s.secret, root: s.root, keys: s.keys}
	r.db, err = store.Open(ctx, dsn, store.WithClock(r.clock))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(r.db.Close())) })
	r.pub, err = publish.New(publish.Options{Store: r.db, Blobs: s.files, Keys: s.keys, Now: r.clock})
	qt.Assert(t, qt.IsNil(err))
	r.start()
	after, err := r.admin.Machine(ctx, h.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	after.Seen = before.Seen
	qt.Check(t, qt.DeepEquals(after, before))
	qt.Check(t, qt.IsTrue(slices.ContainsFunc(after.Open, func(o api.OpenCVE) bool { return o.Need == api.NeedRestart })))
	qt.Check(t, qt.DeepEquals(read[api.List[api.TargetInfo]](r, "/v1/targets"), targets))
	got, err := r.admin.LivePatch(ctx, p.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got.Machines, map[string]int{"healthy": 1}))

	h.Client = r.client(h.enrolled.Credential)
	h.etag = ""
	again := h.checkIn(t)
	qt.Check(t, qt.Equals(again.Catalogue, answer.Catalogue))
	qt.Check(t, qt.DeepEquals(again.Packages, answer.Packages))
	qt.Check(t, qt.Not(qt.Equals(again.Keys[p.ID], "")))
}

// TestWhoIsCountedOfAPackage: machines look only for what their tier has, and who
// reads a number is told of which tiers it is.
func TestWhoIsCountedOfAPackage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	listed := func() map[string][]string {
		got := map[string][]string{}
		for _, x := range read[api.List[api.TargetInfo]](s, "/v1/targets").Items {
			got[x.Target] = x.ListedIn
		}
		return got
	}
	s.publishVersion(1)
	p := s.publishPackage(openssl, 1, 1)
	qt.Check(t, qt.DeepEquals(listed(), map[string][]string{target: nil, openssl.Name: {"edge"}}))
	_, err := s.admin.Promote(t.Context(), p.ID, "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(listed()[openssl.Name], []string{"edge", "beta"}))
}
