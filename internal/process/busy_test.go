// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// restPatch replaces rest, in which threads of the program sleep.
func restPatch(t testing.TB, policy splice.Policy) Patch {
	t.Helper()
	dir := built(t)
	return Patch{"rest 2", []*splice.File{spliceOf(t, filepath.Join(dir, "lib.so"), filepath.Join(dir, "new-2.o"), policy, "value", "rest")}}
}

func program(t testing.TB, letters ...string) *target {
	t.Helper()
	g := start(t, filepath.Join(built(t), "program"))
	for _, l := range letters {
		g.ask(l)
	}
	return g
}

func applied(t testing.TB, e *Engine, g *target, p Patch, opt Options) Result {
	t.Helper()
	r, err := e.Apply(t.Context(), g.p, p, opt)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.State, Applied), qt.Commentf("%v", r.Reason))
	return r
}

func pending(t testing.TB, r Result, err error, state State, c code.Code) {
	t.Helper()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.State, state), qt.Commentf("%v", r.Reason))
	qt.Assert(t, qt.IsNotNil(r.Reason))
	qt.Assert(t, qt.Equals(r.Reason.Code, c), qt.Commentf("%v", r.Reason))
}

func TestAThreadThatComesAndGoesIsWaitedFor(t *testing.T) {
	e, g := engine(t), program(t, "s")
	r := applied(t, e, g, restPatch(t, splice.Quiescent), Options{Budget: 20 * time.Second})
	t.Logf("%d tries, stopped %v", r.Tries, r.Stopped)
	qt.Assert(t, qt.Equals(g.ask("v"), "201 2"))
}

func TestAThreadThatStaysIsPending(t *testing.T) {
	e, g := engine(t), program(t, "f")
	quiet := restPatch(t, splice.Quiescent)
	r, err := e.Apply(t.Context(), g.p, quiet, Options{Budget: 500 * time.Millisecond, Share: 1})
	pending(t, r, err, Pending, "TS9620")
	qt.Assert(t, qt.IsTrue(strings.Contains(r.Reason.Why, "rest")))
	qt.Assert(t, qt.IsTrue(r.Tries > 1), qt.Commentf("%d", r.Tries))
	qt.Assert(t, qt.Equals(g.ask("v"), "1 2"))
	areas, err := e.State(t.Context(), g.p)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(areas, 0)) // given back
	before, err := g.p.Mappings(t.Context())
	qt.Assert(t, qt.IsNil(err))
	_, err = e.Apply(t.Context(), g.p, quiet, Options{})
	qt.Assert(t, qt.IsNil(err))
	after, err := g.p.Mappings(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(len(after), len(before)))

	// Where old activations may end in the old code, it goes at once.
	applied(t, e, g, restPatch(t, splice.EntryOnly), Options{})
	qt.Assert(t, qt.Equals(g.ask("v"), "201 2"))
}

func TestBreakpointsAreNotOverwritten(t *testing.T) {
	v2, v3 := patches(t)
	e, g := engine(t), program(t)
	mem := g.p.Memory(t.Context())
	entry := entryOf(t, g, v2)
	old := make([]byte, 1)
	swap := func(b []byte) {
		t.Helper()
		_, err := mem.ReadAt(old, entry)
		qt.Assert(t, qt.IsNil(err))
		_, err = mem.WriteAt(b, entry)
		qt.Assert(t, qt.IsNil(err))
	}
	swap([]byte{0xcc})
	r, err := e.Apply(t.Context(), g.p, v2, Options{})
	pending(t, r, err, Pending, "TS9631")
	qt.Assert(t, qt.IsTrue(strings.Contains(r.Reason.Why, "breakpoint")))
	swap(bytes.Clone(old))
	applied(t, e, g, v2, Options{Budget: 20 * time.Second})

	// On our own jump, by somebody who came later.
	swap([]byte{0xcc})
	kept := bytes.Clone(old)
	for _, p := range []Patch{v2, v3} {
		r, err = e.Apply(t.Context(), g.p, p, Options{})
		pending(t, r, err, Pending, "TS9638")
	}
	r, err = e.Revert(t.Context(), g.p, Selection{}, Options{})
	pending(t, r, err, Pending, "TS9638")
	swap(kept)
	applied(t, e, g, v3, Options{Budget: 20 * time.Second})
	qt.Assert(t, qt.Equals(g.ask("v"), "1 302"))
}

func TestAForkedChildIsAProcessOfItsOwn(t *testing.T) {
	v2, v3 := patches(t)
	e, g := engine(t), program(t)
	applied(t, e, g, v2, Options{Budget: 20 * time.Second})
	child, err := proc.Open(t.Context(), g.number("c"))
	qt.Assert(t, qt.IsNil(err))
	defer child.Close()
	defer func() {
		if p, err := os.FindProcess(child.PID()); err == nil {
			_ = p.Kill()
		}
	}()
	r, err := e.Apply(t.Context(), child, v2, Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.State, Applied), qt.Commentf("%v", r.Reason))
	qt.Assert(t, qt.Equals(r.Tries, 0)) // inherited
	applied(t, e, g, v3, Options{Budget: 20 * time.Second})
	there, err := e.State(t.Context(), child)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(there, 1))
	qt.Assert(t, qt.Equals(there[0].Patch, "test 2"))
	r, err = e.Revert(t.Context(), child, Selection{BuildIDs: []string{v2.Files[0].BuildID}}, Options{Budget: 20 * time.Second})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.State, Reverted), qt.Commentf("%v", r.Reason))
	qt.Assert(t, qt.Equals(g.ask("v"), "1 302"))
}

