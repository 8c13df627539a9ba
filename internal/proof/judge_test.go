// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof/guest"
	"github.com/tsugi-project/tsugi/internal/vm"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// story builds the outcome of one machine.
type story struct{ o *vm.Outcome }

func machine(build string) story {
	return story{&vm.Outcome{
		End: vm.Finished, Boot: 5 * time.Second,
		Greeting: &wire.Greeting{Release: "6.1.0-55-amd64", BuildID: build},
		Log:      []vm.LogLine{{Record: wire.Record{Level: 4, Text: "early: warning 17"}}},
	}}
}

func (s story) begin(id string) story {
	s.o.Events = append(s.o.Events, wire.Event{Kind: wire.Begin, Step: id})
	return s
}

func (s story) done(id string, result any, fail ...string) story {
	s.begin(id)
	b, _ := json.Marshal(result)
	e := wire.Event{Kind: wire.Done, Step: id, Data: b}
	if len(fail) > 0 {
		e.Error = fail[0]
	}
	if len(fail) > 1 {
		e.Errno = fail[1]
	}
	s.o.Events = append(s.o.Events, e)
	return s
}

func (s story) log(step string, level int, text string) story {
	s.o.Log = append(s.o.Log, vm.LogLine{Step: step, Record: wire.Record{Level: level, Text: text}})
	return s
}

func (s story) ends(e vm.End, console string) story {
	s.o.End, s.o.Console, s.o.Crash = e, console, vm.FindCrash(console)
	return s
}

// without removes what happened from a step on.
func (s story) without(id string) story {
	for i, e := range s.o.Events {
		if e.Step == id {
			s.o.Events = s.o.Events[:i]
			break
		}
	}
	return s
}

const (
	build   = "210cfeaa36862392f72c64cd5b63aa31dd0445c2"
	oops    = "[ 5.2] BUG: kernel NULL pointer dereference, address: 0000000000000000\n[ 5.2] RIP: 0010:f+0x1/0x2\n[ 5.3] Kernel panic - not syncing: Fatal exception\n"
	oopsErr = "oops: BUG: kernel NULL pointer dereference, address: 0000000000000000 in f"
)

func crashed() story {
	return machine(build).done("disks", []string{}).done(stepModules, []string{"ext4"}).
		done(stepProbe, vmguest.ScriptResult{}).begin(stepReproduce).ends(vm.Panicked, oops)
}

// plain is a machine without the patch up to its reproducer.
func plain() story {
	return machine(build).done(stepModules, []string{"ext4"}).done(stepProbe, vmguest.ScriptResult{})
}

func stateOf(ext4 bool) *guest.State {
	s := &guest.State{
		Loaded: true, Enabled: "1", Transition: "0", Modules: []string{"tsugi_p"},
		Objects: []guest.Object{
			{Name: "ext4", Patched: "0", Functions: []string{"g,2"}},
			{Name: "vmlinux", Patched: "1", Functions: []string{"f,1"}},
		},
	}
	if ext4 {
		s.Modules = append(s.Modules, "ext4")
		s.Objects[0].Patched = "1"
	}
	return s
}

func patched() story {
	return machine(build).
		done("disks", []string{}).done(stepModules, []string{"ext4"}).
		done(stepLoad, guest.Transition{Insert: 1e6, Transition: 16e6, Complete: true}).
		log(stepLoad, 4, "tsugi_p: loading out-of-tree module taints kernel.").
		log(stepLoad, 5, "livepatch: 'tsugi_p': patching complete").
		done(stepLoaded, stateOf(true)).
		done(stepWatch, guest.Traced{Traceable: []string{"f", "g.2"}}).
		done(stepProbe, vmguest.ScriptResult{}).
		done(stepReproduce, vmguest.ScriptResult{Output: "survived\n"}).
		done(stepWatched, guest.Traced{Traceable: []string{"f", "g.2"}, Seen: []string{"g.2"}}).
		done(stepRevert, guest.Transition{Transition: 9e6, Complete: true}).
		done(stepReverted, guest.State{Modules: []string{"ext4"}}).
		done(stepCycles, guest.Cycles{Count: 2, Runs: 9, Loads: make([]guest.Transition, 2), Reverts: make([]guest.Transition, 2)}).
		done(stepProbeAgain, vmguest.ScriptResult{}).
		begin(stepShown).ends(vm.Panicked, oops)
}

