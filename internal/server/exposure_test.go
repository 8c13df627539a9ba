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
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/store"
)

// manifest is that of a live patch with some fixes and open ones.
func manifest(fixes []livepatch.FixRef, open ...livepatch.OpenFix) *livepatch.Manifest {
	return &livepatch.Manifest{Name: "m", Fixes: fixes, Open: open}
}

// fixOf is a fix of cve(n); the modules serve it.
func fixOf(n int, modules ...string) livepatch.FixRef {
	return livepatch.FixRef{ID: fmt.Sprintf("fix-%d", n), CVEs: []string{cve(n)}, Severity: "high", Modules: modules}
}

func openFix(n int, kind string) livepatch.OpenFix {
	return livepatch.OpenFix{ID: fmt.Sprintf("fix-%d", n), CVEs: []string{cve(n)}, Severity: "high", Kind: kind}
}

func TestWhatIsOpenOnAMachine(t *testing.T) {
	t.Parallel()
	doubtful := fixOf(5)
	doubtful.Possible = doubtful.CVEs
	v1 := newCover("v1", manifest([]livepatch.FixRef{fixOf(1), fixOf(2, "ext4", "jbd2"), doubtful},
		openFix(3, livepatch.OpenReboot), openFix(4, livepatch.OpenExcluded)))
	v2 := newCover("v2", manifest([]livepatch.FixRef{fixOf(1), fixOf(2, "ext4", "jbd2"), fixOf(3), fixOf(6)}, openFix(4, livepatch.OpenExcluded)))
	pushed := map[string]api.OpenCVE{
		cve(1): {CVE: cve(1), Need: api.NeedReboot}, cve(4): {CVE: cve(4), Need: api.NeedBuild}, cve(7): {CVE: cve(7), Need: api.NeedBuild},
	}
	both := "ext4=on-disk jbd2=loaded"
	for name, c := range map[string]struct {
		runs, should *cover
		pushed       map[string]api.OpenCVE
		modules      string
		want         string
	}{
		"nothing is known":              {want: ""},
		"it runs what it should":        {runs: v1, should: v1, modules: both, want: "3 reboot, 4 policy, 5 possible"},
		"a module is in the way":        {runs: v1, should: v1, modules: "ext4=in-use jbd2=loaded", want: "2 module, 3 reboot, 4 policy, 5 possible"},
		"a module can't be had":         {runs: v1, should: v1, modules: "ext4=on-disk jbd2=blocked", want: "2 module, 3 reboot, 4 policy, 5 possible"},
		"nothing is said of a module":   {runs: v1, should: v1, modules: "jbd2=loaded", want: "2 module, 3 reboot, 4 policy, 5 possible"},
		"a newer one waits":             {runs: v1, should: v2, modules: both, want: "3 live-patch, 4 policy, 5 possible, 6 live-patch"},
		"it runs nothing":               {should: v1, want: "1 live-patch, 2 live-patch, 3 reboot, 4 policy, 5 live-patch"},
		"an update came":                {runs: v1, should: v1, pushed: pushed, modules: both, want: "3 reboot, 4 build, 5 possible, 7 build"},
		"only an update is there":       {pushed: pushed, want: "1 reboot, 4 build, 7 build"},
		"what it should have is none":   {runs: v1, modules: both, want: "3 reboot, 4 policy, 5 possible"},
		"what runs is older and better": {runs: v2, should: v1, modules: both, want: "4 policy, 5 live-patch"},
	} {
		var got []string
		for _, o := range exposed(c.runs, c.should, c.pushed, readModuleWords(c.modules)) {
			n := 0
			_, err := fmt.Sscanf(o.CVE, "CVE-2026-%d", &n)
			qt.Assert(t, qt.IsNil(err))
			got = append(got, fmt.Sprintf("%d %s", n-1000, o.Need))
		}
		slices.Sort(got)
		qt.Check(t, qt.Equals(strings.Join(got, ", "), c.want), qt.Commentf("%s", name))
	}
	// One of whose fixes one is open is open; the gravest comes first.
	second := fixOf(9, "btrfs")
	second.CVEs, second.Severity = []string{cve(1)}, "critical"
	c := newCover("v3", manifest([]livepatch.FixRef{fixOf(1), second}, openFix(3, livepatch.OpenReboot)))
	open := exposed(c, c, nil, map[string]api.ReplacementState{"btrfs": api.InUse})
	qt.Assert(t, qt.HasLen(open, 2))
	qt.Check(t, qt.Equals(open[0].CVE, cve(1)))
	qt.Check(t, qt.DeepEquals(open[0].Modules, []string{"btrfs"}))
	qt.Check(t, qt.StringContains(open[0].Why, "rmmod btrfs"))
}

