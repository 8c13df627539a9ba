// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof/guest"
	"github.com/tsugi-project/tsugi/internal/vm"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
)

const (
	library = "1111111111111111111111111111111111111111"
	digest  = "aaaa"
	older   = "bbbb"
)

// in is what two processes are when a splice is in effect, "" for none.
func in(splice string, jumps, original int) guest.Processes {
	f := guest.ProcessFile{Name: "libx.so.1", BuildID: library, Digest: splice, Jumps: jumps, Original: original}
	return guest.Processes{Took: 5e6, Processes: []guest.Process{
		{PID: 100, Name: "sleep", Files: []guest.ProcessFile{f}}, {PID: 101, Name: "server", Files: []guest.ProcessFile{f}},
	}}
}

// stand is what putting in or taking out has said of two processes.
func stand(standing string) guest.Processes {
	return guest.Processes{Took: 9e6, Processes: []guest.Process{
		{PID: 100, Name: "sleep", Standing: guest.Protected, PauseUS: 300, Tries: 1},
		{PID: 101, Name: "server", Standing: standing, Why: "a thread is in it", PauseUS: 1250, Tries: 2},
	}}
}

func taken() guest.Processes {
	s := stand(guest.Original)
	s.Processes[0].Standing = guest.Original
	return s
}

var (
	running = []guest.Subject{{Name: "sleep", PID: 100}, {Name: "server", PID: 101}}
	again   = []guest.Subject{{Name: "sleep", PID: 200}, {Name: "server", PID: 201}}
	fails   = vmguest.ScriptResult{Exit: 1}
	passes  = vmguest.ScriptResult{}
)

// bare is the machine whose processes stay as they are.
func bare() story {
	return machine(build).done(stepPrograms, running).done(stepProbe, passes).done(stepReproduce, fails)
}

// began and all the rest: a machine in which all goes well.
func began() story {
	return machine(build).done(stepPrograms, running).
		done(stepLoad, stand(guest.Protected)).done(stepLoaded, in(digest, 2, 0)).done(stepKeep, nil).
		done(stepProbe, passes).done(stepReproduce, passes)
}

func restarted(s story) story {
	return s.done(stepRestart, guest.Restarted{Was: running, Now: again}).
		done(stepSettled, in(digest, 2, 0)).done(stepStarted, passes).done(stepKept, nil)
}

func ended(s story) story {
	return s.done(stepRevert, taken()).done(stepReverted, in("", 0, 2)).
		done(stepCycles, guest.Cycles{Count: 2, Runs: 3, Loads: make([]guest.Transition, 2), Reverts: make([]guest.Transition, 2)}).
		done(stepProbeAgain, passes).done(stepAlive, again).done(stepShown, fails).log(stepShown, 6, "server[201]: segfault at 0 ip 0")
}

func all() story { return ended(restarted(began())) }

// instead puts another result in the place of one.
func (s story) instead(step string, result any, fail ...string) story {
	events := s.o.Events
	s.o.Events = nil
	for _, e := range events {
		switch {
		case e.Step != step:
			s.o.Events = append(s.o.Events, e)
		case e.Kind == "done":
			s = s.done(step, result, fail...)
		}
	}
	return s
}

func ofPackage() Request {
	r := request()
	r.Package = &Package{
		TargetRef: livepatch.TargetRef{Name: "debian:libx1=1-1", PackageVersion: "1-1", Arch: "x86_64"},
		Files:     []PackageFile{{Path: "/usr/lib/libx.so.1", Name: "libx.so.1", BuildID: library, Splice: digest, Functions: 2}},
	}
	return r
}

