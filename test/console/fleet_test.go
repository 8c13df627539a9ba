// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"strings"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// hostile is what somebody may write to do harm to who looks: the console shows it as
// it is, and web/console/look looks for what it would have done.
const hostile = `"><img src=x onerror=globalThis.hostile=1>`

const target = "debian:6.1.0-55-amd64"

var kernelOf = map[string]api.Kernel{
	target:   {Release: "6.1.0-55-amd64", BuildID: strings.Repeat("ab", 20), Arch: "x86_64"},
	"other":  {Release: "6.12.115+deb12-amd64", BuildID: strings.Repeat("cd", 20), Arch: "x86_64"},
	"ubuntu": {Release: "5.15.0-160-generic", BuildID: strings.Repeat("ef", 20), Arch: "x86_64"},
}

// flaw is a fix of the made-up update.
type flaw struct {
	id, title string
	cves      []string
	severity  series.Severity
	exploited bool
	fact      *selection.Fact
	requires  []string
}

func flaws() []flaw {
	return []flaw{
		{id: "nf-tables-uaf", title: "netfilter: nf_tables: keep the chain until its rules are gone", cves: []string{"CVE-2026-31431"}, severity: series.Critical, exploited: true, fact: &selection.Fact{Verdict: selection.IsLive}},
		{id: "ext4-mballoc", title: "ext4: do not trust the group descriptor's free count", cves: []string{"CVE-2026-30112"}, severity: series.High, fact: &selection.Fact{Verdict: selection.IsLive}},
		{id: "tcp-ack", title: "tcp: check the length of the option before it is read", cves: []string{"CVE-2026-12345"}, severity: series.High, fact: &selection.Fact{Verdict: selection.IsLive}},
		{id: "tcp-ack-2", title: "tcp: and once more after the retransmit", cves: []string{"CVE-2026-12346"}, severity: series.Medium, fact: &selection.Fact{Verdict: selection.IsLive}, requires: []string{"tcp-ack"}},
		{id: "kvm-nested", title: "KVM: nVMX: the state of L2 is not L1's", cves: []string{"CVE-2026-29001"}, severity: series.High, exploited: true, fact: &selection.Fact{Verdict: selection.NeedsReboot, Code: "TS5103", Why: "__init function vmx_init changes"}},
		{id: "bpf-verifier", title: "bpf: refuse negative offsets of a pointer that may be null " + hostile, cves: []string{"CVE-2026-28777", "CVE-2026-28778"}, severity: series.Medium},
		{id: "usb-audio", title: "ALSA: usb-audio: bound the number of clock sources", cves: []string{"CVE-2026-27010"}, severity: series.Low, fact: &selection.Fact{Verdict: selection.IsLive}},
	}
}

func (s *server) push() {
	all := &series.Series{Name: "6.1.192-1", From: "6.1.190-1", To: "6.1.192-1"}
	facts := map[string]selection.Fact{}
	for _, f := range flaws() {
		d, err := fix.Parse(f.id, []byte(name("--- a/fs/%[1]s.c\n+++ b/fs/%[1]s.c\n@@ -1 +1 @@\n-a\n+b\n", f.id)))
		qt.Assert(s.t, qt.IsNil(err))
		all.Fixes = append(all.Fixes, &series.Fix{
			Meta: series.Meta{ID: f.id, Title: f.title, CVEs: f.cves, Severity: f.severity, Exploited: f.exploited, Requires: f.requires}, Diff: d,
		})
		if f.fact != nil {
			facts[f.id] = *f.fact
		}
	}
	b, err := selection.Push(target, all, facts).Bytes()
	qt.Assert(s.t, qt.IsNil(err))
	_, err = s.admin.PushUpdate(s.t.Context(), "debian", false, b)
	qt.Assert(s.t, qt.IsNil(err))
}

