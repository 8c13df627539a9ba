// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// openssl and postgres are packages that live patches of tests are for.
var (
	openssl  = livepatch.TargetRef{Name: "debian:libssl3=3.0.20-1~deb12u2", PackageVersion: "3.0.20-1~deb12u2", Arch: "x86_64"}
	postgres = livepatch.TargetRef{Name: "debian:postgresql-15=15.18-0+deb12u1", PackageVersion: "15.18-0+deb12u1", Arch: "x86_64"}
)

// publishPackage publishes a live patch of a package with a fix of each CVE.
func (s *site) publishPackage(of livepatch.TargetRef, version int, cves ...int) *api.LivePatch {
	s.t.Helper()
	const name, path = "libssl.so.3", "/usr/lib/x86_64-linux-gnu/libssl.so.3"
	id := of.ID()[:40]
	f := &splice.File{
		Format: splice.Format, BuildID: id, Name: name, Path: path,
		Segments: []splice.Segment{{Vaddr: 0x1000, Memsz: 0x1000, Filesz: 0x1000, Flags: 5}},
		Text:     bytes.Repeat([]byte{byte(version)}, 16),
		Functions: []splice.Function{
			{Name: "f", Old: 0x1100, Size: 32, Room: 32, SHA256: strings.Repeat("0", 64), NewSize: 16, Policy: splice.Quiescent},
		},
	}
	raw, err := f.Encode()
	qt.Assert(s.t, qt.IsNil(err))
	m := livepatch.Manifest{
		Name: "tsugi_package", Version: version, Target: of, Compiler: "gcc 12.2.0", Builder: "tsugi 1",
		Functions: []livepatch.Function{{Object: name, Name: "f", Change: "changed"}},
		Files:     []livepatch.FileRef{{BuildID: id, Name: name, Path: path, Package: "libssl3"}},
	}
	diffs := map[string][]byte{}
	for _, n := range cves {
		m.Fixes = append(m.Fixes, fixOf(n))
		diffs[fixOf(n).ID] = []byte("diff")
	}
	lp, err := livepatch.NewUserland(m, map[string][]byte{id: raw}, diffs)
	qt.Assert(s.t, qt.IsNil(err))
	b, err := lp.Bytes()
	qt.Assert(s.t, qt.IsNil(err))
	p, err := s.admin.Publish(s.t.Context(), client.Publication{Artifact: b})
	qt.Assert(s.t, qt.IsNil(err))
	return p
}

// unpatched is what a machine says of a package that it has no live patch of.
func unpatched(of livepatch.TargetRef) api.Package {
	return api.Package{ID: of.ID(), Target: of.Name, Processes: api.Processes{Unprotected: 3}}
}

// with is what it says when the live patch is there.
func with(of livepatch.TargetRef, p *api.LivePatch, n api.Processes) api.Package {
	return api.Package{
		ID: of.ID(), Target: of.Name, Processes: n,
		Patch: api.Patch{ID: p.ID, Name: p.Name, Version: p.Version, State: api.Healthy, Since: 5},
	}
}

// TestALivePatchOfAPackageReachesAWaitingMachine: check-in, long poll, publication,
// key, protection.
func TestALivePatchOfAPackageReachesAWaitingMachine(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := s.enroll(s.token().Secret, "web-1")
	a := h.checkIn(t)
	qt.Check(t, qt.Equals(a.Catalogue, ""))
	qt.Check(t, qt.HasLen(a.Packages, 0))

	woken := make(chan bool)
	go func() {
		changed, err := h.Wait(t.Context(), h.etag, time.Minute)
		qt.Check(t, qt.IsNil(err))
		woken <- changed
	}()
	eventually(t, "the machine waits", func() bool { return s.waiters.number() == 1 })
	p := s.publishPackage(openssl, 1, 1, 2)
	qt.Assert(t, qt.IsTrue(<-woken)) // that there is a package to look for is news to all
	a = h.checkIn(t)
	qt.Assert(t, qt.IsNotNil(a))
	qt.Check(t, qt.HasLen(a.Catalogue, 64))
	qt.Check(t, qt.HasLen(a.Packages, 0))
	qt.Check(t, qt.HasLen(a.Keys, 0)) // it has no such process

	h.report.Packages = []api.Package{unpatched(postgres), unpatched(openssl)}
	a = h.checkIn(t)
	qt.Assert(t, qt.IsNotNil(a))
	qt.Check(t, qt.DeepEquals(a.Packages, map[string]int64{openssl.ID(): 1}))
	_, err := trust.Unwrap(a.Keys[p.ID], h.id)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(h.checkIn(t)))

	// What it says next is stored, and the answer is the same.
	h.report.Packages[1] = with(openssl, p, api.Processes{Protected: 5})
	qt.Check(t, qt.IsNil(h.checkIn(t)))
	got, err := s.admin.LivePatch(t.Context(), p.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got.Machines, map[string]int{"healthy": 1}))

	// A server that starts knows it from the store.
	s.start()
	h.Client = s.client(h.enrolled.Credential)
	qt.Check(t, qt.IsNil(h.checkIn(t)))
	got, err = s.admin.LivePatch(t.Context(), p.ID)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got.Machines, map[string]int{"healthy": 1}))
}