func TestVerdictsOnPackages(t *testing.T) {
	for _, c := range []struct {
		name          string
		edit          func(*Request)
		before, after story
		fails         string // checks that fail, with the codes of their problems
	}{
		{"all is well", nil, bare(), all(), ""},
		{"it shows nothing without the patch", nil, bare().instead(stepReproduce, passes), all(), "before TS6102"},
		{"the patch does not fix it", nil, bare(), ended(restarted(began().instead(stepReproduce, fails))), "after TS6106"},
		{"a process is busy", nil, bare(), all().without(stepLoaded).instead(stepLoad, stand("pending"), "server (101) is pending"), "load TS6124"},
		{"a process stays as it is", nil, bare(), all().instead(stepLoad, stand("unprotected")), "load TS6124"},
		{"no process maps it", nil, bare(), all().without(stepLoaded).instead(stepLoad, guest.Processes{}), "load TS6121"},
		{"a jump is missing", nil, bare(), all().instead(stepLoaded, in(digest, 1, 1)), "functions TS6125"},
		{"another splice is in", nil, bare(), all().instead(stepLoaded, in(older, 2, 0)), "functions TS6125"},
		{"the file is mapped by nobody", nil, bare(), all().instead(stepLoaded, guest.Processes{}), "functions TS6125"},
		{"the program does not start", nil, bare(), machine(build).done(stepPrograms, nil, "after 1m0s: server maps none"), "programs TS6121"},
		{"a new process has it not", nil, bare(), all().instead(stepSettled, in("", 0, 2)), "started TS6119"},
		{"a new process is not fixed", nil, bare(), all().instead(stepStarted, fails), "started TS6119"},
		{"the keeper ended", nil, bare(), all().instead(stepKept, nil, "the keeper ended by itself: SIGSEGV"), "started TS6119"},
		{"it does not come out", nil, bare(), all().instead(stepRevert, stand("pending"), "pending"), "revert TS6126"},
		{"some of it stays", nil, bare(), all().instead(stepReverted, in("", 1, 1)), "revert TS6126"},
		{"other bytes are there", nil, bare(), all().instead(stepReverted, in("", 0, 1)), "revert TS6126"},
		{"a cycle fails", nil, bare(), all().instead(stepCycles, guest.Cycles{Count: 1}, "cycle 2: pending"), "cycles TS6112"},
		{"the probe fails with it", nil, bare(), all().instead(stepProbe, fails), "probe TS6116"},
		{
			"a program ended with it", nil, bare(),
			all().instead(stepRestart, guest.Restarted{Was: []guest.Subject{{Name: "sleep", PID: 100}, {Name: "server", PID: 101, Ended: "SIGSEGV"}}, Now: again}), "alive TS6120",
		},
		{"a program ended after it", nil, bare(), all().instead(stepAlive, []guest.Subject{{Name: "server", PID: 201, Ended: "SIGILL"}}), "alive TS6120"},
		{
			"one that never ran is no loss", nil, bare(),
			all().instead(stepPrograms, []guest.Subject{{Name: "sleep", PID: 100}, {Name: "server", PID: 101, Ended: "exit status 127"}}), "",
		},
		{"the bug is gone for good", nil, bare(), all().instead(stepShown, passes), "revert-shown TS6113"},
		{"a fault with it", nil, bare(), ended(restarted(began().log(stepReproduce, 6, "show[120]: segfault at 10 ip 000055 sp 00007f error 4 in libx.so.1[1000+1000]"))), "log TS6108"},
		{"another kind of fault", nil, bare(), ended(restarted(began().log(stepLoad, 6, "traps: server[101] trap invalid opcode ip:1 sp:2 error:0 in libx.so.1[1000+1000]"))), "log TS6108"},
		{"the machine dies", nil, bare(), all().without(stepRevert).begin(stepRevert).ends(vm.Panicked, oops), "revert TS6126 log TS6108"},
		{"it replaces", supersede, bare(), replacing(in(older, 1, 0), in(digest, 2, 0)), ""},
		{"the one before never was in", supersede, bare(), replacing(in("", 0, 2), in(digest, 2, 0)), "replaced TS6118"},
		{"the one before stays", supersede, bare(), replacing(in(older, 1, 0), in(older, 1, 1)), "replaced TS6118 functions TS6125"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := ofPackage()
			if c.edit != nil {
				c.edit(&r)
			}
			p := Judge(Evidence{Request: r, Before: c.before.o, After: c.after.o})
			got := ""
			n := 0
			for _, k := range p.Checks {
				if k.Status == Fail {
					got += " " + k.ID + " " + string(p.Problems[n].Code)
					n++
				}
			}
			qt.Check(t, qt.Equals(got, pad(c.fails)), qt.Commentf("%+v", p.Problems))
			qt.Check(t, qt.Equals(p.Verdict == Proved, c.fails == ""))
			qt.Check(t, qt.Equals(p.Target.Name, "debian:libx1=1-1"))
			b, err := p.Bytes()
			qt.Assert(t, qt.IsNil(err))
			back, err := Read(b)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(back.Package, p.Package))
		})
	}
}

func pad(s string) string {
	if s == "" {
		return ""
	}
	return " " + s
}

func supersede(r *Request) {
	r.Previous = PatchRef{Name: "older", Version: 1}
	r.Package.Previous = []byte("older")
	r.Package.PreviousFiles = []PackageFile{{BuildID: library, Splice: older, Functions: 1}}
}

// replacing is all of a machine in which an older one was before.
func replacing(before, then guest.Processes) story {
	s := machine(build).done(stepPrograms, running).done(stepPrevious, stand(guest.Protected)).done(stepPreviousState, before).
		done(stepLoad, stand(guest.Protected)).done(stepLoaded, then).done(stepKeep, nil).done(stepProbe, passes).done(stepReproduce, passes)
	return ended(restarted(s))
}
