// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof/guest"
	"github.com/tsugi-project/tsugi/internal/vm"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// Evidence is all that a verdict is made of.
type Evidence struct {
	Request Request     // with its defaults filled in
	Before  *vm.Outcome // nil without a reproducer
	After   *vm.Outcome
}

// Judge makes a verdict. It is pure: the same evidence gives the same proof.
func Judge(ev Evidence) *Proof {
	r := &ev.Request
	j := &judge{ev: ev, p: &Proof{
		Format: Format, Target: r.Target.TargetRef, Patch: r.Patch,
		Machine: Machine{Accelerator: ev.After.Accel, CPUs: r.CPUs, MemoryMiB: r.Memory},
	}}
	if g := ev.After.Greeting; g != nil {
		j.p.Kernel = Kernel{Release: g.Release, Banner: g.Version, BuildID: g.BuildID, Cmdline: g.Cmdline}
	}
	j.p.Before, j.p.After = run(r, ev.Before), run(r, ev.After)
	j.p.Log = judgeLog(r.Patch.Name, ev.Before, ev.After)
	j.kernel()
	j.before()
	j.load()
	j.functions()
	j.late()
	j.probe()
	j.after()
	j.ran()
	j.revert()
	j.cycles()
	j.shown()
	j.log()
	j.p.Verdict = Proved
	if len(j.p.Problems) > 0 {
		j.p.Verdict = Failed
	}
	return j.p
}

type judge struct {
	ev Evidence
	p  *Proof
}

func (j *judge) pass(id string, ms int64, format string, args ...any) {
	j.p.Checks = append(j.p.Checks, Check{ID: id, Status: Pass, MS: ms, Detail: fmt.Sprintf(format, args...)})
}

func (j *judge) skip(id, why string) {
	j.p.Checks = append(j.p.Checks, Check{ID: id, Status: Skip, Detail: why})
}

func (j *judge) fail(id string, c code.Code, where, why string) {
	j.p.Checks = append(j.p.Checks, Check{ID: id, Status: Fail, Detail: why})
	j.p.Problems = append(j.p.Problems, code.New(c, where, why))
}

// notReached answers for a step that never began: skipped after an earlier
// failure, a failure of its own when the machine ended with no other reason.
func (j *judge) notReached(id string) {
	if len(j.p.Problems) > 0 {
		j.skip(id, "not reached")
		return
	}
	j.fail(id, "TS6111", j.ev.Request.Patch.Name, machineEnd(j.ev.After))
}

func (j *judge) kernel() {
	for _, m := range []struct {
		name  string
		o     *vm.Outcome
		setup []string
	}{
		{"without the patch", j.ev.Before, []string{stepDisks, stepModules, stepLate}},
		{"with the patch", j.ev.After, []string{stepDisks, stepModules}},
	} {
		if m.o == nil {
			continue
		}
		want := j.ev.Request.Target
		switch g := m.o.Greeting; {
		case g == nil:
			j.fail(CheckKernel, "TS6111", "the machine "+m.name, "process 1 never spoke; "+machineEnd(m.o))
			return
		case g.BuildID != want.BuildID || g.Release != want.Release:
			j.fail(CheckKernel, "TS6101", want.Name,
				fmt.Sprintf("the machine runs %s with build-id %s, the target is %s with %s", g.Release, g.BuildID, want.Release, want.BuildID))
			return
		case m.o.Lost > 0:
			j.fail(CheckKernel, "TS6111", "the machine "+m.name, fmt.Sprintf("%d of its messages were lost", m.o.Lost))
			return
		}
		for _, s := range m.setup {
			if e, ok := m.o.Step(s); ok && e.Error != "" {
				j.fail(CheckKernel, "TS6110", "the machine "+m.name, e.Error)
				return
			}
		}
	}
	j.pass(CheckKernel, j.ev.After.Boot.Milliseconds(), "%s, build-id %s", j.p.Kernel.Release, j.p.Kernel.BuildID)
}

