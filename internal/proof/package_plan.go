// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/proof/guest"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// The steps of a package's plans that kernels have not.
const (
	stepPrograms      = "programs"
	stepPreviousState = "previous-in" // state
	stepKeep          = "keep"
	stepRestart       = "restart"
	stepSettled       = "settled" // state
	stepStarted       = "reproduce-started"
	stepKept          = "kept"
	stepAlive         = "alive"
)

// Paths of live patches in the machine.
const (
	packagePath         = "/tsugi/patch.tsugi"
	previousPackagePath = "/tsugi/previous.tsugi"
)

// programLimit is how long programs may take until they are ready: a database
// is made in a minute where the processor is emulated.
const programLimit = 2 * time.Minute

// packagePlans is plans for the live patch of a package.
func packagePlans(r *Request) (before, after *wire.Plan) {
	p := r.Package
	patch := guest.Patch{Name: p.Known, Path: packagePath, LimitMS: r.TransitionLimit.Milliseconds()}
	limit := wire.Duration(2*r.TransitionLimit + 30*time.Second)
	of := func(id, verb string, p guest.Patch) wire.Step {
		s := wire.NewStep(id, verb, p)
		s.Timeout = limit
		return s
	}
	script := func(id, text string) wire.Step {
		s := wire.NewStep(id, "script", vmguest.Script{Text: guest.Preamble + text})
		s.Timeout = wire.Duration(r.ReproducerLimit)
		return s
	}
	var setup []wire.Step
	if len(r.Modules) > 0 {
		setup = append(setup, wire.NewStep(stepModules, "modprobe", r.Modules))
	}
	start := wire.NewStep(stepPrograms, "process-start", guest.Start{
		Path: packagePath, Libraries: p.libraries(), Serve: p.Serve, Talk: p.Talk, Ready: p.Ready, LimitMS: programLimit.Milliseconds(),
	})
	start.Timeout = wire.Duration(2 * programLimit)
	setup = append(setup, start)

	var probe, reproduce []wire.Step
	if r.Probe != "" {
		probe = append(probe, script(stepProbe, r.Probe))
	}
	if r.Reproducer != "" {
		reproduce = append(reproduce, script(stepReproduce, r.Reproducer))
	}
	if len(probe)+len(reproduce) > 0 {
		before = &wire.Plan{Format: wire.Format, LogLevel: logLevel, Steps: slices.Concat(setup, probe, reproduce)}
	}

	after = &wire.Plan{Format: wire.Format, LogLevel: logLevel, Steps: slices.Clone(setup)}
	add := func(s ...wire.Step) { after.Steps = append(after.Steps, s...) }
	if p.Previous != nil {
		previous := patch
		previous.Path = previousPackagePath
		add(of(stepPrevious, "process-apply", previous), of(stepPreviousState, "process-state", previous))
	}
	add(of(stepLoad, "process-apply", patch), of(stepLoaded, "process-state", patch), of(stepKeep, "process-keep", patch))
	add(slices.Concat(probe, reproduce)...)
	restart := wire.NewStep(stepRestart, "process-restart", nil)
	restart.Timeout = start.Timeout
	add(restart, of(stepSettled, "process-settle", patch))
	if r.Reproducer != "" {
		add(script(stepStarted, r.Reproducer))
	}
	add(of(stepKept, "process-keep-end", patch), of(stepRevert, "process-revert", patch), of(stepReverted, "process-state", patch))
	if r.Cycles > 0 {
		c := patch
		c.Count, c.Load = r.Cycles, r.Probe
		add(r.cycles("process-cycle", c, limit))
	}
	if r.Probe != "" {
		add(script(stepProbeAgain, r.Probe))
	}
	add(of(stepAlive, "process-alive", patch))
	if r.Reproducer != "" && !r.SkipRevertShown {
		add(script(stepShown, r.Reproducer))
	}
	return before, after
}