func request() Request {
	r := Request{
		Target: Target{TargetRef: livepatch.TargetRef{Name: "debian:6.1.0-55-amd64", Release: "6.1.0-55-amd64", BuildID: build}},
		Patch:  PatchRef{Name: "tsugi_p"}, Module: []byte("ko"),
		Functions:  []livepatch.Function{{Object: "ext4", Name: "g", SymPos: 2}, {Object: "vmlinux", Name: "f"}},
		Reproducer: "true", Probe: "true", Cycles: 2,
	}
	return r.withDefaults()
}

func TestVerdicts(t *testing.T) {
	lost := crashed()
	lost.o.Lost = 2
	for _, c := range []struct {
		name   string
		edit   func(*Request)
		before story
		after  story
		fails  string // checks that fail, with the codes of their problems
		skips  string
		detail map[string]string // of some checks
	}{
		{
			name: "everything holds", before: crashed(), after: patched(), skips: "late-modules",
			detail: map[string]string{"before": oopsErr, "load": "transition over after 16 ms", "revert-shown": oopsErr, "cycles": "2 times, longest transition 0 ms, the probe passed 9 times meanwhile", "ran": "1 of 2; not f"},
		},
		{
			name:   "the reproducer exits with a status, and again after the revert",
			before: plain().done(stepReproduce, vmguest.ScriptResult{Exit: 3}),
			after:  patched().without(stepShown).done(stepShown, vmguest.ScriptResult{Exit: 3}).ends(vm.Finished, ""),
			skips:  "late-modules", detail: map[string]string{"before": "exit status: 3", "revert-shown": "exit status: 3"},
		},
		{
			name: "the reproducer hangs", before: plain().done(stepReproduce, vmguest.ScriptResult{Exit: -1, TimedOut: true, Elapsed: 60e9}),
			after: patched(), skips: "late-modules", detail: map[string]string{"before": "hang: for 1m0s"},
		},
		{
			name: "the reproducer hangs the whole machine", before: plain().begin(stepReproduce).ends(vm.TimedOut, "last words"),
			after: patched(), skips: "late-modules", detail: map[string]string{"before": "hang: the whole machine"},
		},
		{
			name:   "the reproducer makes the kernel warn and passes",
			before: plain().done(stepReproduce, vmguest.ScriptResult{}).log(stepReproduce, 4, "WARNING: CPU: 1 PID: 2 at fs/x.c:3 f+0x1/0x2"),
			after:  patched(), skips: "late-modules", detail: map[string]string{"before": "kernel warning: WARNING: CPU: 1 PID: 2 at fs/x.c:3 f+0x1/0x2"},
		},
		{
			name: "the reproducer passes without the patch", before: plain().done(stepReproduce, vmguest.ScriptResult{}),
			after: patched(), fails: "before TS6102", skips: "late-modules",
		},
		{
			name: "another kernel runs", before: crashed(), after: story{func() *vm.Outcome { o := patched().o; o.Greeting.BuildID = "ff"; return o }()},
			fails: "kernel TS6101", skips: "late-modules",
		},
		{
			name: "messages were lost", before: lost, after: patched(), fails: "kernel TS6111", skips: "late-modules",
		},
		{
			name: "process 1 never spoke", before: crashed(), after: story{&vm.Outcome{End: vm.TimedOut, Console: "Decompressing\nx"}},
			fails: "kernel TS6111", skips: "load functions late-modules probe after ran revert cycles revert-shown log",
		},
		{
			name: "a module is refused in the set-up", before: machine(build).done(stepModules, nil, "load ext4.ko: exec format error", "ENOEXEC"),
			after: machine(build).done(stepModules, nil, "load ext4.ko: exec format error", "ENOEXEC"),
			fails: "kernel TS6110", skips: "before load functions late-modules probe after ran revert cycles revert-shown",
		},
		{
			name: "the kernel refuses the patch", before: crashed(),
			after: machine(build).done(stepLoad, guest.Transition{Insert: 1e6}, "load patch.ko: invalid argument", "EINVAL").
				log(stepLoad, 3, "livepatch: symbol 'f' not found in symbol table"),
			fails: "load TS6103 log TS6108", skips: "functions late-modules probe after ran revert cycles revert-shown",
			detail: map[string]string{"load": "load patch.ko: invalid argument (EINVAL); kernel: livepatch: symbol 'f' not found in symbol table"},
		},
		{
			name: "loading the patch crashes the kernel", before: crashed(), after: machine(build).begin(stepLoad).ends(vm.Panicked, oops),
			fails: "load TS6103 log TS6108", skips: "functions late-modules probe after ran revert cycles revert-shown",
		},
		{
			name: "the transition stalls", before: crashed(),
			after: machine(build).done(stepLoad, guest.Transition{Insert: 1e6, Holders: []guest.Holder{{PID: 7, Comm: "kthread", Stack: "[<0>] schedule+0x1/0x2\n[<0>] f"}}}, "the transition did not end in time"),
			fails: "load TS6104", skips: "functions late-modules probe after ran revert cycles revert-shown",
			detail: map[string]string{"load": "the transition did not end in time; held by kthread (7) in [<0>] schedule+0x1/0x2"},
		},
		{
			name: "another symbol of that name is patched", edit: func(r *Request) { r.Functions[0].SymPos = 1 },
			before: crashed(), after: patched(), fails: "functions TS6105", skips: "late-modules",
			detail: map[string]string{"functions": "ext4/g,1 is in the manifest and not patched; ext4/g,2 is patched and not in the manifest"},
		},
		{
			name: "a module arrives late and is patched, in a kernel that cannot trace", edit: func(r *Request) { r.LateModules = []string{"ext4"} },
			skips:  "ran",
			before: crashed(),
			after: machine(build).done(stepLoad, guest.Transition{Complete: true}).done(stepLoaded, stateOf(false)).
				done(stepLate, []string{"ext4"}).done(stepLateLoaded, stateOf(true)).
				done(stepProbe, vmguest.ScriptResult{}).done(stepReproduce, vmguest.ScriptResult{}).
				done(stepWatched, guest.Traced{}).done(stepRevert, guest.Transition{}).done(stepReverted, guest.State{}).
				done(stepCycles, guest.Cycles{Count: 2}).done(stepProbeAgain, vmguest.ScriptResult{}).begin(stepShown).ends(vm.Panicked, oops),
		},
		{
			name: "a module arrives late and is not patched", edit: func(r *Request) { r.LateModules = []string{"ext4"} },
			before: crashed(),
			after: machine(build).done(stepLoad, guest.Transition{Complete: true}).done(stepLoaded, stateOf(false)).
				done(stepLate, nil, "load ext4.ko: exec format error", "ENOEXEC").log(stepLate, 3, "module: x86/modules: Skipping invalid relocation target, existing value is nonzero for type 1"),
			fails: "late-modules TS6109 log TS6108", skips: "probe after ran revert cycles revert-shown",
		},
		{
			name: "a late module was there too early", edit: func(r *Request) { r.LateModules = []string{"ext4"} },
			before: crashed(),
			after:  patched().without(stepReproduce).done(stepLate, []string{}).done(stepLateLoaded, stateOf(true)).ends(vm.Finished, ""),
			fails:  "functions TS6105", skips: "probe after ran revert cycles revert-shown",
		},
		{
			name: "the bug is still there", before: crashed(),
			after: patched().without(stepReproduce).begin(stepReproduce).ends(vm.Panicked, oops),
			fails: "after TS6106 log TS6108", skips: "late-modules probe ran revert cycles revert-shown", detail: map[string]string{"after": oopsErr},
		},
		{
			name: "the patch does not leave", before: crashed(),
			after: patched().without(stepRevert).done(stepRevert, guest.Transition{}, "the transition did not end in time").ends(vm.Finished, ""),
			fails: "revert TS6107", skips: "late-modules probe cycles revert-shown",
		},
		{
			name: "the patch says that it left and did not", before: crashed(),
			after: patched().without(stepReverted).done(stepReverted, stateOf(true)).ends(vm.Finished, ""),
			fails: "revert TS6107", skips: "late-modules probe cycles revert-shown",
		},
		{
			name: "the module stays in memory", before: crashed(),
			after: patched().without(stepReverted).without(stepCycles).without(stepProbeAgain).without(stepShown).
				done(stepReverted, guest.State{Modules: []string{"ext4", "tsugi_p"}, Stays: true}).done(stepCycles, guest.Cycles{Stays: true}).
				done(stepProbeAgain, vmguest.ScriptResult{}).begin(stepShown).ends(vm.Panicked, oops),
			skips: "late-modules cycles", detail: map[string]string{"revert": "transition over after 9 ms, the module stays in memory"},
		},
		{
			name: "the module stays in memory, and so does the live patch", before: crashed(),
			after: patched().without(stepReverted).done(stepReverted, guest.State{Loaded: true, Modules: []string{"tsugi_p"}, Stays: true}).ends(vm.Finished, ""),
			fails: "revert TS6107", skips: "late-modules probe cycles revert-shown",
		},
		{
			name: "the second cycle fails", before: crashed(),
			after: patched().without(stepCycles).done(stepCycles, guest.Cycles{Count: 1}, "cycle 2: load patch.ko: device or resource busy", "EBUSY").ends(vm.Finished, ""),
			fails: "cycles TS6112", skips: "late-modules probe revert-shown",
		},
		{
			name: "the bug does not come back after the revert", before: crashed(),
			after: patched().without(stepShown).done(stepShown, vmguest.ScriptResult{}).ends(vm.Finished, ""),
			fails: "revert-shown TS6113", skips: "late-modules",
		},
		{
			name: "the kernel warns with the patch", before: crashed(), after: patched().log(stepCycles, 4, "WARNING: CPU: 0 PID: 1 at arch/x86/kernel/alternative.c:1"),
			fails: "log TS6108", skips: "late-modules",
		},
		{
			name: "a return thunk was left out", before: crashed(), after: patched().log(stepReproduce, 3, "Unpatched return thunk in use. This should not happen!"),
			fails: "after TS6106 log TS6108", skips: "late-modules",
		},
		{
			name: "a warning that the kernel makes at boot anyway", before: crashed().log("", 4, "WARNING: CPU: 0 PID: 1 at x.c:12"),
			after: patched().log(stepRevert, 4, "WARNING: CPU: 1 PID: 99 at x.c:12"), skips: "late-modules",
		},
		{
			name: "a warning of the bug itself is not excused", before: plain().done(stepReproduce, vmguest.ScriptResult{}).log(stepReproduce, 4, "WARNING: CPU: 1 PID: 2 at x.c:3"),
			after: patched().log(stepReproduce, 4, "WARNING: CPU: 0 PID: 3 at x.c:3"), fails: "after TS6106 log TS6108", skips: "late-modules",
		},
		{
			name: "what the last reproduction makes the kernel say is not held against it", before: crashed(),
			after: patched().log(stepShown, 3, "BUG: unable to handle page fault"), skips: "late-modules",
		},
		{
			name: "there is a probe and no reproducer", edit: func(r *Request) { r.Reproducer = "" },
			before: plain(), after: patched().without(stepShown).ends(vm.Finished, ""), skips: "before late-modules after revert-shown",
			detail: map[string]string{"probe": "passed without the patch, with it and after the revert"},
		},
		{
			name: "the probe fails without the patch", before: plain().without(stepProbe).done(stepProbe, vmguest.ScriptResult{Exit: 1}).ends(vm.Finished, ""),
			after: patched(), edit: func(r *Request) { r.Reproducer = "" }, fails: "probe TS6115", skips: "before late-modules after revert-shown",
		},
		{
			name: "the probe fails with the patch", before: crashed(),
			after: patched().without(stepProbe).done(stepProbe, vmguest.ScriptResult{Exit: 1}).ends(vm.Finished, ""),
			fails: "probe TS6116", skips: "late-modules after ran revert cycles revert-shown",
		},
		{
			name: "the probe fails after the revert", before: crashed(),
			after: patched().without(stepProbeAgain).done(stepProbeAgain, vmguest.ScriptResult{Signal: "SIGSEGV"}).begin(stepShown).ends(vm.Panicked, oops),
			fails: "probe TS6116", skips: "late-modules", detail: map[string]string{"probe": "signal: SIGSEGV"},
		},
		{
			name: "the probe fails while the patch comes and goes", before: crashed(),
			after: patched().without(stepCycles).done(stepCycles, guest.Cycles{Count: 2, Runs: 5, Failed: 1, Output: "no answer\n"}).
				done(stepProbeAgain, vmguest.ScriptResult{}).begin(stepShown).ends(vm.Panicked, oops),
			fails: "cycles TS6112", skips: "late-modules", detail: map[string]string{"cycles": "the probe failed 1 of 5 times meanwhile: no answer"},
		},
		{
			name: "the reproducer passes and runs nothing of the patch", before: crashed(),
			after: patched().without(stepWatched).done(stepWatched, guest.Traced{Traceable: []string{"f", "g"}}).
				done(stepRevert, guest.Transition{}).done(stepReverted, guest.State{}).done(stepCycles, guest.Cycles{Count: 2}).
				done(stepProbeAgain, vmguest.ScriptResult{}).begin(stepShown).ends(vm.Panicked, oops),
			fails: "ran TS6117", skips: "late-modules", detail: map[string]string{"ran": "not one of g, f"},
		},
		{
			name: "there is nothing to run", edit: func(r *Request) { r.Reproducer, r.Probe = "", "" },
			after: patched().without(stepWatch).done(stepRevert, guest.Transition{}).done(stepReverted, guest.State{}).done(stepCycles, guest.Cycles{Count: 2}).ends(vm.Finished, ""),
			skips: "before late-modules probe after ran revert-shown",
		},
		{
			name: "the machine dies between two steps", before: crashed(), after: patched().without(stepReproduce).ends(vm.Died, "last words"),
			fails: "after TS6111", skips: "late-modules probe ran revert cycles revert-shown",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request()
			if c.edit != nil {
				c.edit(&r)
			}
			p := Judge(Evidence{Request: r, Before: c.before.o, After: c.after.o})
			var fails, skips, ids []string
			for _, k := range p.Checks {
				ids = append(ids, k.ID)
				if k.ID == CheckReplaced && r.Previous.Name == "" {
					qt.Check(t, qt.Equals(k.Status, Skip))
					continue
				}
				switch k.Status {
				case Fail:
					fails = append(fails, k.ID)
				case Skip:
					skips = append(skips, k.ID)
				}
				if want, ok := c.detail[k.ID]; ok {
					qt.Check(t, qt.Equals(k.Detail, want))
				}
			}
			var got []string
			for i, pr := range p.Problems {
				got = append(got, fails[i]+" "+string(pr.Code))
				_, known := code.Lookup(pr.Code)
				qt.Check(t, qt.IsTrue(known), qt.Commentf("%s", pr.Code))
			}
			qt.Check(t, qt.Equals(strings.Join(got, " "), c.fails))
			qt.Check(t, qt.Equals(strings.Join(skips, " "), c.skips))
			qt.Check(t, qt.Equals(p.Verdict == Proved, c.fails == ""))
			qt.Check(t, qt.Equals(strings.Join(ids, " "), "kernel before load replaced functions late-modules probe after ran revert cycles revert-shown log"),
				qt.Commentf("every proof has all checks"))

			b, err := p.Bytes()
			qt.Assert(t, qt.IsNil(err))
			q, err := Read(b)
			qt.Assert(t, qt.IsNil(err))
			again, err := q.Bytes()
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(string(again), string(b)))
		})
	}
}

