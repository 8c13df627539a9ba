// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

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
	if r.Previous.Name != "" {
		j.p.Previous = &r.Previous
	}
	if g := ev.After.Greeting; g != nil {
		j.p.Kernel = Kernel{Release: g.Release, Banner: g.Version, BuildID: g.BuildID, Cmdline: g.Cmdline}
	}
	j.p.Before, j.p.After = run(r, ev.Before), run(r, ev.After)
	j.p.Log = judgeLog(r, ev.Before, ev.After)
	if r.Package != nil {
		j.ofPackage()
	} else {
		j.ofKernel()
	}
	j.p.Verdict = Proved
	if len(j.p.Problems) > 0 {
		j.p.Verdict = Failed
	}
	return j.p
}

func (j *judge) ofKernel() {
	j.kernel()
	j.before()
	j.load()
	j.replaced()
	j.functions()
	j.late()
	j.probe()
	j.after()
	j.ran()
	j.revert()
	j.cycles()
	j.shown()
	j.log()
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
		{"without the patch", j.ev.Before, []string{stepDisks, stepModules, stepChanged, stepLate}},
		{"with the patch", j.ev.After, []string{stepDisks, stepModules, stepChanged}},
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
	if why := j.unloaded(); why != "" {
		j.fail(CheckKernel, "TS6110", "the machine with the patch", why)
		return
	}
	j.pass(CheckKernel, j.ev.After.Boot.Milliseconds(), "%s, build-id %s", j.p.Kernel.Release, j.p.Kernel.BuildID)
}

// unloaded notes which modules of the patch the machine could not load. It is
// a failure when nothing is left that the patch changes.
func (j *judge) unloaded() string {
	e, ok := j.ev.After.Step(stepChanged)
	var t vmguest.Tried
	if !ok || !decode(e, &t) {
		return ""
	}
	j.p.Unloaded = t.Refused
	r := &j.ev.Request
	objects := livepatch.Manifest{Functions: r.Functions, Callbacks: r.Callbacks}
	if n := len(objects.Objects()); n > 0 && n == len(t.Refused) {
		return t.Refused[0].Error
	}
	return ""
}

func (j *judge) load() {
	if e, ok := j.ev.After.Step(stepPrevious); ok && e.Error != "" {
		j.fail(CheckLoad, "TS6118", j.ev.Request.Previous.Name, "it does not load: "+refusal(e, j.ev.After))
		return
	}
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

func (j *judge) replaced() {
	old := j.ev.Request.Previous.Name
	if old == "" {
		j.skip(CheckReplaced, "none asked for")
		return
	}
	e, ok := j.ev.After.Step(stepReplaced)
	if !ok {
		j.notReached(CheckReplaced)
		return
	}
	if e.Error != "" {
		j.fail(CheckReplaced, "TS6118", old, refusal(e, j.ev.After))
		return
	}
	j.pass(CheckReplaced, 0, "%s left", old)
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
	case s.Stays && !s.Loaded:
		j.pass(CheckRevert, ms(t.Transition), "transition over after %d ms, the module stays in memory", ms(t.Transition))
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
	if c.Stays && e.Error == "" {
		j.skip(CheckCycles, "its module stays in memory, and can be loaded once until the next boot")
		return
	}
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
