// SPDX-License-Identifier: Apache-2.0

package preflight_test

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/preflight"
)

func ptr[T any](v T) *T { return &v }

const release = "6.1.0-55-amd64"

var (
	kernelID = strings.Repeat("a1", 20)
	ext4ID   = strings.Repeat("b2", 20)
	otherID  = strings.Repeat("c3", 20)
)

// healthy is a machine and a live patch for it that pass every rule.
func healthy() *preflight.Request {
	return &preflight.Request{
		Host: &hostinfo.Host{
			Release: release, Arch: "x86_64", BuildID: kernelID, Hostname: "db1", Lockdown: "none",
			SigEnforce: ptr(false), SecureBoot: ptr(false), ModulesDisabled: ptr(false), FtraceEnabled: ptr(true),
			Superuser: true, Caps: 1 << 16, CPUs: 2, MemAvailable: 1 << 30, Livepatching: true,
			Config: hostinfo.Config{"MODULES": "y", "LIVEPATCH": "y", "HAVE_RELIABLE_STACKTRACE": "y", "DYNAMIC_FTRACE": "y"},
			Modules: []hostinfo.Module{
				{Name: "ext4", State: "Live", BuildID: ext4ID},
				{Name: "xfs", State: "Live", BuildID: otherID},
			},
			Taints: hostinfo.TaintOutOfTree | hostinfo.TaintUnsigned | hostinfo.TaintLivepatch | hostinfo.TaintProprietary,
			Livepatches: []hostinfo.Livepatch{{Name: "tsugi_v1", Enabled: true, Objects: []hostinfo.LivepatchObject{
				{Name: "vmlinux", Functions: []hostinfo.LivepatchFunction{{Name: "do_it", SymPos: 1}}},
			}}},
			FtraceUsers: []hostinfo.FtraceUser{
				{Function: "do_it", Count: 1, IPModify: true, By: "tramp: x (klp_ftrace_handler+0x0/0x110)"},
				{Function: "do_another", Count: 1, IPModify: true},
				{Function: "ext4_rmdir", Module: "ext4", Count: 1, Direct: true},
			},
			Kprobes: []hostinfo.Kprobe{
				{Symbol: "do_it", Ftrace: true},
				{Symbol: "do_another", Offset: 5},
				{Symbol: "ext4_rmdir", Offset: 5}, // of no module: another function of that name
				{Symbol: "do_it", Offset: 5, Disabled: true},
				{Symbol: "do_it", Offset: 5, Gone: true},
			},
		},
		Manifest: &livepatch.Manifest{
			Name: "tsugi_v2", Target: livepatch.TargetRef{Name: "debian:" + release, Release: release, Arch: "x86_64", BuildID: kernelID},
			Functions: []livepatch.Function{{Object: "ext4", Name: "ext4_rmdir"}, {Object: "jbd2", Name: "journal"}, {Object: "vmlinux", Name: "do_it"}},
			Modules:   []livepatch.ModuleRef{{Name: "ext4", BuildID: ext4ID}, {Name: "jbd2", BuildID: otherID}},
		},
		Module: preflight.ModuleFile{Name: "tsugi_v2", Size: 100 << 10, Vermagic: release + " SMP preempt mod_unload modversions ", Livepatch: true},
		OnDisk: map[string]string{"jbd2": otherID},
		Space:  preflight.Space{Path: "/var/lib/tsugi", Free: 1 << 30, Need: 1 << 20},
	}
}

func key(ring, name, id string) hostinfo.Key {
	return hostinfo.Key{Serial: 1, Keyring: ring, Name: name, ID: id}
}

// enforced is a machine that demands signatures.
func enforced(r *preflight.Request) {
	r.Host.SigEnforce = ptr(true)
	r.Host.Keys = []hostinfo.Key{key(".builtin_trusted_keys", "Debian Secure Boot CA", "6cce"), key(".machine", "Example: live patches", "0011")}
}

func unread(paths ...string) func(*preflight.Request) {
	return func(r *preflight.Request) {
		for _, p := range paths {
			r.Host.Unread = append(r.Host.Unread, hostinfo.Unread{Path: p, Err: "permission denied"})
		}
	}
}