func TestPlansDoWhatTheRequestAsks(t *testing.T) {
	steps := func(p *wire.Plan) string {
		if p == nil {
			return ""
		}
		qt.Assert(t, qt.IsNil(p.Check()))
		var out []string
		for _, s := range p.Steps {
			out = append(out, s.ID)
		}
		return strings.Join(out, " ")
	}
	r := request()
	r.Modules = []string{"dm_mod"}
	before, after := plans(&r)
	qt.Check(t, qt.Equals(steps(before), "modules changed-modules probe reproduce"))
	qt.Check(t, qt.Equals(steps(after), "modules changed-modules load loaded watch probe reproduce watched revert reverted cycles probe-again reproduce-again"))

	r.LateModules, r.Modules, r.changed, r.Cycles, r.SkipRevertShown = []string{"ext4"}, nil, nil, 0, true
	before, after = plans(&r)
	qt.Check(t, qt.Equals(steps(before), "late probe reproduce"))
	qt.Check(t, qt.Equals(steps(after), "load loaded late late-loaded watch probe reproduce watched revert reverted probe-again"))

	r.Reproducer, r.Probe = "", ""
	before, after = plans(&r)
	qt.Check(t, qt.IsNil(before))
	qt.Check(t, qt.Equals(steps(after), "load loaded late late-loaded revert reverted"))
}