// TestProcessesThatComeAndGoAreNotWrittenDown: a busy machine starts and ends
// them all the time. What they mean is.
func TestProcessesThatComeAndGoAreNotWrittenDown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := s.enroll(s.token().Secret, "web-1")
	p := s.publishPackage(openssl, 1, 1)
	pack := with(openssl, p, api.Processes{Protected: 100})
	pack.Reasons = []api.ProcessReason{}
	h.report.Packages = []api.Package{pack}
	h.checkIn(t)
	saved := func() float64 { return counted(t, s, `tsugi_check_ins_total{outcome="stored"}`) }
	before := saved()
	for n := 90; n < 110; n++ {
		h.report.Packages[0].Processes.Protected = n
		qt.Check(t, qt.IsNil(h.checkIn(t)))
	}
	qt.Check(t, qt.Equals(saved(), before))
	m, err := s.admin.Machine(t.Context(), h.enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(m.Packages[0].Processes.Protected, 109)) // but told

	busy := func(n int, of string) {
		h.report.Packages[0].Processes.Pending = n
		h.report.Packages[0].Reasons = []api.ProcessReason{{Problem: api.Problem{Code: "TS9606", Where: of}, Processes: n, Program: of}}
		qt.Check(t, qt.IsNil(h.checkIn(t)))
	}
	busy(6, "nginx")
	qt.Check(t, qt.Equals(saved(), before+1))
	busy(7, "sshd")
	qt.Check(t, qt.Equals(saved(), before+1))
	busy(30, "sshd")
	qt.Check(t, qt.Equals(saved(), before+2))
}