// cases are deviations from the healthy machine, each with the rule that must
// see it: ok and no code is a yes, ok and a code is advice.
func cases() []struct {
	name string
	edit func(*preflight.Request)
	rule string
	ok   bool
	code code.Code
	why  string // part of what is said
} {
	type R = preflight.Request
	both := func(a, b func(*R)) func(*R) { return func(r *R) { a(r); b(r) } }
	signedBy := func(s preflight.Signer) func(*R) { return func(r *R) { r.Module.Signer = &s } }
	return []struct {
		name string
		edit func(*R)
		rule string
		ok   bool
		code code.Code
		why  string
	}{
		{"a container", func(r *R) { r.Host.Container = "lxc" }, preflight.Container, false, "TS9221", "lxc"},
		{"another architecture", func(r *R) { r.Host.Arch = "aarch64" }, preflight.Arch, false, "TS9201", "aarch64"},
		{"turned off", func(r *R) { r.Host.Cmdline = "ro tsugi=off" }, preflight.Off, false, "TS9218", ""},
		{"a kernel without livepatch", func(r *R) { r.Host.Livepatching = false; delete(r.Host.Config, "LIVEPATCH") }, preflight.Livepatch, false, "TS9202", "CONFIG_LIVEPATCH is not set"},
		{"livepatch that did not come up", func(r *R) { r.Host.Livepatching = false }, preflight.Livepatch, false, "TS9202", "/sys/kernel/livepatch"},
		{"no reliable stacks", func(r *R) { delete(r.Host.Config, "HAVE_RELIABLE_STACKTRACE") }, preflight.Stacks, false, "TS9203", "CONFIG_HAVE"},
		{"no configuration to see", func(r *R) { r.Host.Config = nil }, preflight.Stacks, true, "TS9243", "configuration is not here"},
		{"module loading ended", func(r *R) { r.Host.ModulesDisabled = ptr(true) }, preflight.Modules, false, "TS9204", "modules_disabled"},
		{"a kernel without modules", func(r *R) { delete(r.Host.Config, "MODULES") }, preflight.Modules, false, "TS9204", "CONFIG_MODULES"},
		{"root that may not load modules", func(r *R) { r.Host.Caps = 0 }, preflight.Privileges, false, "TS9222", "CAP_SYS_MODULE"},
		{"an ordinary user", func(r *R) { r.Host.Caps, r.Host.Superuser = 0, false }, preflight.Privileges, true, "TS9243", "not root's"},
		{"a kernel with no build-id", both(func(r *R) { r.Host.BuildID = "" }, unread("/sys/kernel/notes")), preflight.Build, false, "TS9205", "permission denied"},
		{"a kernel with no build-id, for the live patch", func(r *R) { r.Host.BuildID = "" }, preflight.Kernel, false, "TS9213", "does not say"},
		{"the tracer is off", func(r *R) { r.Host.FtraceEnabled = ptr(false) }, preflight.Ftrace, false, "TS9206", "ftrace_enabled"},
		{"a kernel without the tracer", func(r *R) { r.Host.FtraceEnabled = nil; delete(r.Host.Config, "DYNAMIC_FTRACE") }, preflight.Ftrace, false, "TS9202", "DYNAMIC_FTRACE"},
		{"a tracer that cannot be seen", func(r *R) { r.Host.FtraceEnabled = nil }, preflight.Ftrace, true, "TS9243", ""},

		{"a kernel that crashed", func(r *R) { r.Host.Taints |= hostinfo.TaintDied }, preflight.Taints, false, "TS9210", "D: "},
		{"damaged memory", func(r *R) { r.Host.Taints |= hostinfo.TaintBadPage | hostinfo.TaintWarn }, preflight.Taints, false, "TS9210", "B: "},
		{"a warning", func(r *R) { r.Host.Taints |= hostinfo.TaintWarn }, preflight.Taints, true, "TS9242", "W: "},
		{"a machine check and a lock-up", func(r *R) { r.Host.Taints |= hostinfo.TaintMachineCheck | hostinfo.TaintSoftLockup }, preflight.Taints, true, "TS9242", "M: "},
		{"a forced module", func(r *R) { r.Host.Taints |= hostinfo.TaintForcedModule }, preflight.Taints, true, "TS9242", "F: "},
		{"a module removed by force", func(r *R) { r.Host.Taints |= hostinfo.TaintForcedRemove }, preflight.Taints, true, "TS9242", "R: "},
		{"taints that mean nothing", func(r *R) {
			r.Host.Taints = hostinfo.TaintStaging | hostinfo.TaintFirmware | hostinfo.TaintACPI | hostinfo.TaintUser | hostinfo.TaintAux | hostinfo.TaintOutOfSpec | hostinfo.TaintTest
		}, preflight.Taints, true, "", "none that matters"},
		{"no taints", func(r *R) { r.Host.Taints = 0 }, preflight.Taints, true, "", "none"},
		{"someone else's live patch", func(r *R) { r.Host.Livepatches = append(r.Host.Livepatches, hostinfo.Livepatch{Name: "kpatch_x"}) }, preflight.Others, false, "TS9212", "kpatch_x"},
		{"our live patch by another name", func(r *R) {
			r.Host.Livepatches = append(r.Host.Livepatches, hostinfo.Livepatch{Name: "fix_one"})
			r.Ours = []string{"fix_one"}
		}, preflight.Others, true, "", ""},
		{"a transition in", func(r *R) { r.Host.Livepatches[0].Transition = true }, preflight.Transition, false, "TS9211", "way in"},
		{"a transition out", func(r *R) { r.Host.Livepatches[0].Transition, r.Host.Livepatches[0].Enabled = true, false }, preflight.Transition, false, "TS9211", "way out"},

		{"another build of the kernel", func(r *R) { r.Host.BuildID = otherID }, preflight.Kernel, false, "TS9213", "c3c3c3c3c3c3"},
		{"the build of another release", func(r *R) { r.Manifest.Target.Release = "6.1.0-54-amd64" }, preflight.Kernel, false, "TS9213", "6.1.0-54-amd64"},
		{"a module of another release", func(r *R) { r.Module.Vermagic = "6.1.0-54-amd64 SMP" }, preflight.Module, false, "TS9219", "6.1.0-54-amd64"},
		{"a module of another name", func(r *R) { r.Module.Name = "x" }, preflight.Module, false, "TS9219", `"x"`},
		{"a module that is no live patch", func(r *R) { r.Module.Livepatch = false }, preflight.Module, false, "TS9219", "does not say"},
		{"its module is there", func(r *R) {
			r.Host.Modules = append(r.Host.Modules[:1:1], hostinfo.Module{Name: "tsugi_v2", State: "Live"})
		}, preflight.Loaded, false, "TS9220", "tsugi_v2"},

		{"states that it knows", func(r *R) {
			r.Manifest.States = []livepatch.State{{ID: 1, Version: 3}, {ID: 9, Version: 1}}
			r.Replaces = []*livepatch.Manifest{{Format: 2, Name: "tsugi_v1", States: []livepatch.State{{ID: 1, Version: 2}}}}
		}, preflight.States, true, "", ""},
		{"a state that it does not know", func(r *R) {
			r.Replaces = []*livepatch.Manifest{{Format: 2, Name: "tsugi_v1", States: []livepatch.State{{ID: 1, Version: 2}}}}
		}, preflight.States, false, "TS9225", "state 1 of tsugi_v1"},
		{"a state in an older version", func(r *R) {
			r.Manifest.States = []livepatch.State{{ID: 1, Version: 1}}
			r.Replaces = []*livepatch.Manifest{{Format: 2, Name: "tsugi_v1", States: []livepatch.State{{ID: 1, Version: 2}}}}
		}, preflight.States, false, "TS9225", "version 1 of state 1"},
		{"a live patch of an older Tsugi", func(r *R) { r.Replaces = []*livepatch.Manifest{{Format: 1, Name: "tsugi_v1"}} }, preflight.States, true, "TS9246", "tsugi_v1"},

		{"modules as built for", func(*R) {}, preflight.Targets, true, "", "jbd2 not loaded, patched on arrival"},
		{"a loaded module of another build", func(r *R) { r.Host.Modules[0].BuildID = otherID }, preflight.Targets, false, "TS9214", "ext4"},
		{"a loaded module that does not say", func(r *R) { r.Host.Modules[0].BuildID = "" }, preflight.Targets, true, "TS9243", "ext4"},
		{"a module loaded by force", func(r *R) { r.Host.Modules[0].Taints = "FOE" }, preflight.Targets, false, "TS9224", "ext4"},
		{"a manifest without modules", func(r *R) { r.Manifest.Modules = nil }, preflight.Targets, true, "TS9241", "ext4, jbd2"},
		{"a file of another build", func(r *R) { r.OnDisk["jbd2"] = ext4ID }, preflight.Targets, true, "TS9245", "jbd2"},
		{"a loaded module whose file was replaced", func(r *R) { r.OnDisk["ext4"] = otherID }, preflight.Targets, true, "", ""},

		{"a function that is held", func(r *R) { r.Host.Livepatches = nil }, preflight.Functions, false, "TS9215", "do_it"},
		{"a function of a module that is held", func(r *R) { r.Host.FtraceUsers[2].IPModify = true }, preflight.Functions, false, "TS9215", "does not say by whom"},
		{"a list of functions that is locked away", unread("/sys/kernel/tracing/enabled_functions"), preflight.Functions, true, "TS9243", "permission denied"},
		{"a probe inside a function", func(r *R) { r.Host.Kprobes[0] = hostinfo.Kprobe{Symbol: "do_it", Offset: 5} }, preflight.Probes, true, "TS9240", "do_it+0x5"},
		{"a probe inside a function of a module", func(r *R) { r.Host.Kprobes[2].Module = "ext4" }, preflight.Probes, true, "TS9240", "ext4_rmdir+0x5"},
		{"a list of probes that is locked away", unread("/sys/kernel/debug/kprobes/list"), preflight.Probes, true, "TS9243", "permission denied"},

		{"signatures are demanded", enforced, preflight.Signatures, true, "TS9244", "Example: live patches"},
		{"signatures are demanded and no key is shown", func(r *R) { r.Host.SigEnforce = ptr(true) }, preflight.Signatures, true, "TS9244", "sig_enforce"},
		{"a kernel built to demand them", func(r *R) { r.Host.Config["MODULE_SIG_FORCE"] = "y" }, preflight.Signatures, true, "TS9244", "CONFIG_MODULE_SIG_FORCE"},
		{"a kernel built to demand them, as it says", func(r *R) { enforced(r); r.Host.Config["MODULE_SIG_FORCE"] = "y" }, preflight.Signatures, true, "TS9244", "CONFIG_MODULE_SIG_FORCE"},
		{"Secure Boot and lockdown", func(r *R) { r.Host.Lockdown, r.Host.SecureBoot = "integrity", ptr(true) }, preflight.Signatures, true, "TS9244", "Secure Boot"},
		{"Secure Boot and nothing to see", func(r *R) { r.Host.Lockdown, r.Host.SecureBoot = "", ptr(true) }, preflight.Signatures, true, "TS9243", ""},
		{"nothing to see at all", func(r *R) { r.Host.SigEnforce, r.Host.Config = nil, nil }, preflight.Signatures, true, "TS9243", ""},

		{"unsigned where signatures are demanded", enforced, preflight.Signature, false, "TS9207", "it trusts"},
		{"unsigned on a locked down machine", func(r *R) { r.Host.Lockdown = "confidentiality" }, preflight.Signature, false, "TS9207", "confidentiality"},
		{"unsigned where nothing is known", func(r *R) { r.Host.SigEnforce, r.Host.Config = nil, nil }, preflight.Signature, true, "TS9243", "this one is not"},
		{"signed by the owner's key", both(enforced, signedBy(preflight.Signer{Name: "Example: live patches"})), preflight.Signature, true, "", ".machine"},
		{"signed by the owner's key, by its id", both(enforced, signedBy(preflight.Signer{KeyID: "0011"})), preflight.Signature, true, "", ".machine"},
		{"signed by a stranger", both(enforced, signedBy(preflight.Signer{Name: "Stranger"})), preflight.Signature, false, "TS9208", `"Example: live patches" (.machine)`},
		{"signed by a stranger, by its id", both(enforced, signedBy(preflight.Signer{KeyID: "0022"})), preflight.Signature, false, "TS9208", "sig_enforce"},
		{"signed by a stranger where that is no matter", signedBy(preflight.Signer{Name: "Stranger"}), preflight.Signature, true, "", "none is demanded"},
		{"signed, and no key to see", both(func(r *R) { r.Host.SigEnforce = ptr(true) }, signedBy(preflight.Signer{Name: "Example"})), preflight.Signature, true, "TS9243", "which keys"},
		{"signed by a stranger where nothing is known", func(r *R) {
			enforced(r)
			signedBy(preflight.Signer{Name: "Stranger"})(r)
			r.Host.SigEnforce, r.Host.Config = nil, nil
		}, preflight.Signature, true, "TS9243", "Stranger"},

		{"little memory", func(r *R) { r.Host.MemAvailable = 10 << 20 }, preflight.Memory, false, "TS9216", "10 MiB"},
		{"memory that is not shown", func(r *R) { r.Host.MemAvailable = 0 }, preflight.Memory, true, "TS9243", ""},
		{"a full disk", func(r *R) { r.Space.Free = 0 }, preflight.Disk, false, "TS9217", "0 KiB"},
		{"nothing to keep", func(r *R) { r.Space = preflight.Space{} }, preflight.Disk, true, "", ""},
	}
}