func (j *judge) before() {
	if j.ev.Request.Reproducer == "" {
		j.skip(CheckBefore, "no reproducer")
		return
	}
	switch e := j.p.Before.Reproducer; {
	case e.Kind.Failed():
		j.pass(CheckBefore, e.MS, "%s", e)
	case e.Kind == EndNotRun && len(j.p.Problems) > 0:
		j.skip(CheckBefore, "not reached")
	case e.Kind == EndNotRun:
		j.fail(CheckBefore, "TS6111", "the machine without the patch", machineEnd(j.ev.Before))
	default:
		j.fail(CheckBefore, "TS6102", j.ev.Request.Target.Name, tailOf(e.Output))
	}
}

func (j *judge) load() {
	e, ok := j.ev.After.Step(stepLoad)
	if !ok {
		if j.ev.After.Began(stepLoad) {
			j.fail(CheckLoad, "TS6103", j.p.Patch.Name, machineEnd(j.ev.After))
			return
		}
		j.notReached(CheckLoad)
		return
	}
	var t guest.Transition
	decode(e, &t)
	j.p.Load = &t
	switch {
	case len(t.Holders) > 0 || (e.Error != "" && e.Errno == "" && t.Insert > 0):
		j.fail(CheckLoad, "TS6104", j.p.Patch.Name, stall(e.Error, &t))
	case e.Error != "":
		j.fail(CheckLoad, "TS6103", j.p.Patch.Name, refusal(e, j.ev.After))
	default:
		j.pass(CheckLoad, ms(t.Insert+t.Transition), "transition over after %d ms", ms(t.Transition))
	}
}

func (j *judge) functions() {
	s, ok := j.state(stepLoaded)
	if !ok {
		j.notReached(CheckFunctions)
		return
	}
	j.p.Objects = s.Objects
	var wrong []string
	if s.Enabled != "1" || s.Transition != "0" {
		wrong = append(wrong, fmt.Sprintf("enabled is %q, transition is %q", s.Enabled, s.Transition))
	}
	wrong = append(wrong, compareFunctions(j.ev.Request.Functions, s.Objects)...)
	wrong = append(wrong, unpatched(s, j.ev.Request.LateModules)...)
	if len(wrong) > 0 {
		j.fail(CheckFunctions, "TS6105", j.p.Patch.Name, strings.Join(wrong, "; "))
		return
	}
	j.pass(CheckFunctions, 0, "%d", len(j.ev.Request.Functions))
}

// compareFunctions tells what sysfs has and the manifest has not, and the
// other way round.
func compareFunctions(want []livepatch.Function, got []guest.Object) []string {
	left := map[string]bool{}
	for _, f := range want {
		// sysfs counts from 1 and shows a unique name as the first.
		left[fmt.Sprintf("%s/%s,%d", f.Object, f.Name, max(f.SymPos, 1))] = true
	}
	var wrong []string
	for _, o := range got {
		for _, f := range o.Functions {
			key := o.Name + "/" + f
			if !left[key] {
				wrong = append(wrong, key+" is patched and not in the manifest")
			}
			delete(left, key)
		}
	}
	for k := range left {
		wrong = append(wrong, k+" is in the manifest and not patched")
	}
	slices.Sort(wrong)
	return wrong
}

// unpatched names the objects that are there and not patched, and the late
// ones that were there too early to show anything.
func unpatched(s *guest.State, late []string) []string {
	var wrong []string
	for _, o := range s.Objects {
		loaded := o.Name == livepatch.Vmlinux || slices.Contains(s.Modules, o.Name)
		switch {
		case o.Patched == "": // kernels before 6.1 do not tell
		case loaded && o.Patched != "1":
			wrong = append(wrong, o.Name+" is loaded and not patched")
		case !loaded && o.Patched != "0":
			wrong = append(wrong, o.Name+" is patched and not loaded")
		}
		if loaded && slices.Contains(late, o.Name) {
			wrong = append(wrong, o.Name+" was loaded before the patch, so that nothing is shown about its arrival")
		}
	}
	return wrong
}

