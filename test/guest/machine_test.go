// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
	"github.com/tsugi-project/tsugi/test/guest/inside"
)

// initDir holds the guest program of all tests, and is made by TestMain.
var initDir string

var buildInit = testenv.Static(&initDir, "./testdata/init")

func TestMain(m *testing.M) { testenv.Main(m, &initDir) }

// machine is one that runs.
type machine struct {
	*vm.Machine
	steps int
}

// boot starts a machine that has all programs.
func boot(t *testing.T, pin, cmdline string, files ...vm.File) *machine {
	t.Helper()
	k := testenv.Kernel(t, pin)
	init, err := buildInit()
	qt.Assert(t, qt.IsNil(err))
	f := fixtures(t)
	cfg := vm.Config{
		Kernel: k.Vmlinux, ModuleSource: k, Init: init, Cmdline: cmdline, CacheDir: k.Home(),
		Programs: f.programs, Files: append(f.files, files...), Timeout: 10 * time.Minute,
	}
	ctx := context.WithoutCancel(t.Context()) // it ends with its shutdown
	v, err := vm.Start(ctx, cfg, &wire.Plan{LogLevel: 4})
	qt.Assert(t, qt.IsNil(err))
	m := &machine{Machine: v}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		out, err := m.Shutdown(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(out.End, vm.Finished), qt.Commentf("%s", out.Console))
		qt.Check(t, qt.IsNil(out.Crash))
		t.Logf("boot %v, whole %v", out.Boot, out.Elapsed)
	})
	return m
}

// step has the guest do something, and returns what it answers.
func (m *machine) step(t *testing.T, verb string, args any) wire.Event {
	t.Helper()
	m.steps++
	done, err := m.Do(t.Context(), wire.NewStep(strconv.Itoa(m.steps), verb, args))
	if err != nil {
		out, _ := m.Wait()
		t.Fatalf("%v: %s\n%s", err, out.End, out.Console)
	}
	qt.Assert(t, qt.Equals(done.Error, ""), qt.Commentf("%s %+v", verb, args))
	return done
}

// write writes to a file of the guest.
func (m *machine) write(t *testing.T, path, text string) {
	t.Helper()
	m.step(t, "write", guest.Write{Path: path, Text: text})
}

// script runs a shell script there, which must do well.
func (m *machine) script(t *testing.T, text string) string {
	t.Helper()
	var r guest.ScriptResult
	qt.Assert(t, qt.IsNil(json.Unmarshal(m.step(t, "script", guest.Script{Text: text}).Data, &r)))
	qt.Assert(t, qt.Equals(r.Exit, 0), qt.Commentf("%s", r.Output))
	return r.Output
}

// try asks an engine.
func (m *machine) try(t *testing.T, r inside.Request) inside.Answer {
	t.Helper()
	var a inside.Answer
	qt.Assert(t, qt.IsNil(json.Unmarshal(m.step(t, inside.Verb, r).Data, &a)))
	return a
}

func (m *machine) ask(t *testing.T, r inside.Request) inside.Answer {
	t.Helper()
	a := m.try(t, r)
	qt.Assert(t, qt.Equals(a.Error, ""), qt.Commentf("%+v", r))
	return a
}

// program is one that runs in the guest.
type program struct {
	t     *testing.T
	m     *machine
	name  string // for the engine that started it
	pid   int
	patch string
}

// start starts a program of the fixtures.
func (m *machine) start(t *testing.T, of string, change func(*inside.Request)) *program {
	t.Helper()
	m.steps++
	r := inside.Request{Do: "start", Name: of + strconv.Itoa(m.steps), Argv: []string{"/bin/" + of}}
	if change != nil {
		change(&r)
	}
	p := &program{t: t, m: m, name: r.Name, patch: patchOf(of)}
	p.pid = m.ask(t, r).PID
	return p
}

func patchOf(program string) string { return filepath.Join("/patches", program) }

// do has the program do something.
func (p *program) do(format string, args ...any) int {
	p.t.Helper()
	line := fmt.Sprintf(format, args...)
	a := p.m.ask(p.t, inside.Request{Do: "ask", Name: p.name, Line: line})
	n, err := strconv.Atoi(a.Text)
	qt.Assert(p.t, qt.IsNil(err), qt.Commentf("%s", line))
	return n
}

// within is how long an apply may try again, in milliseconds.
const within = 10_000

// change applies or reverts, by the engine of root.
func (p *program) change(do string) *inside.Result { return p.by(inside.Who{}, do) }

func (p *program) by(w inside.Who, do string) *inside.Result {
	p.t.Helper()
	a := p.m.ask(p.t, inside.Request{Engine: w, Do: do, PID: p.pid, Patch: p.patch, Budget: within})
	p.t.Logf("%s: %+v", do, *a.Result)
	return a.Result
}

// roundTrip patches a program and takes the patch out: f says which it is.
func (p *program) roundTrip() {
	p.t.Helper()
	qt.Assert(p.t, qt.Equals(p.do("call f 3"), 4))
	qt.Assert(p.t, qt.Equals(p.change("apply").State, "applied"))
	qt.Assert(p.t, qt.Equals(p.do("call f 3"), 31))
	a := p.m.ask(p.t, inside.Request{Do: "state", PID: p.pid})
	qt.Check(p.t, qt.Equals(a.Text, p.patch+" in-effect 1\n"))
	qt.Assert(p.t, qt.Equals(p.change("revert").State, "reverted"))
	qt.Assert(p.t, qt.Equals(p.do("call f 3"), 4))
}

// refused asserts that a program can't be patched, that this is said at once, and that it
// came to no harm.
func (p *program) refused(state, code string) *inside.Result {
	p.t.Helper()
	r := p.by(inside.Who{}, "apply")
	qt.Check(p.t, qt.Equals(r.State+" "+r.Code, state+" "+code), qt.Commentf("%s", r.Why))
	qt.Check(p.t, qt.IsTrue(r.Took < 10_000), qt.Commentf("%d ms", r.Took))
	return r
}
