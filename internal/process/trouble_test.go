// SPDX-License-Identifier: Apache-2.0

package process

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

// TestWhatDoesNotTakeIsTakenBack: something else changes a byte between the
// writing and the reading back.
func TestWhatDoesNotTakeIsTakenBack(t *testing.T) {
	v2, v3 := patches(t)
	for _, before := range [][]Patch{nil, {v3}} {
		e, g := engine(t), program(t, "l")
		want := "1 2"
		for _, p := range before {
			applied(t, e, g, p, Options{Budget: 20 * time.Second})
			want = "1 302"
		}
		entry := entryOf(t, g, v2)
		meddle := true
		e.step = func(name string) {
			if name == "jump" && meddle {
				meddle = false
				_, err := g.p.Memory(t.Context()).WriteAt([]byte{0x90}, entry)
				qt.Check(t, qt.IsNil(err))
			}
		}
		r, err := e.Apply(t.Context(), g.p, v2, Options{})
		pending(t, r, err, Pending, "TS9637")
		qt.Assert(t, qt.IsFalse(meddle))
		qt.Assert(t, qt.Equals(g.ask("v"), want))
		areas, err := e.State(t.Context(), g.p)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(areas, len(before)))
		applied(t, e, g, v2, Options{Budget: 20 * time.Second})
		qt.Assert(t, qt.Equals(g.ask("v"), "201 202"))
	}
}

// entryOf is where the first function of a patch lies.
func entryOf(t testing.TB, g *target, p Patch) int64 {
	t.Helper()
	objects, err := g.p.Objects(t.Context())
	qt.Assert(t, qt.IsNil(err))
	for _, o := range objects {
		if o.BuildID == p.Files[0].BuildID {
			return int64(o.Bias + p.Files[0].Functions[0].Old)
		}
	}
	t.Fatal("the library is not there")
	return 0
}

// TestAProcessThatGetsNoMemory keeps running as it was.
func TestAProcessThatGetsNoMemory(t *testing.T) {
	v2, _ := patches(t)
	e, g := engine(t), program(t)
	var old unix.Rlimit
	qt.Assert(t, qt.IsNil(unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: 1 << 20, Max: unix.RLIM_INFINITY}, &old)))
	r, err := e.Apply(t.Context(), g.p, v2, Options{})
	pending(t, r, err, Pending, "TS9641")
	qt.Assert(t, qt.ErrorIs(error(r.Reason), unix.ENOMEM))
	qt.Assert(t, qt.IsNil(unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_AS, &old, nil)))
	applied(t, e, g, v2, Options{Budget: 20 * time.Second})
	qt.Assert(t, qt.Equals(g.ask("v"), "201 202"))
}

// TestWhatIsReadableIsExecutable: a program that asks for READ_IMPLIES_EXEC has
// nothing put into it: nobody would find it again.
func TestWhatIsReadableIsExecutable(t *testing.T) {
	v2, _ := patches(t)
	e, g := engine(t), program(t, "l")
	personality := func(v uintptr) {
		tracers := &ptrace.Tracers{}
		defer tracers.Close()
		_, err := tracers.Borrow(t.Context(), ptrace.Target{PID: g.cmd.Process.Pid}, patient, func(l *ptrace.Loan) error {
			_, err := l.Syscall(unix.SYS_PERSONALITY, v)
			return err
		})
		qt.Assert(t, qt.IsNil(err))
	}
	const readImpliesExec = 0x400000
	maps, err := g.p.Mappings(t.Context())
	qt.Assert(t, qt.IsNil(err))
	personality(readImpliesExec)
	r, err := e.Apply(t.Context(), g.p, v2, Options{Budget: 20 * time.Second})
	pending(t, r, err, Pending, "TS9641")
	qt.Check(t, qt.Equals(g.ask("v"), "1 2"))
	now, err := g.p.Mappings(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(now, maps))
	personality(0)
	applied(t, e, g, v2, Options{Budget: 20 * time.Second})
	qt.Check(t, qt.Equals(g.ask("v"), "201 202"))
}

// TestJournalsThatTheProcessHasChanged are not followed: what they name is held
// against what is there.
func TestJournalsThatTheProcessHasChanged(t *testing.T) {
	v2, v3 := patches(t)
	for _, tt := range []struct {
		name   string
		change func(j *journal, s JournalState) JournalState
		state  State
		code   string
	}{
		{"another place in the code", func(j *journal, s JournalState) JournalState {
			j.records[0].function -= 16
			j.records[0].after = jumpTo(j.records[0].entry(), j.base+j.text)
			return s
		}, Pending, "TS9638"},
		{"a place in no code", func(j *journal, s JournalState) JournalState {
			j.records[0].function = 0x10000
			j.records[0].after = j.records[0].original
			return s
		}, Pending, "TS9631"},
		{"other original bytes", func(j *journal, s JournalState) JournalState {
			j.records[0].original[1]++
			return s
		}, Pending, "TS9631"},
		{"unfinished, with other bytes", func(j *journal, _ JournalState) JournalState {
			j.records[0].before[1]++
			j.records[0].original[1]++
			return Reverting
		}, Pending, "TS9631"},
		{"never used", func(_ *journal, _ JournalState) JournalState { return Prepared }, Pending, "TS9631"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, g := engine(t), program(t)
			applied(t, e, g, v2, Options{Budget: 20 * time.Second})
			s, err := look(t.Context(), g.p)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.HasLen(s.areas, 1))
			j := *s.areas[0].journal
			j.records = append([]record(nil), j.records...)
			state := tt.change(&j, InEffect)
			b, err := j.encode(state)
			qt.Assert(t, qt.IsNil(err))
			_, err = g.p.Memory(t.Context()).WriteAt(b, int64(j.base))
			qt.Assert(t, qt.IsNil(err))

			r, err := e.Apply(t.Context(), g.p, v3, Options{})
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(r.State, tt.state), qt.Commentf("%v", r.Reason))
			qt.Assert(t, qt.Equals(string(r.Reason.Code), tt.code), qt.Commentf("%v", r.Reason))
			qt.Assert(t, qt.Equals(g.ask("v"), "201 202"))
		})
	}
}
