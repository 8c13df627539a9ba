// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/splice"
)

func TestMain(m *testing.M) {
	if patcher() {
		return
	}
	rc := m.Run()
	if fixtures.dir != "" {
		os.RemoveAll(fixtures.dir)
	}
	os.Exit(rc)
}

func patches(t testing.TB) (v2, v3 Patch) {
	t.Helper()
	dir := built(t)
	lib := filepath.Join(dir, "lib.so")
	v2 = Patch{"test 2", []*splice.File{spliceOf(t, lib, filepath.Join(dir, "new-2.o"), splice.EntryOnly, "value", "twin")}}
	v3 = Patch{"test 3", []*splice.File{spliceOf(t, lib, filepath.Join(dir, "new-3.o"), splice.EntryOnly, "twin", "deep")}}
	return v2, v3
}

func TestApplyReplaceRevert(t *testing.T) {
	v2, v3 := patches(t)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"linked", []string{"program"}},
		{"opened", []string{"opener", "lib.so"}},
		{"opened in a namespace of its own", []string{"opener", "lib.so", "new"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{}
			for i, a := range tt.args {
				if i < 2 {
					a = filepath.Join(fixtures.dir, a)
				}
				args = append(args, a)
			}
			g, e := start(t, args...), engine(t)
			g.ask("l")
			g.ask("a")
			opt := Options{Budget: 10 * time.Second}
			qt.Assert(t, qt.Equals(g.ask("v"), "1 2"))

			r, err := e.Apply(t.Context(), g.p, v2, opt)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(r.State, Applied), qt.Commentf("%v", r.Reason))
			t.Logf("apply: pause %v, stopped %v, %d tries", r.Pause, r.Stopped, r.Tries)
			qt.Assert(t, qt.Equals(g.ask("v"), "201 202"))

			r, err = e.Apply(t.Context(), g.p, v2, opt)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(r.State, Applied), qt.Commentf("%v", r.Reason))
			qt.Assert(t, qt.Equals(r.Tries, 0))
			qt.Assert(t, qt.HasLen(r.Objects, 1))

			r, err = e.Apply(t.Context(), g.p, v3, opt)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(r.State, Applied), qt.Commentf("%v", r.Reason))
			t.Logf("replace: pause %v, stopped %v, %d tries", r.Pause, r.Stopped, r.Tries)
			qt.Assert(t, qt.Equals(g.ask("v"), "1 302"))
			qt.Assert(t, qt.Equals(g.ask("d"), "3004"))
			qt.Assert(t, qt.HasLen(r.Objects, 2))
			qt.Assert(t, qt.Equals(r.Objects[0].Patch, "test 3"))
			qt.Assert(t, qt.Equals(r.Objects[0].State, InEffect))
			qt.Assert(t, qt.Equals(r.Objects[0].Functions, 2))
			qt.Assert(t, qt.Equals(r.Objects[1].State, Replaced))

			r, err = e.Revert(t.Context(), g.p, Selection{Patch: "test 2"}, opt)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(r.State, NotAffected))
			r, err = e.Revert(t.Context(), g.p, Selection{}, opt)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(r.State, Reverted), qt.Commentf("%v", r.Reason))
			qt.Assert(t, qt.Equals(g.ask("v"), "1 2"))

			// The areas are taken up again.
			for range 3 {
				for _, p := range []Patch{v2, v3} {
					r, err = e.Apply(t.Context(), g.p, p, opt)
					qt.Assert(t, qt.IsNil(err))
					qt.Assert(t, qt.Equals(r.State, Applied), qt.Commentf("%v", r.Reason))
				}
			}
			qt.Assert(t, qt.HasLen(r.Objects, 2))
			qt.Assert(t, qt.Equals(g.ask("v"), "1 302"))
			g.ask("n")
		})
	}
}

// TestProgramAndLibraryAtOnce: both objects are patched in one stop, also in a
// program that is linked for its place, below which there is little room.
func TestProgramAndLibraryAtOnce(t *testing.T) {
	v2, v3 := patches(t)
	for _, name := range []string{"program", "fixed"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(fixtures.dir, name)
			e, g := engine(t), start(t, path)
			g.ask("l")
			qt.Assert(t, qt.Equals(g.ask("w"), "1"))
			both := Patch{"both", []*splice.File{spliceOf(t, path, filepath.Join(fixtures.dir, "new-2.o"), splice.Quiescent, "own"), v2.Files[0]}}
			r := applied(t, e, g, both, Options{Budget: 20 * time.Second, Share: 1})
			qt.Assert(t, qt.HasLen(r.Objects, 2))
			qt.Assert(t, qt.Equals(g.ask("w")+" "+g.ask("v"), "201 201 202"))
			// Another patch of the library leaves the program as it is.
			r = applied(t, e, g, v3, Options{Budget: 20 * time.Second})
			qt.Assert(t, qt.HasLen(r.Objects, 3))
			qt.Assert(t, qt.Equals(g.ask("w")+" "+g.ask("v"), "201 1 302"))
			r, err := e.Revert(t.Context(), g.p, Selection{Patch: "both"}, Options{Budget: 20 * time.Second})
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(r.State, Reverted), qt.Commentf("%v", r.Reason))
			qt.Assert(t, qt.Equals(g.ask("w")+" "+g.ask("v"), "1 1 302"))
		})
	}
}