func (j *judge) late() {
	late := j.ev.Request.LateModules
	if len(late) == 0 {
		j.skip(CheckLate, "none asked for")
		return
	}
	e, ok := j.ev.After.Step(stepLate)
	if !ok {
		j.notReached(CheckLate)
		return
	}
	if e.Error != "" {
		j.fail(CheckLate, "TS6109", strings.Join(late, ", "), refusal(e, j.ev.After))
		return
	}
	s, ok := j.state(stepLateLoaded)
	if !ok {
		j.notReached(CheckLate)
		return
	}
	j.p.Objects = s.Objects
	wrong := unpatched(s, nil)
	for _, m := range late {
		if !slices.Contains(s.Modules, m) {
			wrong = append(wrong, m+" is not loaded")
		}
	}
	if len(wrong) > 0 {
		j.fail(CheckLate, "TS6109", strings.Join(late, ", "), strings.Join(wrong, "; "))
		return
	}
	j.pass(CheckLate, 0, "%s", strings.Join(late, ", "))
}

func (j *judge) probe() {
	if j.ev.Request.Probe == "" {
		j.skip(CheckProbe, "none asked for")
		return
	}
	without := &Ending{Kind: EndNotRun, Detail: "the machine without the patch did not run"}
	if j.p.Before != nil {
		without = j.p.Before.Probe
	}
	again := ending(j.ev.After, stepProbeAgain)
	for _, e := range []struct {
		when string
		end  *Ending
		c    code.Code

		machine *vm.Outcome
	}{
		{"without the patch", without, "TS6115", j.ev.Before},
		{"with the patch", j.p.After.Probe, "TS6116", j.ev.After},
		{"after the revert", &again, "TS6116", j.ev.After},
	} {
		switch {
		case e.end.Kind == EndNotRun && len(j.p.Problems) == 0 && e.end != &again:
			j.fail(CheckProbe, "TS6111", e.when, cmp.Or(e.end.Detail, machineEnd(e.machine)))
			return
		case e.end.Kind.Failed():
			j.fail(CheckProbe, e.c, e.when, strings.TrimSpace(e.end.String()+"\n"+tailOf(e.end.Output)))
			return
		}
	}
	if again.Kind == EndNotRun {
		// What kept it from running has its own check, this one or a later one.
		j.skip(CheckProbe, "not reached after the revert")
		return
	}
	j.pass(CheckProbe, j.p.After.Probe.MS, "passed without the patch, with it and after the revert")
}

func (j *judge) after() {
	if j.ev.Request.Reproducer == "" {
		j.skip(CheckAfter, "no reproducer")
		return
	}
	switch e := j.p.After.Reproducer; e.Kind {
	case EndPassed:
		j.pass(CheckAfter, e.MS, "passed")
	case EndNotRun:
		j.notReached(CheckAfter)
	default:
		j.fail(CheckAfter, "TS6106", j.p.Patch.Name, strings.TrimSpace(e.String()+"\n"+tailOf(e.Output)))
	}
}

// ran tells how many of the replaced functions the scripts made run. That none
// did takes the meaning from a reproducer that passes.
func (j *judge) ran() {
	e, ok := j.ev.After.Step(stepWatched)
	if !ok {
		why := "nothing to run"
		if j.ev.Before != nil {
			why = "not reached"
		}
		j.skip(CheckRan, why)
		return
	}
	if w, ok := j.ev.After.Step(stepWatch); ok && w.Error != "" {
		j.skip(CheckRan, "the kernel's function tracer cannot be used: "+w.Error)
		return
	}
	var t guest.Traced
	decode(e, &t)
	j.p.Traced = &t
	var ran, quiet []string
	for _, f := range j.ev.Request.Functions {
		switch {
		case slices.ContainsFunc(t.Seen, named(f.Name)):
			ran = append(ran, f.Name)
		case slices.ContainsFunc(t.Traceable, named(f.Name)):
			quiet = append(quiet, f.Name)
		}
	}
	switch {
	case len(ran)+len(quiet) == 0:
		j.skip(CheckRan, "the kernel's function tracer shows none of the functions")
	case len(ran) == 0 && j.ev.Request.Reproducer != "" && j.p.After.Reproducer.Kind == EndPassed:
		j.fail(CheckRan, "TS6117", j.p.Patch.Name, "not one of "+strings.Join(quiet, ", "))
	default:
		detail := fmt.Sprintf("%d of %d", len(ran), len(ran)+len(quiet))
		if len(quiet) > 0 {
			detail += "; not " + strings.Join(quiet, ", ")
		}
		j.pass(CheckRan, 0, "%s", detail)
	}
}

