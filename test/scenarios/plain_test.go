// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"testing"

	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/userland/local"
)

// scenario is a program of which nothing but the values tells that it was
// patched.
type scenario struct {
	name  string
	files []string
	same  []string
	calls []call
}

func scenarios() []scenario {
	return []scenario{
		{name: "simple", files: []string{"simple.c"}, calls: []call{{"f", 3, 4, 31}, {"caller", 3, 1004, 1031}, {"through", 3, 4, 31}}},
		{name: "new functions, and pointers to old ones", files: []string{"newfunction.c"}, calls: []call{{"f", 5, 5, 27}, {"identity", 5, 5, 10}}},
		{name: "constants, strings and a table of jumps", files: []string{"rodata.c"}, calls: []call{
			{"f", 0, sum("zero"), sum("zero")},
			{"f", 2, sum("two"), sum("two, corrected")},
			{"f", 6, sum("six") + 1, sum("six") + 1},
			{"f", 7, -1, -1},
			{"pick", 2, 3, 113},
		}},
		{name: "functions of libc", files: []string{"libc.c"}, calls: []call{{"f", 7, 7, 6111}, {"f", 42, 42, 7211}}},
		{name: "static functions of one name", files: []string{"duplicate2.c"}, same: []string{"duplicate.c"}, calls: []call{{"first", 1, 2, 2}, {"second", 1, 3, 201}}},
		{name: "a function chosen by a resolver", files: []string{"ifunc.c"}, calls: []call{{"f", 1, 3, 1021}, {"direct", 1, 3, 21}}},
		{name: "a loop that begins in the entry", files: []string{"inside.s"}, same: []string{"inside.c", "crowded.s"}, calls: []call{{"inside", 5, 6, 105}, {"trespasser", 5, 6, 6}}},
		{name: "shorter than a jump", files: []string{"short.c"}, calls: []call{{"f", 1, 1, 13}}},
	}
}

// TestPlainPrograms: each of them lying anywhere or not, with symbols or
// without.
func TestPlainPrograms(t *testing.T) {
	needs(t)
	t.Parallel()
	for i, s := range scenarios() {
		for _, kind := range []local.Kind{local.PIE, local.Exec} {
			b := program1("program", kind, s.files...)
			b.same = append(b.same, s.same...)
			b.strip = (i%2 == 0) == (kind == local.PIE)
			t.Run(s.name+", "+string(kind), func(t *testing.T) {
				t.Parallel()
				goThrough(t, b.make(t, 1), s.calls)
			})
		}
	}
}

// goThrough patches a process, takes the patch out and puts it in again.
func goThrough(t *testing.T, m made, calls []call) {
	t.Helper()
	p := start(t, m.ELF)
	before := func(c call) int { return c.before }
	after := func(c call) int { return c.after }
	p.check("before", calls, before)
	for range 2 {
		becomes(t, apply(t, p.pid, "v1", within, m.Splice), process.Applied)
		p.check("after", calls, after)
		becomes(t, revert(t, p.pid, within), process.Reverted)
		p.check("reverted", calls, before)
	}
	p.quit()
}

// sum is that of rodata.c.
func sum(s string) int {
	n := 0
	for _, c := range []byte(s) {
		n = n*31%1000003 + int(c)
	}
	return n
}
