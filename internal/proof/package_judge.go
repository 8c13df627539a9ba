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

// PackageRecord is what a proof saw of the processes of a package.
type PackageRecord struct {
	// Booted is the kernel of the machines: Target is the package.
	Booted livepatch.TargetRef `json:"booted"`
	Files  []PackageFile       `json:"files"`
	// Programs ran while the live patch came and went.
	Programs []guest.Subject `json:"programs,omitempty"`
	// Load and Revert are how the processes took it and let go of it; Loaded,
	// Started and Reverted what was found in them then.
	Load     *guest.Processes `json:"load,omitempty"`
	Loaded   *guest.Processes `json:"loaded,omitempty"`
	Started  *guest.Processes `json:"started,omitempty"`
	Revert   *guest.Processes `json:"revert,omitempty"`
	Reverted *guest.Processes `json:"reverted,omitempty"`
}

func (j *judge) ofPackage() {
	p := j.ev.Request.Package
	j.p.Target = p.TargetRef
	j.p.Package = &PackageRecord{Booted: j.ev.Request.Target.TargetRef, Files: p.Files}
	j.kernel()
	j.programs()
	j.before()
	j.intoProcesses()
	j.replacedInProcesses()
	j.inProcesses()
	j.probe()
	j.after()
	j.started()
	j.outOfProcesses()
	j.cycles()
	j.alive()
	j.shown()
	j.log()
}

// processes reads what a step says of processes.
func (j *judge) processes(step string) (*guest.Processes, string, bool) {
	e, ok := j.ev.After.Step(step)
	if !ok {
		return nil, "", false
	}
	var s guest.Processes
	decode(e, &s)
	return &s, e.Error, true
}

func (j *judge) programs() {
	for _, m := range []*vm.Outcome{j.ev.Before, j.ev.After} {
		if m == nil {
			continue
		}
		e, ok := m.Step(stepPrograms)
		if !ok && len(j.p.Problems) > 0 {
			j.skip(CheckPrograms, "not reached")
			return
		}
		if !ok {
			j.fail(CheckPrograms, "TS6111", "the machine", machineEnd(m))
			return
		}
		if e.Error != "" {
			j.fail(CheckPrograms, "TS6121", j.p.Target.Name, e.Error)
			return
		}
		if m == j.ev.After {
			decode(e, &j.p.Package.Programs)
		}
	}
	running := 0
	for _, s := range j.p.Package.Programs {
		if s.Ended == "" {
			running++
		}
	}
	j.pass(CheckPrograms, 0, "%d", running)
}

func (j *judge) intoProcesses() {
	name := j.ev.Request.Patch.Name
	if s, why, ok := j.processes(stepPrevious); ok && (why != "" || len(s.Processes) == 0) {
		j.fail(CheckLoad, "TS6118", j.ev.Request.Previous.Name, "it does not go in: "+cmp.Or(why, "no process maps its files"))
		return
	}
	s, why, ok := j.processes(stepLoad)
	if !ok {
		if j.ev.After.Began(stepLoad) {
			j.fail(CheckLoad, "TS6124", name, machineEnd(j.ev.After))
			return
		}
		j.notReached(CheckLoad)
		return
	}
	j.p.Package.Load = s
	if why == "" {
		why = standing(s, guest.Protected)
	}
	switch {
	case why != "":
		j.fail(CheckLoad, "TS6124", name, why)
	case len(s.Processes) == 0:
		j.fail(CheckLoad, "TS6121", j.p.Target.Name, "the live patch came to no process")
	default:
		j.pass(CheckLoad, ms(s.Took), "%s", stopped(s))
	}
}

// standing names a process that is not as it should be.
func standing(s *guest.Processes, want string) string {
	for _, p := range s.Processes {
		if p.Standing != want {
			return fmt.Sprintf("%s (%d) is %s: %s", p.Name, p.PID, p.Standing, p.Why)
		}
	}
	return ""
}

// stopped says how long processes stood still.
func stopped(s *guest.Processes) string {
	var pause int64
	for _, p := range s.Processes {
		pause = max(pause, p.PauseUS)
	}
	return fmt.Sprintf("%d processes, none stopped longer than %d.%d ms", len(s.Processes), pause/1000, pause%1000/100)
}

// differs compares what was found in processes with what should be there: the
// splice and all functions of each file, or nothing. Each file has to be mapped
// by some process.
func differs(s *guest.Processes, files []PackageFile, in bool) string {
	mapped := map[string]bool{}
	for _, p := range s.Processes {
		for _, f := range p.Files {
			i := slices.IndexFunc(files, func(w PackageFile) bool { return w.BuildID == f.BuildID })
			if i < 0 {
				continue
			}
			mapped[f.BuildID] = true
			w := files[i]
			digest, jumps, original := w.Splice, w.Functions, 0
			if !in {
				digest, jumps, original = "", 0, w.Functions
			}
			switch where := fmt.Sprintf("%s (%d), %s: ", p.Name, p.PID, f.Name); {
			case f.Digest != digest && f.Digest == "":
				return where + "the live patch is not in effect"
			case f.Digest != digest && in:
				return where + "another live patch is in effect"
			case f.Digest != digest:
				return where + "a live patch is in effect"
			case f.Jumps != jumps || f.Original != original:
				return where + fmt.Sprintf("of %d functions, %d lead to new code and %d are as they were shipped", w.Functions, f.Jumps, f.Original)
			}
		}
	}
	for _, w := range files {
		if !mapped[w.BuildID] {
			return "no process maps " + w.Path
		}
	}
	return ""
}