// named matches a symbol of the patch's module to the function that it
// replaces: a suffix may keep two of one name apart.
func named(name string) func(string) bool {
	return func(s string) bool { return s == name || strings.HasPrefix(s, name+".") }
}

func (j *judge) revert() {
	e, ok := j.ev.After.Step(stepRevert)
	if !ok {
		if j.ev.After.Began(stepRevert) {
			j.fail(CheckRevert, "TS6107", j.p.Patch.Name, machineEnd(j.ev.After))
			return
		}
		j.notReached(CheckRevert)
		return
	}
	var t guest.Transition
	decode(e, &t)
	j.p.Revert = &t
	if e.Error != "" {
		j.fail(CheckRevert, "TS6107", j.p.Patch.Name, stall(e.Error, &t))
		return
	}
	s, ok := j.state(stepReverted)
	switch {
	case !ok:
		j.fail(CheckRevert, "TS6107", j.p.Patch.Name, machineEnd(j.ev.After))
	case s.Loaded || slices.Contains(s.Modules, strings.ReplaceAll(j.p.Patch.Name, "-", "_")):
		j.fail(CheckRevert, "TS6107", j.p.Patch.Name, "the kernel still has it")
	default:
		j.pass(CheckRevert, ms(t.Transition+t.Remove), "transition over after %d ms, module unloaded", ms(t.Transition))
	}
}

func (j *judge) cycles() {
	n := j.ev.Request.Cycles
	if n == 0 {
		j.skip(CheckCycles, "none asked for")
		return
	}
	e, ok := j.ev.After.Step(stepCycles)
	if !ok {
		if j.ev.After.Began(stepCycles) {
			j.fail(CheckCycles, "TS6112", j.p.Patch.Name, machineEnd(j.ev.After))
			return
		}
		j.notReached(CheckCycles)
		return
	}
	var c guest.Cycles
	decode(e, &c)
	j.p.Cycles = &c
	if e.Error != "" || c.Count != n {
		j.fail(CheckCycles, "TS6112", j.p.Patch.Name, cmp.Or(e.Error, fmt.Sprintf("%d of %d", c.Count, n)))
		return
	}
	if c.Failed > 0 {
		j.fail(CheckCycles, "TS6112", j.p.Patch.Name, fmt.Sprintf("the probe failed %d of %d times meanwhile: %s", c.Failed, c.Runs, tailOf(c.Output)))
		return
	}
	var worst int64
	for _, t := range slices.Concat(c.Loads, c.Reverts) {
		worst = max(worst, t.Transition)
	}
	detail := fmt.Sprintf("%d times, longest transition %d ms", n, ms(worst))
	if c.Runs > 0 {
		detail += fmt.Sprintf(", the probe passed %d times meanwhile", c.Runs)
	}
	j.pass(CheckCycles, ms(worst), "%s", detail)
}

func (j *judge) shown() {
	r := j.ev.Request
	switch {
	case r.Reproducer == "":
		j.skip(CheckRevertShown, "no reproducer")
		return
	case r.SkipRevertShown:
		j.skip(CheckRevertShown, "not asked for")
		return
	}
	switch e := ending(j.ev.After, stepShown); {
	case e.Kind == EndNotRun:
		j.notReached(CheckRevertShown)
	case e.Kind == EndPassed:
		j.fail(CheckRevertShown, "TS6113", j.p.Patch.Name, "the reproducer passes after the revert")
	default:
		j.pass(CheckRevertShown, e.MS, "%s", e)
	}
}

func (j *judge) log() {
	if n := j.p.Log.New; len(n) > 0 {
		j.fail(CheckLog, "TS6108", j.p.Patch.Name, strings.Join(n, "; "))
		return
	}
	if len(j.ev.After.Log) == 0 {
		j.notReached(CheckLog)
		return
	}
	j.pass(CheckLog, 0, "nothing new")
}

func (j *judge) state(step string) (*guest.State, bool) {
	e, ok := j.ev.After.Step(step)
	if !ok || e.Error != "" {
		return nil, false
	}
	var s guest.State
	return &s, decode(e, &s)
}

