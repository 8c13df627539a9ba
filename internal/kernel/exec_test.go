// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kernel"
)

// TestAKilledProcessTakesItsProgramsWithIt runs itself as the process that is
// killed.
func TestAKilledProcessTakesItsProgramsWithIt(t *testing.T) {
	const script = `echo $$; trap 'exit 0' TERM; while :; do sleep 0.1; done`
	if os.Getenv("TSUGI_TEST_CHILD") == "1" {
		_, _ = kernel.Command{Name: "sh", Args: []string{"-c", script}, Stdout: os.Stdout}.Run(t.Context())
		return
	}
	self := exec.Command(os.Args[0], "-test.run", "^TestAKilledProcessTakesItsProgramsWithIt$")
	self.Env = append(os.Environ(), "TSUGI_TEST_CHILD=1")
	out, err := self.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(self.Start()))
	line, err := bufio.NewReader(out).ReadString('\n')
	qt.Assert(t, qt.IsNil(err))
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(self.Process.Kill()))
	qt.Check(t, qt.IsNotNil(self.Wait()))
	for range 6000 {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	t.Fatal("the program works on")
}
