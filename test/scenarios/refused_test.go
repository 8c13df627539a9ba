// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/userland/local"
)

// TestWhatCannotBeLive is refused when it is built, with a code.
func TestWhatCannotBeLive(t *testing.T) {
	needs(t)
	t.Parallel()
	for _, c := range []struct {
		name  string
		files []string
		same  []string
		level int
		kind  local.Kind
		flags []string
	}{
		{"a variable begins with another value", []string{"initialiser.c"}, nil, 1, local.PIE, nil},
		{"a thread-local variable is new", []string{"newtls.c"}, nil, 1, local.PIE, nil},
		{"a resolver changes", []string{"ifunc.c"}, nil, 2, local.PIE, nil},
		{"another function jumps into the entry", []string{"inside.s"}, []string{"inside.c", "crowded.s"}, 2, local.PIE, nil},
		{"data of libc that a program did not use", []string{"libc.c"}, nil, 1, local.PIE, []string{"-DDATA"}},
		{"no room for a jump", []string{"crowded.s"}, []string{"inside.c", "inside.s"}, 1, local.PIE, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := program1("refused", c.kind, c.files...)
			b.same = append(b.same, c.same...)
			b.cflags = c.flags
			r, err := b.at(t, t.TempDir(), c.level)
			qt.Assert(t, qt.IsNotNil(err))
			qt.Check(t, qt.Not(qt.Equals(code.Of(err), "")), qt.Commentf("%v", err))
			qt.Check(t, qt.IsNil(r.Splice))
			t.Log(err)
		})
	}
}
