// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// veiled is a machine some of whose processes can't be looked into.
type veiled struct {
	machine
	veil map[proc.ID]code.Code
}

func (v *veiled) Bring(ctx context.Context, want []Want, pids ...int) ([]Process, error) {
	ps, err := v.machine.Bring(ctx, want, pids...)
	for _, w := range want {
		for id, c := range v.veil {
			ps = append(ps, Process{PID: id.PID, start: id.Start, Patch: w.Patch, BuildID: w.Files[0].BuildID, Standing: Unknown, Problem: &api.Problem{Code: c}})
		}
	}
	return ps, err
}

// TestNothingIsForgotten: a live patch that a process may still have stays in mind
// until that can be looked into, or has ended.
func TestNothingIsForgotten(t *testing.T) {
	t.Parallel()
	stranger, hangs, turned := proc.ID{PID: 1, Start: 1}, proc.ID{PID: 2, Start: 1}, proc.ID{PID: 3, Start: 1}
	v := &veiled{
		machine: machine{processes: map[proc.ID]string{{PID: 7, Start: 1}: "nginx"}, busy: map[int]bool{}, has: map[int]string{}},
		veil:    map[proc.ID]code.Code{stranger: "TS9607"},
	}
	k := New(filepath.Join(t.TempDir(), "processes"), v)
	kept := func() int {
		all, err := k.dir.list()
		qt.Assert(t, qt.IsNil(err))
		return len(all)
	}
	for _, one := range []struct {
		id  proc.ID
		why code.Code
	}{{hangs, "TS9604"}, {turned, "TS9607"}} {
		_, err := k.Apply(t.Context(), givenFile(t, 1))
		qt.Assert(t, qt.IsNil(err))
		v.veil[one.id] = one.why
		_, err = k.Revert(t.Context(), "debian:given=1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(kept(), 1), qt.Commentf("%v", one))
		// It is applied and replaced, and the first one is still in mind.
		_, err = k.Give(t.Context(), givenFile(t, 1), false)
		qt.Assert(t, qt.IsNil(err))
		_, err = k.Apply(t.Context(), givenFile(t, 2))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(kept(), 2), qt.Commentf("%v", one))
		delete(v.veil, one.id)
		_, err = k.Revert(t.Context(), "debian:given=1")
		qt.Assert(t, qt.IsNil(err))
		_, _, err = k.pass(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(kept(), 0), qt.Commentf("%v", one)) // nobody has to wait for the stranger
	}
}
