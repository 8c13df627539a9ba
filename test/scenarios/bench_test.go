// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

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

// row prints as test/bench.sh does. What must hold and does not is an error.
func row(t *testing.T, what string, must, measured float64, unit string) {
	t.Helper()
	mark := "✓"
	if measured > must {
		mark = "✗"
		t.Fail()
	}
	fmt.Printf("%s  %-58s %8g %8.2f %s\n", mark, what, must, measured, unit)
}

// note prints a figure that nothing is demanded of.
func note(what string, measured float64, unit string) {
	fmt.Printf("   %-58s %8s %8.2f %s\n", what, "", measured, unit)
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

// spread is of times that are in order: the middle one, the one that 99 of 100
// are no longer than, and the longest, in milliseconds.
func spread(all []time.Duration) (middle, most, longest float64) {
	slices.Sort(all)
	ms := func(i int) float64 { return float64(all[i]) / float64(time.Millisecond) }
	return ms(len(all) / 2), ms((len(all) - 1) * 99 / 100), ms(len(all) - 1)
}

// longer is how many times are longer than so many milliseconds.
func longer(all []time.Duration, than float64) int {
	n := 0
	for _, d := range all {
		if float64(d) > than*float64(time.Millisecond) {
			n++
		}
	}
	return n
}

// pauses are what a single process may be stopped for, by its threads.
var pauses = []struct {
	threads int // all of them
	must    float64
}{{1, 0.7}, {11, 1}, {101, 5}, {1001, 50}}

// TestPauses measures for how long a process stands still when one function of
// a library is replaced: as the patcher's clock says, and as a thread of the
// process sees it that asks the function all the time.
func TestPauses(t *testing.T) {
	figures(t)
	exe, lib := benchProgram(t)
	for _, c := range pauses {
		for _, inside := range []bool{false, true} {
			if inside && c.threads == 1 {
				continue // with a thread that watches there are two
			}
			middle, longest := pausesOf(t, exe, lib, c.threads, inside)
			who := "patcher"
			if inside {
				who = "a thread"
			}
			row(t, fmt.Sprintf("pause, %d threads, median of 20, by %s", c.threads, who), c.must, middle, "ms")
			note("  the longest of them", longest, "ms")
		}
	}
}

func pausesOf(t *testing.T, exe string, lib made, threads int, inside bool) (middle, longest float64) {
	t.Helper()
	p := start(t, exe)
	more := threads - 1
	if inside {
		more--
		p.do("call watching 0")
	}
	qt.Assert(t, qt.Equals(p.do("call threads %d", more), more))
	until(t, "all wait", func() bool { return p.do("call idles 0") == more })
	time.Sleep(100 * time.Millisecond)
	var all []time.Duration
	for range 20 {
		r := apply(t, p.pid, "bench-v1", within, lib.Splice)
		becomes(t, r, process.Applied)
		pause := r.Pause
		if inside {
			until(t, "the thread sees the patch", func() bool {
				pause = time.Duration(p.do("call stopped 0"))
				return pause != 0
			})
		}
		all = append(all, pause)
		becomes(t, revert(t, p.pid, within), process.Reverted)
		if inside {
			until(t, "the thread sees it go", func() bool { return p.do("call stopped 0") != 0 })
		}
	}
	p.quit()
	middle, _, longest = spread(all)
	return middle, longest
}

// TestFourThousandProcesses: all that map one library, patched together.
func TestFourThousandProcesses(t *testing.T) {
	figures(t)
	const processes = 4000
	exe, lib := benchProgram(t)
	p := start(t, exe)
	qt.Assert(t, qt.Equals(p.do("call crowd %d", processes-1), processes-1))
	began, before := time.Now(), processor(t)
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
	took, used := time.Since(began), processor(t)-before
	var stopped, both []time.Duration
	for _, r := range results {
		qt.Assert(t, qt.Equals(r.State, process.Applied), qt.Commentf("%v", r.Reason))
		stopped, both = append(stopped, r.Pause), append(both, r.Stopped)
	}
	middle, most, longest := spread(stopped)
	row(t, "4,000 processes that map one library: all patched in", 6, took.Seconds(), "s")
	note("  processor time of the patcher for each", used.Seconds()*1000/processes, "ms")
	row(t, "4,000 processes: pause, median", pauses[0].must, middle, "ms")
	note("  99 of 100 are no longer than", most, "ms")
	note("  the longest", longest, "ms")
	// None may be longer than a single process's, as far as that is ours: where
	// stops that do nothing are, no more than twice as many. The half is luck.
	twice, _, _ := spread(both)
	idle := floor(t, mine, time.Duration(twice*float64(time.Millisecond)/2))
	_, _, longest = spread(idle)
	machine := longer(idle, pauses[0].must)
	row(t, fmt.Sprintf("4,000 processes: how many longer than %g ms", pauses[0].must), float64(2*machine), float64(longer(stopped, pauses[0].must)), "")
	note("  as many stops, as long as the median, that do nothing", float64(machine), "")
	note("  the longest of them", longest, "ms")
	qt.Check(t, qt.Equals(p.do("call ask 1"), 11))
	p.quit()
}

// processor is the processor time that this program has used.
func processor(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	qt.Assert(t, qt.IsNil(unix.Getrusage(unix.RUSAGE_SELF, &u)))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
