// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestStory is what make demo ends with, gone through by a browser: a real
// kernel's update is built and proven, a rollout of it halts because machines
// go down, and is taken back.
func TestStory(t *testing.T) {
	if testing.Short() {
		t.Skip("a build, a proof and a rollout: not with -short")
	}
	testenv.Kernel(t, testenv.Old)
	web := needBrowser(t)
	bin := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-o", bin+"/", "../../cmd/tsugictl", "../../cmd/tsugi-server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))

	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	demo := exec.CommandContext(ctx, "../../demo/look.sh")
	demo.Env = append(os.Environ(), "DEMO_STAY=1", "NO_COLOR=1", "DEMO_OUT="+t.TempDir(), "TSUGICTL="+filepath.Join(bin, "tsugictl"), "TSUGI_SERVER="+filepath.Join(bin, "tsugi-server"))
	demo.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	demo.Cancel = func() error { return syscall.Kill(-demo.Process.Pid, syscall.SIGKILL) }
	said, err := demo.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	demo.Stderr = os.Stderr
	qt.Assert(t, qt.IsNil(demo.Start()))
	link := ""
	reads := bufio.NewReader(said)
	for link == "" {
		line, err := reads.ReadString('\n')
		qt.Assert(t, qt.IsNil(err), qt.Commentf("the demo ended before it was open"))
		t.Log(line)
		link = regexp.MustCompile(`https://\S+/console/link#\S+`).FindString(line)
	}
	go func() { _, _ = io.Copy(io.Discard, reads) }()

	drive(t, web, nil, "story.mjs", link)

	qt.Check(t, qt.IsNil(syscall.Kill(-demo.Process.Pid, syscall.SIGINT))) // as Ctrl-C does
	_ = demo.Wait()                                                        // how it ends says nothing after a signal
}