// publishes publishes a live patch with one live fix and one that two fixed
// modules serve.
func (s *site) publishes(version int, selectionKey string, fixes []livepatch.FixRef, open []livepatch.OpenFix, states ...livepatch.State) store.LivePatch {
	s.t.Helper()
	m := livepatch.Manifest{
		Name: fmt.Sprintf("tsugi_v%d", version), Version: version, Format: livepatch.Format,
		Target:    livepatch.TargetRef{Name: target, Release: testKernel.Release, Arch: "x86_64", BuildID: testKernel.BuildID},
		Functions: []livepatch.Function{{Object: "vmlinux", Name: "f", Change: "changed"}}, Open: open, States: states,
	}
	served := map[string][]string{} // by module
	diffs := map[string][]byte{}
	for _, f := range fixes {
		for _, name := range f.Modules {
			served[name] = append(served[name], f.ID)
		}
		diffs[f.ID] = []byte("diff " + f.ID)
		g := f
		g.Modules = nil
		m.Fixes = append(m.Fixes, g)
	}
	lp, err := livepatch.New(m, "tsugi.ko", []byte{byte(version)}, diffs)
	qt.Assert(s.t, qt.IsNil(err))
	for name, ids := range served {
		slices.Sort(ids)
		qt.Assert(s.t, qt.IsNil(lp.AddReplacement(livepatch.Replacement{Name: name, Path: "kernel/fs/" + name + ".ko", Fixes: ids}, []byte("ko of "+name))))
	}
	for i := range fixes {
		lp.Manifest.Fixes[i].Modules = fixes[i].Modules
	}
	b, err := lp.Bytes()
	qt.Assert(s.t, qt.IsNil(err))
	row, err := s.pub.Publish(s.t.Context(), publish.PublishRequest{Artifact: b, Selection: selectionKey, Actor: "ann"})
	qt.Assert(s.t, qt.IsNil(err))
	return row
}

