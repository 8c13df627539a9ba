// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/proof/guest"
	"github.com/tsugi-project/tsugi/internal/vm"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// The steps of the plans, in order. The kernel log is cut by them.
const (
	stepDisks      = vm.DisksStep
	stepModules    = "modules"
	stepChanged    = "changed-modules"
	stepPrevious   = "previous"
	stepLoad       = "load"
	stepReplaced   = "replaced"
	stepLoaded     = "loaded" // state
	stepLate       = "late"
	stepLateLoaded = "late-loaded" // state
	stepWatch      = "watch"
	stepProbe      = "probe"
	stepReproduce  = "reproduce"
	stepWatched    = "watched"
	stepRevert     = "revert"
	stepReverted   = "reverted" // state
	stepCycles     = "cycles"
	stepProbeAgain = "probe-again"
	stepShown      = "reproduce-again"
)

const (
	patchPath    = "/tsugi/patch.ko"
	previousPath = "/tsugi/previous.ko"
)

// plans returns what the machine without the patch does, nil when there is
// nothing to reproduce, and what the machine with it does.
func plans(r *Request) (before, after *wire.Plan) {
	if r.Package != nil {
		return packagePlans(r)
	}
	patch := guest.Patch{Name: r.Patch.Name, Path: patchPath, LimitMS: r.TransitionLimit.Milliseconds()}
	// Loading and reverting each have a transition, and a reversal after it.
	limit := wire.Duration(2*r.TransitionLimit + 30*time.Second + r.loading())
	previous := guest.Patch{Name: r.Previous.Name, Path: previousPath, LimitMS: patch.LimitMS}
	of := func(p guest.Patch, id, verb string) wire.Step {
		s := wire.NewStep(id, verb, p)
		s.Timeout = limit
		return s
	}
	lp := func(id, verb string) wire.Step { return of(patch, id, verb) }
	script := func(id, text string) wire.Step {
		s := wire.NewStep(id, "script", vmguest.Script{Text: text})
		s.Timeout = wire.Duration(r.ReproducerLimit)
		return s
	}

	var setup []wire.Step
	if len(r.Modules) > 0 {
		setup = append(setup, wire.NewStep(stepModules, "modprobe", r.Modules))
	}
	if len(r.changed) > 0 {
		s := wire.NewStep(stepChanged, "modprobe-any", r.changed)
		s.Timeout = wire.Duration(time.Minute + time.Duration(len(r.changed))*10*time.Second)
		setup = append(setup, s)
	}
	late := wire.NewStep(stepLate, "modprobe", r.LateModules)

	if r.Reproducer != "" || r.Probe != "" {
		before = &wire.Plan{Format: wire.Format, LogLevel: logLevel, Steps: slices.Clone(setup)}
		if len(r.LateModules) > 0 {
			before.Steps = append(before.Steps, late)
		}
		if r.Probe != "" {
			before.Steps = append(before.Steps, script(stepProbe, r.Probe))
		}
		if r.Reproducer != "" {
			before.Steps = append(before.Steps, script(stepReproduce, r.Reproducer))
		}
	}

	after = &wire.Plan{Format: wire.Format, LogLevel: logLevel, Steps: slices.Clone(setup)}
	add := func(s ...wire.Step) { after.Steps = append(after.Steps, s...) }
	if r.Previous.Name != "" {
		add(of(previous, stepPrevious, "livepatch-load"))
	}
	add(lp(stepLoad, "livepatch-load"))
	if r.Previous.Name != "" {
		add(of(previous, stepReplaced, "livepatch-leave"))
	}
	add(lp(stepLoaded, "livepatch-state"))
	if len(r.LateModules) > 0 {
		add(late, lp(stepLateLoaded, "livepatch-state"))
	}
	if before != nil {
		watch := lp(stepWatch, "livepatch-watch")
		watch.KeepGoing = true // a kernel that cannot trace can still be patched
		add(watch)
	}
	if r.Probe != "" {
		add(script(stepProbe, r.Probe))
	}
	if r.Reproducer != "" {
		add(script(stepReproduce, r.Reproducer))
	}
	if before != nil {
		watched := lp(stepWatched, "livepatch-watched")
		watched.KeepGoing = true
		add(watched)
	}
	add(lp(stepRevert, "livepatch-revert"), lp(stepReverted, "livepatch-state"))
	if r.Cycles > 0 {
		c := patch
		c.Count, c.Load = r.Cycles, r.Probe
		add(r.cycles("livepatch-cycle", c, limit))
	}
	if r.Probe != "" {
		add(script(stepProbeAgain, r.Probe))
	}
	if r.Reproducer != "" && !r.SkipRevertShown {
		add(script(stepShown, r.Reproducer))
	}
	return before, after
}

// cycles is the step that loads and reverts again and again; limit is of one of
// both.
func (r *Request) cycles(verb string, what any, limit wire.Duration) wire.Step {
	s := wire.NewStep(stepCycles, verb, what)
	s.Timeout = wire.Duration(min(time.Duration(r.Cycles)*(2*time.Duration(limit)), r.Timeout))
	return s
}

// logLevel leaves out what only debugging wants.
const logLevel = 6