// TestManyModules: a live patch of a whole update changes more modules than any
// machine can load. Those that it cannot are told; something has to be left.
func TestManyModules(t *testing.T) {
	t.Parallel()
	r := Request{Functions: []livepatch.Function{{Object: "vmlinux", Name: "f"}}}
	for i := range 100 {
		r.Functions = append(r.Functions, livepatch.Function{Object: fmt.Sprintf("module%d", i), Name: "f"})
	}
	r = r.withDefaults()
	qt.Check(t, qt.HasLen(r.changed, 100))
	qt.Check(t, qt.IsTrue(r.Memory > 1500 && r.Timeout > 9*time.Minute), qt.Commentf("%d MiB, %v", r.Memory, r.Timeout))

	judged := func(objects ...string) *Proof {
		r := request()
		r.Functions, r.Reproducer, r.Probe = nil, "", ""
		for _, o := range objects {
			r.Functions = append(r.Functions, livepatch.Function{Object: o, Name: "f"})
		}
		m := machine(build).done(stepChanged, vmguest.Tried{Refused: []vmguest.Refused{{Name: "idxd", Error: "load idxd.ko: no such device"}}})
		return Judge(Evidence{Request: r, After: m.o})
	}
	some := judged("idxd", "vmlinux")
	k, _ := some.Check(CheckKernel)
	qt.Check(t, qt.Equals(k.Status, Pass))
	qt.Check(t, qt.DeepEquals(some.Unloaded, []vmguest.Refused{{Name: "idxd", Error: "load idxd.ko: no such device"}}))
	none := judged("idxd")
	k, _ = none.Check(CheckKernel)
	qt.Check(t, qt.Equals(k.Status, Fail))
	qt.Check(t, qt.Equals(none.Problems[0].Code, "TS6110"))
}