func TestTheFleetAnswersForAVulnerability(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	row := s.publishes(1, "", []livepatch.FixRef{fixOf(1), fixOf(2, "ext4")}, []livepatch.OpenFix{openFix(9, livepatch.OpenReboot)})
	runs := api.Patch{ID: row.ID, Name: row.Name, Version: 1, State: api.Healthy}
	hosts := map[string]*host{}
	for name, c := range map[string]struct {
		patch  api.Patch
		module api.ReplacementState
	}{"whole": {runs, api.OnDisk}, "busy": {runs, api.InUse}, "bare": {}} {
		h := s.enroll(s.token().Secret, name)
		h.report.Patch = c.patch
		if c.module != "" {
			h.report.Replacements = []api.Replacement{{Module: "ext4", State: c.module}}
		}
		h.checkIn(t)
		hosts[name] = h
	}
	who := func(f client.MachineFilter) string {
		t.Helper()
		all, err := s.admin.Machines(ctx, f)
		qt.Assert(t, qt.IsNil(err))
		var out []string
		for _, m := range all.Items {
			for _, o := range m.Open {
				out = append(out, m.Hostname+" "+string(o.Need))
			}
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	qt.Check(t, qt.Equals(who(client.MachineFilter{CVE: cve(1)}), "bare live-patch"))
	qt.Check(t, qt.Equals(who(client.MachineFilter{CVE: cve(2)}), "bare live-patch, busy module"))
	qt.Check(t, qt.Equals(who(client.MachineFilter{CVE: cve(2), Need: api.NeedModule}), "busy module"))
	qt.Check(t, qt.Equals(who(client.MachineFilter{Need: api.NeedReboot}), "bare reboot, busy reboot, whole reboot"))
	qt.Check(t, qt.Equals(who(client.MachineFilter{CVE: cve(3)}), ""))
	// What is written otherwise is not told to be open nowhere.
	qt.Check(t, qt.Equals(who(client.MachineFilter{CVE: strings.ToLower(cve(1))}), "bare live-patch"))
	for _, f := range []client.MachineFilter{{Need: "luck"}, {CVE: "2026-1001"}} {
		_, err := s.admin.Machines(ctx, f)
		refused(t, err, 422, "TS7601")
	}

	show := func(name string) *api.Machine {
		t.Helper()
		m, err := s.admin.Machine(ctx, hosts[name].enrolled.Machine)
		qt.Assert(t, qt.IsNil(err))
		return m
	}
	whole, busy := show("whole"), show("busy")
	qt.Check(t, qt.DeepEquals(whole.CVEs, []string{cve(1), cve(2)}))
	qt.Check(t, qt.DeepEquals(whole.Needs, map[api.Need]int{api.NeedReboot: 1}))
	qt.Check(t, qt.DeepEquals(busy.CVEs, []string{cve(1)}))
	qt.Check(t, qt.Equals(busy.Protection, api.Protected)) // no newer live patch would help it
	qt.Check(t, qt.StringContains(busy.Reason, "; open: 2 (1 reboot, 1 module)"))
	qt.Check(t, qt.DeepEquals(busy.Replacements, []api.Replacement{{Module: "ext4", State: api.InUse}}))
	qt.Check(t, qt.DeepEquals(show("bare").Needs, map[api.Need]int{api.NeedReboot: 1, api.NeedLivePatch: 2}))

	p, err := s.admin.Policy(ctx, "default")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(p.Open, &api.Exposure{
		Machines: 3, Needs: map[api.Need]int{api.NeedReboot: 3, api.NeedModule: 1, api.NeedLivePatch: 1}, Worst: map[string]int{"high": 3},
	}))
	_, text := do(t, "GET", s.web.URL+"/metrics", "", "", nil)
	for _, line := range []string{
		`tsugi_machines_open{need="reboot",severity="high"} 3`, `tsugi_machines_open{need="module",severity="high"} 1`,
		`tsugi_policy_choices{state="failed"} 0`, `tsugi_policy_choices_unpromoted 0`, `tsugi_exclusions_ending 0`, `tsugi_choose_failures_total 0`, "\ntsugi_choose_age_seconds ",
	} {
		qt.Check(t, qt.StringContains(string(text), line))
	}

	// The module is unloaded: what the machine says next is what counts.
	hosts["busy"].report.Replacements[0].State = api.LoadedNow
	hosts["busy"].checkIn(t)
	qt.Check(t, qt.Equals(who(client.MachineFilter{CVE: cve(2)}), "bare live-patch"))
	hosts["busy"].report.Replacements[0].Module = "two words"
	_, _, err = hosts["busy"].CheckIn(ctx, hosts["busy"].report, "")
	refused(t, err, 422, "TS7601")

	// What is pushed and not built yet is open everywhere.
	s.pushFixes(1, 2, 7)
	eventually(t, "the update is known", func() bool {
		return who(client.MachineFilter{CVE: cve(7)}) == "bare build, busy build, whole build"
	})
}

// A group whose policy is gone, and an update whose file is gone, are those
// machines' and that policy's trouble alone.
func TestOneBadPolicyStopsNothingElse(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	h := s.enroll(s.token(func(n *api.NewToken) { n.Group = "lab" }).Secret, "h")
	other := s.enroll(s.token().Secret, "other")
	other.checkIn(t)
	qt.Assert(t, qt.IsNil(s.db.Update(ctx, func(tx *store.Tx) error { return tx.SetPolicyGroup(ctx, "lab", "gone") })))
	s.pushFixes(1, 2)
	eventually(t, "a job all the same", func() bool { return len(s.queued()) == 1 })
	s.builds("default", 1, 1, 2)
	eventually(t, "the other machine hears of it", func() bool { a := other.checkIn(t); return a != nil && len(a.Keys) == 1 })
	qt.Check(t, qt.Equals(h.checkIn(t).Policy, "gone"))
	_, err := New(ctx, Options{Store: s.db, Blobs: s.files, Publish: s.pub, Jobs: s.queue, URL: s.web.URL, Key: make([]byte, 32)})
	qt.Check(t, qt.IsNil(err)) // and a server starts

	own, err := s.pub.PushUpdate(ctx, "own", true, pushedOf(t, 7), "ann")
	qt.Assert(t, qt.IsNil(err))
	_, err = s.admin.SetPolicy(ctx, api.Policy{Name: "lab", Extra: []string{"own"}})
	qt.Assert(t, qt.IsNil(err))
	eventually(t, "a job for lab", func() bool { return slices.Contains(s.queued(), "lab") })
	qt.Assert(t, qt.IsNil(s.files.Delete(ctx, "updates/"+own.Digest+".json")))
	s.pub, err = publish.New(publish.Options{Store: s.db, Blobs: s.files, Keys: s.keys, Now: s.clock}) // one that has not read it
	qt.Assert(t, qt.IsNil(err))
	s.start()
	s.pushFixes(1, 2, 3)
	eventually(t, "a job of the new update", func() bool { return s.newestJob().Title == "3 fixes for policy default" })
	all, err := s.admin.Policies(ctx)
	qt.Assert(t, qt.IsNil(err))
	states := map[string]api.ChoiceState{}
	for _, p := range all.Items {
		states[p.Name] = p.Choices[0].State
	}
	qt.Check(t, qt.DeepEquals(states, map[string]api.ChoiceState{"default": api.ChoiceBuilding, "lab": api.ChoiceFailed}))
	preview, err := s.admin.PreviewPolicy(ctx, "lab", api.PolicyQuestion{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNotNil(preview.Targets[0].Problem))
	_, text := do(t, "GET", s.web.URL+"/metrics", "", "", nil)
	qt.Check(t, qt.StringContains(string(text), `tsugi_policy_choices{state="failed"} 1`))
	qt.Check(t, qt.Not(qt.StringContains(string(text), "tsugi_choose_failures_total 0")))
}

func pushedOf(t testing.TB, n int) []byte {
	b, err := selection.Push(target, numbered(t, n), nil).Bytes()
	qt.Assert(t, qt.IsNil(err))
	return b
}

func TestPreviewTellsOfModulesAndOfWhoIsStuck(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	s.pushFixes(1, 2, 9) // 9 needs a reboot
	p, err := s.admin.Policy(ctx, "default")
	qt.Assert(t, qt.IsNil(err))
	eventually(t, "the choice is stored", func() bool { return len(s.queued()) == 1 })
	row := s.publishes(1, p.Choices[0].Selection, []livepatch.FixRef{fixOf(1), fixOf(2), fixOf(9, "ext4")}, nil, livepatch.State{ID: 7, Version: 1})
	qt.Assert(t, qt.DeepEquals(row.Policies, []string{"default"}))
	h := s.enroll(s.token().Secret, "h")
	h.report.Patch = api.Patch{ID: row.ID, Name: row.Name, Version: 1, State: api.Healthy}
	h.report.Replacements = []api.Replacement{{Module: "ext4", State: api.OnDisk}}
	h.checkIn(t)

	without9 := api.PolicyQuestion{Exclude: []api.Exclusion{{CVE: cve(9), Reason: "r", Owner: "ann"}}}
	preview, err := s.admin.PreviewPolicy(ctx, "default", without9)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(preview.Targets[0].Same)) // the chosen fixes are, the live patch is not
	qt.Check(t, qt.IsTrue(preview.Targets[0].Build))
	qt.Check(t, qt.DeepEquals(preview.Targets[0].Modules, []api.ModulePreview{{Module: "ext4", Fixes: []string{"fix-9"}, CVEs: []string{cve(9)}, Machines: 1}}))

	// Another policy has that live patch, without the state of the first.
	_, err = s.admin.SetPolicy(ctx, api.Policy{Name: "db", Exclusions: without9.Exclude})
	qt.Assert(t, qt.IsNil(err))
	eventually(t, "a job for db", func() bool { return slices.Contains(s.queued(), "db") })
	db, err := s.admin.Policy(ctx, "db")
	qt.Assert(t, qt.IsNil(err))
	second := s.publishes(2, db.Choices[0].Selection, []livepatch.FixRef{fixOf(1), fixOf(2)}, nil)
	qt.Assert(t, qt.DeepEquals(second.Policies, []string{"db"}))
	preview, err = s.admin.PreviewPolicy(ctx, "db", api.PolicyQuestion{Groups: []string{"g"}})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(preview.Targets[0].Stuck, "state 7"))
	qt.Check(t, qt.Equals(preview.Targets[0].Modules[0].Comes, false))

	// Back: the fixed module would come.
	preview, err = s.admin.PreviewPolicy(ctx, "db", api.PolicyQuestion{Include: []string{cve(9)}})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(preview.Targets[0].Modules, []api.ModulePreview{{Module: "ext4", Comes: true, Fixes: []string{"fix-9"}, CVEs: []string{cve(9)}}}))
}