// TestRevertWhileBusy: a thread sleeps in the new code. Where the patch wants
// that nobody is in it, the revert waits; the code stays in any case.
func TestRevertWhileBusy(t *testing.T) {
	dir := built(t)
	for _, tt := range []struct {
		policy splice.Policy
		state  State
		value  string
	}{{splice.Quiescent, Pending, "301 2"}, {splice.EntryOnly, Reverted, "1 2"}} {
		p := Patch{"rest 3", []*splice.File{spliceOf(t, filepath.Join(dir, "lib.so"), filepath.Join(dir, "new-3.o"), tt.policy, "value", "rest")}}
		e, g := engine(t), program(t)
		applied(t, e, g, p, Options{})
		g.ask("f")
		r, err := e.Revert(t.Context(), g.p, Selection{Patch: "rest 3"}, Options{Budget: 50 * time.Millisecond})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(r.State, tt.state), qt.Commentf("%v", r.Reason))
		qt.Assert(t, qt.Equals(g.ask("v"), tt.value))
		// The other patch comes in place of it under the same rule.
		r, err = e.Apply(t.Context(), g.p, restPatch(t, tt.policy), Options{})
		qt.Assert(t, qt.IsNil(err))
		if tt.state == Pending {
			pending(t, r, err, Pending, "TS9620")
		} else {
			qt.Assert(t, qt.Equals(r.State, Applied), qt.Commentf("%v", r.Reason))
		}
	}
}

// TestAreasAreTakenUpAgain: what stays in a process does not grow with how often
// the same patch comes and goes.
func TestAreasAreTakenUpAgain(t *testing.T) {
	v2, _ := patches(t)
	e, g := engine(t), program(t, "l", "l")
	for range 20 {
		applied(t, e, g, v2, Options{Budget: 5 * time.Second, Share: 1})
		r, err := e.Revert(t.Context(), g.p, Selection{}, Options{Budget: 5 * time.Second, Share: 1})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(r.State, Reverted), qt.Commentf("%v", r.Reason))
	}
	areas, err := e.State(t.Context(), g.p)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(areas, 1))
	qt.Assert(t, qt.Equals(areas[0].State, TakenOut))
	g.ask("n")
}

// TestWhatNeverWorksIsPendingAtFirst: while a process is young its loader may be
// at work.
func TestWhatNeverWorksIsPendingAtFirst(t *testing.T) {
	now := program(t).p.ID()
	for _, c := range []code.Code{"TS9634", "TS9620"} {
		for _, id := range []proc.ID{{PID: 1, Start: 0}, now} {
			w := &work{result: Result{Process: id}}
			r, err := w.end(t.Context(), code.New(c, "", ""))
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(r.State == Unprotected, c == "TS9634" && id.Start == 0))
		}
	}
}

// TestSplicesThatDoNotFit: refused before anything of the process is touched.
func TestSplicesThatDoNotFit(t *testing.T) {
	v2, _ := patches(t)
	e, g := engine(t), program(t)
	good := v2.Files[0]
	for _, tt := range []struct {
		name   string
		change func(f *splice.File)
		state  State
		code   code.Code
	}{
		{"other segments", func(f *splice.File) { f.Segments[1].Memsz += 16; f.Segments[1].Filesz += 16 }, Pending, "TS9635"},
		{"other bytes", func(f *splice.File) { f.Functions[1].SHA256 = strings.Repeat("0", 64) }, Pending, "TS9631"},
		{"its unwinder must know", func(f *splice.File) { f.Register, f.ROData, f.Unwind = true, make([]byte, 4), splice.Range{Size: 4} }, Unprotected, "TS9636"},
		{"a symbol that is nowhere", func(f *splice.File) {
			f.Imports = []splice.Import{{Name: "no_such_symbol", Func: true}}
			f.ROData = make([]byte, 8)
			f.Relocs = []splice.Reloc{{Area: splice.InROData, Kind: splice.Abs64, Ref: splice.Ref{Kind: splice.RefImport}}}
		}, Pending, "TS9634"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := *good
			f.Segments = append([]splice.Segment(nil), good.Segments...)
			f.Functions = append([]splice.Function(nil), good.Functions...)
			tt.change(&f)
			r, err := e.Apply(t.Context(), g.p, Patch{"x", []*splice.File{&f}}, Options{Budget: 20 * time.Millisecond})
			pending(t, r, err, tt.state, tt.code)
			qt.Assert(t, qt.Equals(r.Tries, 0))
		})
	}
	f := *good
	f.BuildID = strings.Repeat("ab", 20)
	r, err := e.Apply(t.Context(), g.p, Patch{"x", []*splice.File{&f}}, Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.State, NotAffected))
	qt.Assert(t, qt.Equals(g.ask("v"), "1 2"))
}
