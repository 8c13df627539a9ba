// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bufio"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// TestProcessesThatAreJustStarting are patched while their loader is at work.
func TestProcessesThatAreJustStarting(t *testing.T) {
	v2, v3 := patches(t)
	e := engine(t)
	n := 40
	if long() {
		n = 2000
	}
	seen := map[string]int{}
	for i := range n {
		cmd := exec.Command(filepath.Join(fixtures.dir, "program"))
		in, err := cmd.StdinPipe()
		qt.Assert(t, qt.IsNil(err))
		out, err := cmd.StdoutPipe()
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(cmd.Start()))
		func() {
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			time.Sleep(rand.N(1500 * time.Microsecond))
			p, want := v2, "201 202"
			if i%2 == 1 {
				p, want = v3, "1 302" // which has imports
			}
			for {
				target, err := proc.Open(t.Context(), cmd.Process.Pid)
				qt.Assert(t, qt.IsNil(err))
				r, err := e.Apply(t.Context(), target, p, Options{Budget: 10 * time.Second})
				target.Close()
				qt.Assert(t, qt.IsNil(err))
				seen[string(r.State)]++
				if r.State == Applied {
					break
				}
				// Its library is not there yet, or its memory was still the parent's.
				qt.Assert(t, qt.IsTrue(r.State == NotAffected || r.State == Ended || r.State == Pending), qt.Commentf("%v %v", r.State, r.Reason))
				if r.Reason != nil {
					seen[string(r.Reason.Code)]++
				}
			}
			lines := bufio.NewScanner(out)
			qt.Assert(t, qt.IsTrue(lines.Scan()))
			_, err = io.WriteString(in, "v")
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsTrue(lines.Scan()))
			qt.Assert(t, qt.Equals(lines.Text(), want))
		}()
	}
	t.Logf("%v", seen)
}

func opener(t testing.TB) *target {
	t.Helper()
	dir := built(t)
	return start(t, filepath.Join(dir, "opener"), filepath.Join(dir, "lib.so"))
}

// TestALibraryThatComesAgain: what was unloaded takes its jumps along, and is
// patched anew when it comes again, in the same place or in another.
func TestALibraryThatComesAgain(t *testing.T) {
	v2, v3 := patches(t)
	e, g := engine(t), opener(t)
	for range 5 {
		qt.Assert(t, qt.Equals(g.ask("v"), "1 2"))
		applied(t, e, g, v2, Options{Budget: 20 * time.Second})
		applied(t, e, g, v3, Options{Budget: 20 * time.Second})
		r := applied(t, e, g, v2, Options{Budget: 20 * time.Second})
		qt.Assert(t, qt.Equals(g.ask("v"), "201 202"))
		qt.Assert(t, qt.IsTrue(len(r.Objects) <= 4), qt.Commentf("%v", r.Objects))
		g.ask("x")
		r, err := e.Apply(t.Context(), g.p, v2, Options{})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(r.State, NotAffected))
		g.ask("o")
	}
}

// TestALibraryThatComesAndGoesAllTheTime may be patched or not, and must not
// come to harm.
func TestALibraryThatComesAndGoesAllTheTime(t *testing.T) {
	v2, v3 := patches(t)
	e, g := engine(t), opener(t)
	g.ask("r")
	seen := map[string]int{}
	long_ := time.Second
	if long() {
		long_ = time.Minute
	}
	for until := time.Now().Add(long_); time.Now().Before(until); {
		for _, p := range []Patch{v2, v3} {
			r, err := e.Apply(t.Context(), g.p, p, Options{Budget: 20 * time.Millisecond, Share: 1})
			qt.Assert(t, qt.IsNil(err))
			seen[string(r.State)]++
			if r.Reason != nil {
				seen[string(r.Reason.Code)]++
			}
			g.ask("n")
		}
	}
	t.Logf("%v, %s rounds", seen, g.ask("n"))
	qt.Assert(t, qt.IsTrue(seen[string(Applied)] > 0))
}