// publish publishes a live patch with the first n fixes, up to a tier.
func (s *server) publish(version, n int, tier string) *api.LivePatch {
	k := kernelOf[target]
	m := livepatch.Manifest{
		Name: name("tsugi_debian_v%d", version), Version: version,
		Target: livepatch.TargetRef{Name: target, Release: k.Release, PackageVersion: "6.1.190-1", Arch: k.Arch, BuildID: k.BuildID},
		Functions: []livepatch.Function{
			{Object: "nf_tables", Name: "nf_tables_chain_destroy", Change: "size changes from 27 to 52 bytes"},
			{Object: "vmlinux", Name: "tcp_ack", Change: "other code at +0x10"},
		},
		Risks: []livepatch.Risk{{Code: "TS8001", What: "a function that is always on some stack", Where: "tcp_ack"}},
	}
	diffs := map[string][]byte{}
	for _, f := range flaws()[:n] {
		m.Fixes = append(m.Fixes, livepatch.FixRef{ID: f.id, Title: f.title, CVEs: f.cves})
		diffs[f.id] = []byte("--- a/x\n")
	}
	p, err := livepatch.New(m, m.Name+".ko", bytes.Repeat([]byte{byte(version)}, 41_233), diffs)
	qt.Assert(s.t, qt.IsNil(err))
	b, err := p.Bytes()
	qt.Assert(s.t, qt.IsNil(err))
	lp, err := s.admin.Publish(s.t.Context(), client.Publication{Artifact: b})
	qt.Assert(s.t, qt.IsNil(err))
	if tier != "" {
		for _, to := range []string{"beta", "candidate", "stable"} {
			lp, err = s.admin.Promote(s.t.Context(), lp.ID, to)
			qt.Assert(s.t, qt.IsNil(err))
			if to == tier {
				break
			}
		}
	}
	return lp
}

// machine is one that the server hears of.
type machine struct {
	host, group, tier, kernel string
	patch                     *api.LivePatch
	state                     api.State
	problem                   *api.Problem
	unable                    bool
	reports                   []api.Report
	packages                  []api.Package
	problems                  []api.Problem
	stale                     *api.Stale
}

func (s *server) enroll(tokens map[string]*api.TokenMade, n int, m machine) {
	t := s.t
	ctx := t.Context()
	key := m.tier + " " + m.group
	if tokens[key] == nil {
		made, err := s.admin.CreateToken(ctx, api.NewToken{Name: strings.TrimSpace(key), Tier: m.tier, Group: m.group})
		qt.Assert(t, qt.IsNil(err))
		tokens[key] = made
	}
	id, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	k := kernelOf[m.kernel]
	answer, err := s.client("").Enroll(ctx, api.EnrollRequest{
		Token: tokens[key].Secret, MachineID: name("%064x", n+1), Hostname: m.host, Recipient: id.Recipient(), Agent: "1.0.0", OS: "Debian GNU/Linux 12", Kernel: k,
	})
	qt.Assert(t, qt.IsNil(err))
	c := s.client(answer.Credential)
	now := time.Now()
	in := api.CheckIn{
		Agent: "1.0.0", BootID: name("6f1c2e0a-0000-4000-8000-%012x", n), Run: name("%016x", n), Uptime: int64(86_400 + n), Clock: now.UnixMilli(), Kernel: k, Able: !m.unable,
		Packages: m.packages, Problems: m.problems, Stale: m.stale,
	}
	if m.unable {
		in.Problems = []api.Problem{{Code: "TS9201", What: "this kernel has no live patching", Why: "CONFIG_LIVEPATCH is not set", Fix: "boot a kernel that has it"}}
	}
	if m.patch != nil {
		in.Patch = api.Patch{ID: m.patch.ID, Name: m.patch.Name, Version: m.patch.Version, State: m.state, Since: now.Add(-time.Hour).UnixMilli(), Problem: m.problem}
	}
	_, _, err = c.CheckIn(ctx, in, "")
	qt.Assert(t, qt.IsNil(err))
	for i := range m.reports {
		m.reports[i].ID = name("0190aaaa-0000-7000-8000-%06x%06x", n, i)
		m.reports[i].BootID, m.reports[i].Kernel, m.reports[i].Time = in.BootID, k, now.Add(-time.Duration(60-i)*time.Minute).UnixMilli()
	}
	if len(m.reports) > 0 {
		_, err = c.Report(ctx, m.reports)
		qt.Assert(t, qt.IsNil(err))
	}
}