func TestAPatchForAnotherKernelIsRefused(t *testing.T) {
	m := livepatch.Manifest{
		Name: "p", Version: 1, Target: livepatch.TargetRef{Name: "t", Release: "r", Arch: "x86_64", BuildID: build},
		Fixes: []livepatch.FixRef{{ID: "f"}}, Functions: []livepatch.Function{{Object: "vmlinux", Name: "f"}},
	}
	p, err := livepatch.New(m, "p.ko", []byte("ko"), map[string][]byte{"f": []byte("diff")})
	qt.Assert(t, qt.IsNil(err))
	r, err := FromPatch(p, Target{TargetRef: livepatch.TargetRef{BuildID: build}})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(r.Module), "ko"))
	qt.Check(t, qt.Equals(len(r.Patch.Digest), 64))
	_, err = FromPatch(p, Target{TargetRef: livepatch.TargetRef{BuildID: "00"}})
	qt.Check(t, qt.Equals(code.Of(err), "TS6101"))
}

func FuzzRead(f *testing.F) {
	b, err := Judge(Evidence{Request: request(), Before: crashed().o, After: patched().o}).Bytes()
	qt.Assert(f, qt.IsNil(err))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Read(b)
		if (err == nil) != (p != nil) {
			t.Fatal("neither a proof nor an error, or both")
		}
		if p == nil {
			return
		}
		if _, err := p.Bytes(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzJudge feeds results that are not what they should be: a guest may send
// anything once its kernel has gone wrong.
func FuzzJudge(f *testing.F) {
	f.Add("load", `{"insert_ns":1}`, "", "", oops, 3)
	f.Add("cycles", `[]`, "boom", "EBUSY", "", 0)
	f.Fuzz(func(t *testing.T, step, data, fail, errno, console string, cut int) {
		s := patched()
		if cut >= 0 && cut < len(s.o.Events) {
			s.o.Events = s.o.Events[:cut]
		}
		s.o.Events = append(s.o.Events, wire.Event{Kind: wire.Begin, Step: step},
			wire.Event{Kind: wire.Done, Step: step, Error: fail, Errno: errno, Data: json.RawMessage(data)})
		s.ends(vm.Died, console)
		p := Judge(Evidence{Request: request(), Before: crashed().o, After: s.o})
		if len(p.Checks) != 13 {
			t.Fatalf("%d checks", len(p.Checks))
		}
		if (p.Verdict == Proved) != (len(p.Problems) == 0) {
			t.Fatal("a verdict that does not follow from the problems")
		}
	})
}