func TestAHealthyMachinePasses(t *testing.T) {
	fs := preflight.Check(*healthy())
	for _, f := range fs {
		qt.Check(t, qt.IsTrue(f.OK), qt.Commentf("%s: %v", f.ID, f.Problem))
		qt.Check(t, qt.IsNil(f.Problem), qt.Commentf("%s", f.ID))
	}
	qt.Check(t, qt.IsTrue(preflight.Passed(fs)))
	qt.Check(t, qt.HasLen(preflight.Problems(fs), 0))
}

func TestEveryRuleSaysWhy(t *testing.T) {
	ids := func(fs []preflight.Finding) []string {
		var out []string
		for _, f := range fs {
			out = append(out, f.ID)
		}
		return out
	}
	order := ids(preflight.Check(*healthy()))
	seen := map[string]bool{}
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) {
			r := healthy()
			c.edit(r)
			fs := preflight.Check(*r)
			qt.Assert(t, qt.DeepEquals(ids(fs), order))
			for _, f := range fs {
				if !f.OK && qt.Check(t, qt.IsNotNil(f.Problem), qt.Commentf("%s", f.ID)) {
					qt.Check(t, qt.Not(qt.Equals(f.Problem.Fix, "")), qt.Commentf("%s has no remedy", f.Problem.Code))
				}
				if f.ID != c.rule {
					continue
				}
				qt.Check(t, qt.Equals(f.OK, c.ok), qt.Commentf("%+v: %v", f, f.Problem))
				got, text := code.Code(""), f.Detail
				if f.Problem != nil {
					got, text = f.Problem.Code, f.Problem.Error()
				}
				qt.Check(t, qt.Equals(got, c.code), qt.Commentf("%v", f.Problem))
				qt.Check(t, qt.StringContains(text, c.why))
				if e, _ := code.Lookup(got); got != "" {
					qt.Check(t, qt.Equals(e.Kind == code.KindRisk, c.ok), qt.Commentf("%s: what is no more than advice is a risk", got))
				}
			}
		})
		if !c.ok {
			seen[c.rule] = true
		}
	}
	// What can only advise has no refusal; every other rule has one here.
	advisers := map[string]bool{preflight.Signatures: true, preflight.Probes: true}
	for _, id := range order {
		qt.Check(t, qt.Equals(seen[id], !advisers[id]), qt.Commentf("rule %s", id))
	}
}