// fill gives the server a fleet in which everything happens.
func (s *server) fill() {
	t := s.t
	ctx := t.Context()
	unlimited, interval := 0, int64(3600)
	_, err := s.admin.ChangeSettings(ctx, api.SettingsChange{PlanMachines: &unlimited, Interval: &interval})
	qt.Assert(t, qt.IsNil(err))
	old := s.publish(1, 1, "stable")
	current := s.publish(2, 2, "stable")
	beta := s.publish(3, 3, "beta")
	bad := s.publish(4, 4, "")
	_, err = s.admin.Block(ctx, bad.ID, api.Block{Reason: "canary-02 stalled: tcp_ack never left the stack " + hostile, Recall: true})
	qt.Assert(t, qt.IsNil(err))

	state := func(p *api.LivePatch, at api.State, ms int64) api.Report {
		return api.Report{Kind: api.ReportState, Transition: ms, Patch: api.Patch{ID: p.ID, Name: p.Name, Version: p.Version, State: at}}
	}
	ssl, db := openssl(), postgres()
	ssl.publish(s, 1, true)
	db.publish(s, 1, true)
	next := db.publish(s, 2, false)
	tokens := map[string]*api.TokenMade{}
	n := 0
	add := func(m machine) { s.enroll(tokens, n, m); n++ }
	for i := range 64 {
		group, host := "web", name("web-%02d.tokyo.example", i)
		if i%4 == 3 {
			group, host = "db", name("db-%02d.osaka.example", i)
		}
		m := machine{host: host, group: group, tier: "stable", kernel: target, patch: current, state: api.Healthy}
		m.reports = []api.Report{state(current, api.Loading, 0), state(current, api.Applied, 180+int64(i)), state(current, api.Healthy, 0)}
		switch {
		case i == 0:
			m.packages, m.stale = []api.Package{ssl.partly()}, upgraded()
		case i == 1:
			m.packages = []api.Package{ssl.whole()}
			m.problems = []api.Problem{{Code: "TS9440", What: "what keeps live patches in processes does not run on this machine", Fix: "start it: systemctl enable --now tsugi-keep"}}
		case i == 2:
			m.packages = []api.Package{ssl.bare()}
		case i == 4:
			m.packages = []api.Package{ssl.crashed()}
		case group == "db":
			m.packages = []api.Package{ssl.whole(), db.whole()}
		default:
			m.packages = []api.Package{ssl.whole()}
		}
		switch {
		case i%13 == 5:
			m.patch, m.reports = old, []api.Report{state(old, api.Applied, 420)}
		case i%17 == 3:
			m.patch, m.state, m.reports = nil, "", nil
		}
		add(m)
	}
	add(machine{host: "canary-01.tokyo.example", tier: "beta", kernel: target, patch: beta, state: api.Transitioning, reports: []api.Report{state(beta, api.Transitioning, 0)}})
	for i := range 3 {
		add(machine{host: name("relay-%d.tokyo.example", i), tier: "beta", kernel: target, patch: current, state: api.Healthy})
	}
	stalled := &api.Problem{Code: "TS9227", What: "the transition stalled", Where: "kworker/2:1[812]", Why: "tcp_ack is on its stack for 60 s " + hostile, Fix: "wait, or revert"}
	add(machine{
		host: "canary-02.tokyo.example", tier: "edge", kernel: target, patch: bad, state: api.Quarantined, problem: stalled,
		reports: []api.Report{
			{Kind: api.ReportHealth, Patch: api.Patch{ID: bad.ID, Version: 4, State: api.Reverting, Problem: stalled}, Stalls: []api.Stall{{PID: 812, Comm: "kworker/2:1", Function: "tcp_ack"}}, Detail: "livepatch: signaling remaining tasks\nlivepatch: 'tsugi_debian_v4': stalled " + hostile},
			{Kind: api.ReportCrash, Detail: "BUG: unable to handle page fault for address: ffffa0c0deadbeef " + hostile, Patch: api.Patch{ID: bad.ID, Version: 4, State: api.Quarantined}},
		},
	})
	for i := range 3 {
		add(machine{host: name("build-%d.example", i), tier: "stable", kernel: "other"})
	}
	add(machine{host: "appliance-with-a-very-long-host-name-that-somebody-chose.internal.example", group: "appliances", tier: "candidate", kernel: "ubuntu", unable: true})

	add(machine{host: "hostile" + hostile, group: "appliances", tier: "candidate", kernel: "ubuntu"})

	s.push()
	_, err = s.admin.SetPolicy(ctx, api.Policy{Name: "databases", Description: "NFS stalls with the ext4 fix: JIRA-1234 " + hostile})
	qt.Assert(t, qt.IsNil(err))
	_, err = s.admin.SetPolicyGroups(ctx, "databases", []string{"db"})
	qt.Assert(t, qt.IsNil(err))
	_, err = s.admin.Exclude(ctx, "databases", api.Exclude{Exclusions: []api.Exclusion{
		{CVE: "CVE-2026-30112", Reason: "stalls NFS on the arrays", Owner: "ann", Expires: time.Now().Add(6 * 24 * time.Hour).UnixMilli()},
		{Fix: "usb-audio", Reason: "no audio here " + hostile, Owner: "ben " + hostile},
	}})
	qt.Assert(t, qt.IsNil(err))
	s.work()
	s.rollOut(beta)
	_, err = s.admin.CreateRollout(ctx, api.NewRollout{LivePatch: next.ID, Tier: "stable"})
	qt.Assert(t, qt.IsNil(err))
}

