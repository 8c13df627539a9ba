// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/userland/local"
)

// figures skips unless test/bench-userland.sh asks.
func figures(t *testing.T) {
	t.Helper()
	needs(t)
	if os.Getenv("TSUGI_BENCH_USERLAND") == "" {
		t.Skip("figures of a machine that does nothing else: test/bench-userland.sh")
	}
}

// row prints as test/bench.sh does.
func row(what string, must, measured float64, unit string) {
	mark := "✓"
	if measured > must {
		mark = "✗"
	}
	fmt.Printf("%s  %-58s %8g %8.2f %s\n", mark, what, must, measured, unit)
}

// benchProgram is a program with a library of which one function changes.
func benchProgram(t *testing.T) (exe string, lib made) {
	t.Helper()
	lib = build{name: "libvalue.so", kind: local.Shared, files: []string{"value.c"}, strip: true}.make(t, 1)
	b := program1("bench", local.PIE)
	b.same = append(b.same, "bench.c")
	b.ldflags = append([]string{lib.ELF, "-Wl,-rpath," + lib.dir}, b.ldflags...)
	r, err := b.at(t, t.TempDir(), 0)
	qt.Assert(t, qt.IsNil(err))
	return r.ELF, lib
}

func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2]) / float64(time.Millisecond)
}

// TestPauses measures for how long a process stands still when one function of
// a library is replaced: as the patcher's clock says, and as a thread of the
// process sees it that asks the function all the time.
func TestPauses(t *testing.T) {
	figures(t)
	exe, lib := benchProgram(t)
	for _, c := range []struct {
		threads int // all of them
		must    float64
	}{{1, 0.7}, {11, 1}, {101, 5}, {1001, 50}} {
		for _, inside := range []bool{false, true} {
			p := start(t, exe)
			more := c.threads - 1
			if inside {
				if more--; more < 0 {
					continue // with a watching thread there are two
				}
				p.do("call watching 0")
			}
			qt.Assert(t, qt.Equals(p.do("call threads %d", more), more))
			until(t, "all wait", func() bool { return p.do("call idles 0") == more })
			time.Sleep(100 * time.Millisecond)
			var pauses []time.Duration
			for range 20 {
				r := apply(t, p.pid, "bench-v1", within, lib.Splice)
				becomes(t, r, process.Applied)
				pause := r.Pause
				if inside {
					time.Sleep(5 * time.Millisecond)
					pause = time.Duration(p.do("call stopped 0"))
				}
				pauses = append(pauses, pause)
				becomes(t, revert(t, p.pid, within), process.Reverted)
			}
			who := "patcher"
			if inside {
				who = "a thread"
			}
			row(fmt.Sprintf("pause, %d threads, median of 20, by %s", c.threads, who), c.must, median(pauses), "ms")
			p.quit()
		}
	}
}

// TestFourThousandProcesses: all that map one library, patched together.
func TestFourThousandProcesses(t *testing.T) {
	figures(t)
	const processes = 4000
	exe, lib := benchProgram(t)
	p := start(t, exe)
	qt.Assert(t, qt.Equals(p.do("call crowd %d", processes-1), processes-1))
	began := time.Now()
	ids, err := proc.List(t.Context())
	qt.Assert(t, qt.IsNil(err))
	found, err := proc.Find(t.Context(), ids, func(b string) bool { return b == lib.BuildID }, proc.FindOptions{})
	qt.Assert(t, qt.IsNil(err))
	found = slices.DeleteFunc(found, func(f proc.Finding) bool { return f.Problem != nil })
	qt.Assert(t, qt.Equals(len(found), processes))
	var mine []proc.ID
	for _, f := range found {
		mine = append(mine, f.ID)
	}
	results, err := engine().Many(t.Context(), mine, process.Patch{ID: "bench-v1", Files: splices(lib)}, process.Options{Budget: within})
	qt.Assert(t, qt.IsNil(err))
	took := time.Since(began)
	var pauses []time.Duration
	for _, r := range results {
		qt.Assert(t, qt.Equals(r.State, process.Applied), qt.Commentf("%v", r.Reason))
		pauses = append(pauses, r.Pause)
	}
	row("4,000 processes that map one library: all patched in", 6, took.Seconds(), "s")
	row("4,000 processes: pause, median", 0.7, median(pauses), "ms")
	row("4,000 processes: pause, 99 of 100", 5, float64(pauses[len(pauses)*99/100])/float64(time.Millisecond), "ms")
	row("4,000 processes: pause, longest", 50, float64(pauses[len(pauses)-1])/float64(time.Millisecond), "ms")
	qt.Check(t, qt.Equals(p.do("call ask 1"), 11))
	p.quit()
}