func TestPolicyShowTellsWhatMachinesKeep(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	s.pushFixes(1, 2)
	eventually(t, "a job", func() bool { return len(s.queued()) == 1 })
	first := s.builds("default", 1, 1, 2)
	choice := func() api.PolicyChoice {
		t.Helper()
		p, err := s.admin.Policy(ctx, "default")
		qt.Assert(t, qt.IsNil(err))
		return p.Choices[0]
	}
	qt.Check(t, qt.Equals(choice().Keeps, ""))
	_, text := do(t, "GET", s.web.URL+"/metrics", "", "", nil)
	qt.Check(t, qt.StringContains(string(text), "tsugi_policy_choices_unpromoted 1"))
	ends := s.clock().Add(time.Hour).UnixMilli()
	_, err := s.admin.Exclude(ctx, "default", api.Exclude{Exclusions: []api.Exclusion{{CVE: cve(1), Reason: "r", Owner: "ann", Expires: ends}}})
	qt.Assert(t, qt.IsNil(err))
	c := choice() // fix-2 needs fix-1: nothing is left
	qt.Check(t, qt.Equals(c.State, api.ChoiceEmpty))
	qt.Check(t, qt.Equals(c.Keeps, first.ID))
	qt.Check(t, qt.Equals(c.KeepsExcluded, cve(1)))
	x, err := s.pub.Index(ctx, "edge", testKernel.BuildID, "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(x.Patches, 0))

	// A rebuild is for what is chosen.
	_, err = s.admin.RebuildPolicy(ctx, "default", "")
	refused(t, err, 409, "TS7909")
	s.shift.Store(int64(61 * time.Minute))
	qt.Assert(t, qt.IsNil(s.choose(ctx)))
	got, err := s.admin.RebuildPolicy(ctx, "default", "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got.Targets, []string{target}))
	eventually(t, "it is built again", func() bool { return len(s.queued()) == 2 && s.newestJob().State == api.JobQueued })
	qt.Assert(t, qt.IsNil(s.choose(context.WithoutCancel(ctx))))
	qt.Check(t, qt.HasLen(s.queued(), 2))
}