// ending tells how the reproducer of a step ended.
func ending(o *vm.Outcome, step string) Ending {
	e, ok := o.Step(step)
	if !ok {
		if !o.Began(step) {
			return Ending{Kind: EndNotRun}
		}
		switch {
		case o.End == vm.TimedOut:
			return Ending{Kind: EndHang, Detail: "the whole machine"}
		case o.Crash != nil && o.Crash.Oops:
			return Ending{Kind: EndOops, Detail: crashDetail(o.Crash)}
		case o.Crash != nil:
			return Ending{Kind: EndPanic, Detail: crashDetail(o.Crash)}
		}
		return Ending{Kind: EndDied, Detail: machineEnd(o)}
	}
	if e.Error != "" {
		return Ending{Kind: EndNotRun, Detail: e.Error}
	}
	var r vmguest.ScriptResult
	if !decode(e, &r) {
		return Ending{Kind: EndNotRun, Detail: "its result cannot be read"}
	}
	end := Ending{Output: r.Output, MS: ms(r.Elapsed)}
	switch w := complained(o, step); {
	case oopsed.MatchString(w):
		end.Kind, end.Detail = EndOops, w
	case r.TimedOut || r.Stuck:
		end.Kind, end.Detail = EndHang, fmt.Sprintf("for %s", time.Duration(r.Elapsed).Round(time.Second))
		if r.Stacks != "" {
			end.Detail += "\n" + r.Stacks
		}
	case r.Signal != "":
		end.Kind, end.Detail = EndSignal, r.Signal
	case r.Exit != 0:
		end.Kind, end.Detail = EndExit, fmt.Sprint(r.Exit)
	case w != "":
		end.Kind, end.Detail = EndWarning, w
	default:
		end.Kind = EndPassed
	}
	return end
}

// String is the kind and its detail.
func (e Ending) String() string {
	if e.Detail == "" {
		return string(e.Kind)
	}
	return string(e.Kind) + ": " + e.Detail
}

func run(r *Request, o *vm.Outcome) *Run {
	if o == nil {
		return nil
	}
	sum := sha256.Sum256([]byte(o.Console))
	out := &Run{
		End: o.End, Crash: o.Crash, BootMS: o.Boot.Milliseconds(),
		ElapsedMS: o.Elapsed.Milliseconds(), ConsoleDigest: hex.EncodeToString(sum[:]),
	}
	if r.Reproducer != "" {
		e := ending(o, stepReproduce)
		out.Reproducer = &e
	}
	if r.Probe != "" {
		e := ending(o, stepProbe)
		out.Probe = &e
	}
	return out
}

func crashDetail(c *vm.Crash) string {
	if c.Function == "" {
		return c.Title
	}
	return c.Title + " in " + c.Function
}

func machineEnd(o *vm.Outcome) string {
	if o.Crash != nil {
		return fmt.Sprintf("the machine %s: %s", o.End, crashDetail(o.Crash))
	}
	lines := strings.Split(strings.TrimSpace(o.Console), "\n")
	return fmt.Sprintf("the machine %s; the console ends with: %s", o.End, lines[len(lines)-1])
}

// refusal adds to an error number what the kernel said about it.
func refusal(e wire.Event, o *vm.Outcome) string {
	why := e.Error
	if e.Errno != "" {
		why += " (" + e.Errno + ")"
	}
	n := 0
	for _, l := range o.Log {
		if l.Step == e.Step && l.Level <= 4 && n < 5 {
			why += "; kernel: " + l.Text
			n++
		}
	}
	return why
}

func stall(why string, t *guest.Transition) string {
	for _, h := range t.Holders {
		top, _, _ := strings.Cut(h.Stack, "\n")
		why += fmt.Sprintf("; held by %s (%d) in %s", h.Comm, h.PID, top)
	}
	return why
}

func decode(e wire.Event, v any) bool { return len(e.Data) > 0 && json.Unmarshal(e.Data, v) == nil }

func ms(ns int64) int64 { return (ns + 500_000) / 1_000_000 }

func tailOf(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