// TestAbleIsTheBeginningOfCheck: what a machine is told before there is a live
// patch for it is what it is told then.
func TestAbleIsTheBeginningOfCheck(t *testing.T) {
	for _, c := range cases() {
		r := healthy()
		c.edit(r)
		able, all := preflight.Able(r.Host, r.Ours...), preflight.Check(*r)
		qt.Check(t, qt.DeepEquals(able, all[:len(able)]), qt.Commentf("%s", c.name))
	}
}

// TestDeviationsAddUp: several at once are all told, whatever else is wrong.
func TestDeviationsAddUp(t *testing.T) {
	all := cases()
	rapid.Check(t, func(t *rapid.T) {
		r := healthy()
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(all)-1), 0, 4).Draw(t, "deviations") {
			func() {
				// An edit of what another one has taken away is none.
				defer func() { _ = recover() }()
				all[i].edit(r)
			}()
		}
		fs := preflight.Check(*r)
		bad := 0
		for _, f := range fs {
			if !f.OK {
				bad++
			}
			if !f.OK && f.Problem == nil {
				t.Fatalf("%s refuses and does not say why", f.ID)
			}
		}
		if len(preflight.Problems(fs)) != bad || preflight.Passed(fs) != (bad == 0) {
			t.Fatalf("%d refusals, %d problems", bad, len(preflight.Problems(fs)))
		}
	})
}
