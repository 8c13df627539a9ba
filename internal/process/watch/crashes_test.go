// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// TestCrashes: a process that ends by a fault is told, and none that ends well or
// is ended by a person.
func TestCrashes(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the connector is for root")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	told := make(chan Crash, 1024)
	ended := make(chan error, 1)
	go func() {
		ended <- Crashes(ctx, func(c Crash) {
			select {
			case told <- c:
			default:
			}
		})
	}()
	run := func(script string) int {
		cmd := exec.CommandContext(ctx, "sh", "-c", script)
		_ = cmd.Run() // it is killed
		return cmd.Process.Pid
	}
	quiet := map[int]bool{run("exit 3"): true, run("kill -TERM $$"): true, run("kill -KILL $$"): true}
	// Others on this machine may crash too: the first one has to come in time.
	deadline := time.After(time.Minute)
	var pids []int
	for {
		pids = append(pids, run("kill -SEGV $$"))
		select {
		case err := <-ended:
			if code.Of(err) == "TS9650" {
				need.Allowed(t, err)
			}
			t.Fatal(err)
		case c := <-told:
			qt.Check(t, qt.IsFalse(quiet[c.PID]))
			for _, pid := range pids {
				if pid == c.PID {
					qt.Check(t, qt.Equals(c.Signal, unix.SIGSEGV))
					return
				}
			}
		case <-deadline:
			t.Fatal("nothing was told")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func FuzzParseCrash(f *testing.F) {
	b := make([]byte, eventData+24)
	b[nlHeader], b[nlHeader+4] = cnIdxProc, cnValProc
	b[eventStart+3] = 0x80
	b[eventData], b[eventData+4], b[eventData+8] = 7, 7, 0x8b
	f.Add(b)
	f.Add(b[:eventData])
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, ok := parseCrash(b); ok && !faults(c.Signal) {
			t.Fatalf("%+v", c)
		}
	})
}
