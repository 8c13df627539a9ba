// SPDX-License-Identifier: Apache-2.0

package ptrace_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

// tracer runs this program again as a tracer that dies at a step, and tells
// whether it did.
func tracer(t *testing.T, how string, p *target, step int) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d", suicide, how, p.pid(), step))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	exit := err.(*exec.ExitError).Sys().(syscall.WaitStatus)
	qt.Assert(t, qt.IsTrue(exit.Signaled() && exit.Signal() == syscall.SIGKILL), qt.Commentf("step %d: %v: %s", step, err, out))
	return true
}

// The process lives and computes what it would have, whatever step the tracer
// is killed at.
func TestATracerThatIsKilledLeavesNoTrace(t *testing.T) {
	for _, how := range []string{"call", "chain", "stop"} {
		for _, args := range [][]string{{"single"}, {"compute", "1"}, {"signals"}, {"calls", "1"}, {"idle", "3"}} {
			t.Run(how+" "+args[0], func(t *testing.T) {
				p := start(t, args...)
				step := 1
				for ; tracer(t, how, p, step); step++ {
					qt.Assert(t, qt.IsTrue(step < 200))
				}
				t.Logf("%d steps", step-1)
				p.untraced()
				p.finish()
			})
		}
	}
}

// At any moment, not only between steps.
func TestATracerThatIsKilledAtAnyMomentLeavesNoTrace(t *testing.T) {
	times := 20
	if os.Getenv("TSUGI_TEST_LONG") != "" {
		times = 1000
	}
	for _, args := range [][]string{{"compute", "1"}, {"calls", "1"}} {
		t.Run(args[0], func(t *testing.T) {
			p := start(t, args...)
			for i := range times {
				cmd := exec.Command(os.Args[0])
				cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d 0", suicide, []string{"call", "stop", "chain"}[i%3], p.pid()))
				qt.Assert(t, qt.IsNil(cmd.Start()))
				time.Sleep(time.Duration(rand.IntN(12000)) * time.Microsecond)
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
			p.untraced()
			p.finish()
		})
	}
}

// A sleep is as long as it was to be, and longer where the tracer was killed
// before the kernel could make it go on.
func TestASleepThatIsInterruptedIsNotShortened(t *testing.T) {
	var all []*target
	for step := 1; step < 30; step++ {
		p := start(t, "sleep", "1500")
		all = append(all, p)
		if !tracer(t, "call", p, step) {
			break
		}
	}
	for _, p := range all {
		p.expect("done")
		qt.Check(t, qt.IsNil(p.Wait()))
	}
}