// counted is the value of a metric.
func counted(t testing.TB, s *site, name string) float64 {
	t.Helper()
	_, text := do(t, "GET", s.web.URL+"/metrics", "", "", nil)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			var v float64
			_, err := fmt.Sscan(rest, &v)
			qt.Assert(t, qt.IsNil(err))
			return v
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestPackagesThatBreakARuleAreRefused(t *testing.T) {
	t.Parallel()
	good := api.Package{
		ID: openssl.ID(), Target: openssl.Name, Patch: api.Patch{ID: "debian-libssl3-v1", Version: 1, State: api.Healthy},
		Reasons: []api.ProcessReason{{Problem: api.Problem{Code: "TS9606"}, Processes: 1, Program: "nginx"}},
	}
	for name, edit := range map[string]func(*api.Package){
		"no id":                      func(p *api.Package) { p.ID = "" },
		"an id that is no hex":       func(p *api.Package) { p.ID = strings.Repeat("x", 64) },
		"no target":                  func(p *api.Package) { p.Target = "" },
		"a target with a line end":   func(p *api.Package) { p.Target = "a\nb" },
		"a live patch with a blank":  func(p *api.Package) { p.Patch.ID = "a b" },
		"a state that there is none": func(p *api.Package) { p.Patch.State = "fine" },
		"less than no process":       func(p *api.Package) { p.Processes.Pending = -1 },
		"more than Linux has":        func(p *api.Package) { p.Processes.Protected = 1 << 23 },
		"a reason for no process":    func(p *api.Package) { p.Reasons[0].Processes = 0 },
		"a program with an escape":   func(p *api.Package) { p.Reasons[0].Program = "\x1b[2J" },
		"too many reasons":           func(p *api.Package) { p.Reasons = make([]api.ProcessReason, 9) },
	} {
		in := checkInOf("a")
		p := good
		p.Reasons = append([]api.ProcessReason{}, good.Reasons...)
		in.Packages = []api.Package{p}
		qt.Assert(t, qt.IsNil(checkCheckIn(&in)))
		edit(&in.Packages[0])
		qt.Check(t, qt.IsNotNil(checkCheckIn(&in)), qt.Commentf("%s", name))
	}
	in := checkInOf("a")
	in.Packages = []api.Package{good, good}
	qt.Check(t, qt.IsNotNil(checkCheckIn(&in)))
	in.Packages = make([]api.Package, mostPackages+1)
	qt.Check(t, qt.IsNotNil(checkCheckIn(&in)))
}

// TestTheFleetAnswersForAPackage: a vulnerability that a package's live patch fixes
// is gone, partly gone, or open, in every view.
func TestTheFleetAnswersForAPackage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx := t.Context()
	kernel := s.publishVersion(1)
	p := s.publishPackage(openssl, 1, 1, 2)
	token := s.token().Secret
	hosts := map[string]*host{}
	for name, pack := range map[string]*api.Package{
		"whole":  {Patch: api.Patch{State: api.Healthy}, Processes: api.Processes{Protected: 4}},
		"partly": {Patch: api.Patch{State: api.Applied}, Processes: api.Processes{Protected: 7, Pending: 1, Unprotected: 2}},
		"bare":   {Processes: api.Processes{Unprotected: 3}},
		"other":  nil,
	} {
		h := s.enroll(token, name)
		h.report.Patch = api.Patch{ID: kernel.ID, Name: kernel.Name, Version: 1, State: api.Healthy}
		h.report.Able = name != "bare" // what the kernel can't take says nothing of processes
		if pack != nil {
			pack.ID, pack.Target = openssl.ID(), openssl.Name
			if pack.Patch.State != "" {
				pack.Patch.ID, pack.Patch.Version = p.ID, 1
			}
			if name == "partly" {
				pack.Reasons = []api.ProcessReason{{Problem: api.Problem{Code: "TS9608", What: "a seccomp filter forbids mmap"}, Processes: 2, Program: "sshd"}}
			}
			h.report.Packages = []api.Package{*pack}
		}
		h.checkIn(t)
		hosts[name] = h
	}
	s.recount()

	show := func(name string) *api.Machine {
		t.Helper()
		m, err := s.admin.Machine(ctx, hosts[name].enrolled.Machine)
		qt.Assert(t, qt.IsNil(err))
		return m
	}
	whole := show("whole")
	qt.Assert(t, qt.HasLen(whole.Packages, 1))
	x := whole.Packages[0]
	qt.Check(t, qt.Equals(x.Protection, api.Protected))
	qt.Check(t, qt.Equals(x.Should, p.ID))
	qt.Check(t, qt.DeepEquals(x.CVEs, []string{cve(1), cve(2)}))
	qt.Check(t, qt.HasLen(whole.Open, 0))
	qt.Check(t, qt.DeepEquals(whole.CVEs, []string{cve(1), cve(2), "CVE-2026-12345"}))

	partly := show("partly")
	x = partly.Packages[0]
	qt.Check(t, qt.Equals(x.Protection, api.Partly))
	qt.Check(t, qt.Equals(x.Reason, "version 1 is the newest of the tier; 3 of 10 processes run the old code (1 of them is tried again)"))
	qt.Check(t, qt.DeepEquals(x.Processes, api.Processes{Protected: 7, Pending: 1, Unprotected: 2}))
	qt.Check(t, qt.HasLen(x.CVEs, 0))
	qt.Check(t, qt.DeepEquals(partly.Needs, map[api.Need]int{api.NeedRestart: 2}))
	qt.Check(t, qt.Equals(partly.Open[0].Package, openssl.Name))
	qt.Check(t, qt.Equals(partly.Open[0].Why, "3 of 10 processes run the old code (1 of them is tried again): a seccomp filter forbids mmap (sshd)"))
	qt.Check(t, qt.StringContains(partly.Reason, "; open: 2 (2 restart)"))

	bare := show("bare")
	qt.Check(t, qt.Equals(bare.Packages[0].Protection, api.Unprotected))
	qt.Check(t, qt.Equals(bare.Packages[0].Should, p.ID))
	qt.Check(t, qt.DeepEquals(bare.Needs, map[api.Need]int{api.NeedLivePatch: 2}))
	qt.Check(t, qt.HasLen(show("other").Packages, 0))

	// One machine at a time: lists are short.
	list, err := s.admin.Machines(ctx, client.MachineFilter{CVE: cve(1)})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(list.Items, 2))
	for _, m := range list.Items {
		qt.Check(t, qt.HasLen(m.Packages, 0))
		qt.Check(t, qt.Equals(m.Open[0].Package, openssl.Name))
	}
	list, err = s.admin.Machines(ctx, client.MachineFilter{Need: api.NeedRestart})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(list.Items, 1))
	qt.Check(t, qt.Equals(list.Items[0].Hostname, "partly"))

	d := read[api.CVEDetail](s, "/v1/cves/"+cve(1))
	qt.Check(t, qt.DeepEquals(d.Open, map[api.Need]int{api.NeedRestart: 1, api.NeedLivePatch: 1}))
	qt.Check(t, qt.DeepEquals([]int{d.Fleet, d.Protected, d.NotAffected, d.Unknown}, []int{4, 1, 0, 1}))
	qt.Assert(t, qt.HasLen(d.Targets, 1))
	qt.Check(t, qt.Equals(d.Targets[0].Target, openssl.Name))
	qt.Check(t, qt.Equals(d.Targets[0].State, api.CoverLive))
	qt.Check(t, qt.DeepEquals(d.Targets[0].Open, map[api.Need]int{api.NeedRestart: 1, api.NeedLivePatch: 1}))
	qt.Check(t, qt.Equals(d.Machines, 2))
	l := read[api.CVEList](s, "/v1/cves?open=true")
	qt.Check(t, qt.Equals(l.Total, 2))
	kernelCVE := read[api.CVEDetail](s, "/v1/cves/CVE-2026-12345")
	qt.Check(t, qt.DeepEquals([]int{kernelCVE.Protected, kernelCVE.Unknown}, []int{4, 0}))

	targets := read[api.List[api.TargetInfo]](s, "/v1/targets")
	qt.Assert(t, qt.HasLen(targets.Items, 2))
	lib := targets.Items[1]
	qt.Check(t, qt.Equals(lib.Target, openssl.Name))
	qt.Check(t, qt.Equals(lib.Release, ""))
	qt.Check(t, qt.Equals(lib.Machines, 3))
	qt.Check(t, qt.Equals(lib.Newest, p.ID))
	qt.Check(t, qt.DeepEquals(lib.Protections, map[api.Protection]int{api.Protected: 1, api.Partly: 1, api.Unprotected: 1}))
	qt.Check(t, qt.Equals(targets.Items[0].Machines, 4))
	qt.Check(t, qt.Equals(counted(t, s, `tsugi_package_machines{protection="partly",target="`+openssl.Name+`"}`), 1))
	o := read[api.Overview](s, "/v1/overview")
	qt.Check(t, qt.DeepEquals(o.Open[api.NeedRestart], map[string]int{"high": 1}))
}