func (j *judge) replacedInProcesses() {
	old := j.ev.Request.Previous.Name
	if old == "" {
		j.skip(CheckReplaced, "none asked for")
		return
	}
	s, why, ok := j.processes(stepPreviousState)
	now, _, reached := j.processes(stepLoaded)
	if !ok || !reached {
		j.notReached(CheckReplaced)
		return
	}
	before := j.ev.Request.Package.PreviousFiles
	if why = cmp.Or(why, differs(s, before, true)); why != "" {
		j.fail(CheckReplaced, "TS6118", old, why)
		return
	}
	// A file that the newer one leaves alone is as it was shipped again.
	for _, f := range before {
		for _, p := range now.Processes {
			for _, g := range p.Files {
				if g.BuildID == f.BuildID && g.Digest == f.Splice && !slices.ContainsFunc(j.p.Package.Files, func(n PackageFile) bool { return n.Splice == f.Splice }) {
					j.fail(CheckReplaced, "TS6118", old, fmt.Sprintf("it is still in effect in %s (%d)", p.Name, p.PID))
					return
				}
			}
		}
	}
	j.pass(CheckReplaced, 0, "%s left", old)
}

// inEffect keeps what a step found, and fails a check unless the live patch was in
// effect in all processes then.
func (j *judge) inEffect(step string, found **guest.Processes, id string, c code.Code) bool {
	s, why, ok := j.processes(step)
	if !ok {
		j.notReached(id)
		return false
	}
	*found = s
	if why = cmp.Or(why, differs(s, j.p.Package.Files, true)); why != "" {
		j.fail(id, c, j.p.Patch.Name, why)
		return false
	}
	return true
}

func (j *judge) inProcesses() {
	if j.inEffect(stepLoaded, &j.p.Package.Loaded, CheckFunctions, "TS6125") {
		j.pass(CheckFunctions, 0, "%d", len(j.ev.Request.Functions))
	}
}

// started judges the programs that were started while the live patch was kept
// on the machine.
func (j *judge) started() {
	for _, step := range []string{stepKeep, stepRestart} {
		if e, ok := j.ev.After.Step(step); ok && e.Error != "" {
			j.fail(CheckStarted, "TS6119", j.p.Patch.Name, e.Error)
			return
		}
	}
	if !j.inEffect(stepSettled, &j.p.Package.Started, CheckStarted, "TS6119") {
		return
	}
	if j.ev.Request.Reproducer != "" {
		switch e := ending(j.ev.After, stepStarted); {
		case e.Kind == EndNotRun:
			j.notReached(CheckStarted)
			return
		case e.Kind.Failed():
			j.fail(CheckStarted, "TS6119", j.p.Patch.Name, strings.TrimSpace("the reproducer: "+e.String()+"\n"+tailOf(e.Output)))
			return
		}
	}
	if e, ok := j.ev.After.Step(stepKept); ok && e.Error != "" {
		j.fail(CheckStarted, "TS6119", j.p.Patch.Name, e.Error)
		return
	}
	s := j.p.Package.Started
	j.pass(CheckStarted, ms(s.Took), "%d processes", len(s.Processes))
}

func (j *judge) outOfProcesses() {
	s, why, ok := j.processes(stepRevert)
	if !ok {
		if j.ev.After.Began(stepRevert) {
			j.fail(CheckRevert, "TS6126", j.p.Patch.Name, machineEnd(j.ev.After))
			return
		}
		j.notReached(CheckRevert)
		return
	}
	j.p.Package.Revert = s
	if why = cmp.Or(why, standing(s, guest.Original)); why != "" {
		j.fail(CheckRevert, "TS6126", j.p.Patch.Name, why)
		return
	}
	now, why, ok := j.processes(stepReverted)
	if !ok {
		j.fail(CheckRevert, "TS6126", j.p.Patch.Name, machineEnd(j.ev.After))
		return
	}
	j.p.Package.Reverted = now
	if why = cmp.Or(why, differs(now, j.p.Package.Files, false)); why != "" {
		j.fail(CheckRevert, "TS6126", j.p.Patch.Name, why)
		return
	}
	j.pass(CheckRevert, ms(s.Took), "%s", stopped(s))
}

// alive tells whether a program ended that ran when the live patch came. Those
// that never ran may have lacked something: another one maps the file then.
func (j *judge) alive() {
	var r guest.Restarted
	e, ok := j.ev.After.Step(stepRestart)
	if ok {
		decode(e, &r)
	}
	var last []guest.Subject
	end, reached := j.ev.After.Step(stepAlive)
	if reached {
		decode(end, &last)
	}
	for _, x := range []struct{ from, to []guest.Subject }{{j.p.Package.Programs, r.Was}, {r.Now, last}} {
		for _, s := range x.from {
			i := slices.IndexFunc(x.to, func(n guest.Subject) bool { return n.PID == s.PID })
			if s.Ended == "" && i >= 0 && x.to[i].Ended != "" {
				j.fail(CheckAlive, "TS6120", guest.Short(s.Name), x.to[i].Ended)
				return
			}
		}
	}
	if !reached {
		j.notReached(CheckAlive)
		return
	}
	j.pass(CheckAlive, 0, "%d programs", len(last))
}
