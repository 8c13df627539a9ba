// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof/guest"
	"github.com/tsugi-project/tsugi/internal/vm"
)

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
		case strings.HasPrefix(f.Change, livepatch.ByItself):
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

func tailOf(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}