// TestAMachineCannotMakeUpPackages: names that nothing is published of are neither
// looked up nor counted.
func TestAMachineCannotMakeUpPackages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	h := s.enroll(s.token().Secret, "liar")
	for i := range 100 {
		h.report.Packages = append(h.report.Packages, api.Package{ID: strings.Repeat("ab", 16) + fmt.Sprintf("%04x", i), Target: fmt.Sprintf("debian:none=%d", i)})
	}
	a := h.checkIn(t)
	qt.Check(t, qt.HasLen(a.Packages, 0))
	s.shelves.mu.RLock()
	qt.Check(t, qt.HasLen(s.shelves.byKernel, 1))
	s.shelves.mu.RUnlock()
	s.recount()
	qt.Check(t, qt.HasLen(read[api.List[api.TargetInfo]](s, "/v1/targets").Items, 1)) // its kernel
}

// TestARolloutOfAPackage: nobody has the key before their wave, machines without such
// processes are not in it, and a failing health watch stops it.
func TestARolloutOfAPackage(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	p := s.publishPackage(openssl, 1, 1)
	token := s.token(func(in *api.NewToken) { in.Tier = "beta" }).Secret
	var hosts []*host
	for i := range 8 {
		h := s.enroll(token, fmt.Sprintf("m%d", i))
		h.report.Able = false // of the kernel
		if i < 6 {
			h.report.Packages = []api.Package{unpatched(openssl)}
		}
		h.checkIn(t)
		hosts = append(hosts, h)
	}
	plan := &api.RolloutPlan{
		Waves: []api.RolloutWave{{Upto: "2", Soak: "1h"}, {Upto: "100%"}}, MaxInFlight: "100%", Ramp: 1000, Settle: "5m", Watch: "1h", Patience: "24h",
	}
	look, err := s.admin.PreviewRollout(t.Context(), api.NewRollout{LivePatch: p.ID, Tier: "beta", Plan: plan})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(look.Machines, 6))
	r, err := s.admin.CreateRollout(t.Context(), api.NewRollout{LivePatch: p.ID, Tier: "beta", Plan: plan})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(r.Target, openssl.Name))
	round := func() (given []*host) {
		for _, h := range hosts {
			if a := h.checkIn(t); a != nil && a.Keys[p.ID] != "" {
				given = append(given, h)
			}
		}
		return given
	}
	qt.Check(t, qt.HasLen(round(), 0))
	s.look() // it opens by itself
	s.look()
	given := round()
	qt.Assert(t, qt.HasLen(given, 2))

	word, err := s.admin.Machine(t.Context(), hosts[7].enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(word.Rollout))
	in, err := s.admin.Machine(t.Context(), given[0].enrolled.Machine)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNotNil(in.Packages[0].Rollout))
	qt.Check(t, qt.Equals(in.Packages[0].Rollout.Rollout, r.ID))

	seq := 0
	tell := func(h *host, kind api.ReportKind, state api.State) {
		seq++
		x := with(openssl, p, api.Processes{Protected: 3})
		x.Patch.State = state
		_, err := h.Report(t.Context(), []api.Report{{
			ID: fmt.Sprint(seq), Time: 1, Kind: kind, BootID: h.report.BootID, Kernel: testKernel, Patch: x.Patch,
		}})
		qt.Assert(t, qt.IsNil(err))
		h.report.Packages = []api.Package{x}
		h.checkIn(t)
	}
	tell(given[0], api.ReportState, api.Loading)
	tell(given[0], api.ReportState, api.Healthy)
	s.look()
	qt.Check(t, qt.Equals(s.stands(r.ID).Health.Begun+s.stands(r.ID).Health.Well, 1))
	tell(given[1], api.ReportState, api.Loading)
	tell(given[1], api.ReportHealth, api.Quarantined) // its processes ended by signals
	s.look()
	now := s.stands(r.ID)
	qt.Check(t, qt.Not(qt.Equals(now.Phase, api.RolloutRunning)), qt.Commentf("%+v", now.Health))
	qt.Check(t, qt.Equals(now.Health.Failed["quarantined"], 1))
	qt.Check(t, qt.HasLen(round(), 0)) // and nobody else gets it
}

// TestATierOfRolloutsAloneAdoptsPackages: what comes to it begins one.
func TestATierOfRolloutsAloneAdoptsPackages(t *testing.T) {
	t.Parallel()
	s := calm(t, "")
	_, err := s.admin.SetRolloutSettings(t.Context(), api.RolloutSettings{Tiers: map[string]api.RolloutTier{"edge": {Only: true, Plan: quickPlan()}}})
	qt.Assert(t, qt.IsNil(err))
	h := s.enroll(s.token().Secret, "a")
	h.report.Packages = []api.Package{unpatched(openssl)}
	h.checkIn(t)
	p := s.publishPackage(openssl, 1, 1)
	var a *api.Assignment
	eventually(t, "the index is news", func() bool { a = h.checkIn(t); return a != nil && a.Packages[openssl.ID()] > 0 })
	qt.Check(t, qt.HasLen(a.Keys, 0))
	s.look()
	qt.Assert(t, qt.IsNotNil(s.rollouts.of(p.ID, "edge")))
}