// rollOut has a live patch on its way through one tier, and halted in another.
func (s *server) rollOut(p *api.LivePatch) {
	ctx := s.t.Context()
	_, err := s.admin.CreateRollout(ctx, api.NewRollout{LivePatch: p.ID, Tier: "stable"})
	qt.Assert(s.t, qt.IsNil(err))
	r, err := s.admin.CreateRollout(ctx, api.NewRollout{LivePatch: p.ID, Tier: "beta", Plan: &api.RolloutPlan{Waves: []api.RolloutWave{{Upto: "1", Soak: "2h"}, {Upto: "100%"}}}})
	qt.Assert(s.t, qt.IsNil(err))
	for deadline := time.Now().Add(time.Minute); r.Phase != api.RolloutRunning && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		r, err = s.admin.Rollout(ctx, r.ID)
		qt.Assert(s.t, qt.IsNil(err))
	}
	_, err = s.admin.TellRollout(ctx, r.ID, "halt", "the mail relay is slow since noon "+hostile)
	qt.Assert(s.t, qt.IsNil(err))
}

// work is a build worker: one job fails, one is done, one stays under way.
func (s *server) work() {
	t := s.t
	ctx := t.Context()
	made, err := s.admin.CreateOperator(ctx, api.NewOperator{Name: "build-7", Role: "worker"})
	qt.Assert(t, qt.IsNil(err))
	_, err = s.admin.CreateJob(ctx, api.NewJob{Target: target, Name: "hotfix", Fixes: []api.JobDiff{{ID: "hotfix", Title: "net: a hotfix of ours " + hostile, Diff: "--- a/net/x.c\n+++ b/net/x.c\n@@ -1 +1 @@\n-a\n+b\n"}}})
	qt.Assert(t, qt.IsNil(err))
	c := s.client(made.Secret)
	for i := range 3 {
		l, err := c.Lease(ctx, "build-7/1", 10*time.Second)
		qt.Assert(t, qt.IsNil(err))
		if l == nil {
			t.Fatalf("no job %d came", i)
		}
		log := func(seq int, text string) {
			qt.Assert(t, qt.IsNil(c.AppendLog(ctx, l.Job, api.JobLog{Worker: "build-7/1", Attempt: l.Attempt, Seq: seq, Text: text})))
		}
		log(1, "target "+target+": kernel, headers and source are here\nfix: 5 of 7 fixes\n"+hostile+"\n")
		log(2, strings.Repeat("compile net/ipv4/tcp_input.o (original, patched)\n", 30))
		switch i {
		case 0:
			log(3, "proof: boots, does not hold: the reproducer still crashes the kernel\n")
			err = c.Finish(ctx, l.Job, api.JobResult{Worker: "build-7/1", State: api.JobFailed, Problem: &api.Problem{Code: "TS6201", What: "the proof does not hold", Where: "tcp-ack", Why: "the reproducer crashes the patched kernel " + hostile, Fix: "look at the console log"}})
		case 1:
			log(3, "not affected\n")
			err = c.Finish(ctx, l.Job, api.JobResult{Worker: "build-7/1", State: api.JobDone, Verdict: "not-affected"})
		default:
			_, err = c.Heartbeat(ctx, l.Job, api.Heartbeat{Worker: "build-7/1", Stage: "compile"})
		}
		qt.Assert(t, qt.IsNil(err))
	}
}
