// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

func TestConsole(t *testing.T) {
	web := needBrowser(t)
	t.Parallel()
	s := newServer(t, "127.0.0.1")
	s.fill()
	if os.Getenv("TSUGI_CONSOLE_STAY") != "" {
		t.Logf("%s (token %s)", s.link, s.token)
		ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
		defer stop()
		<-ctx.Done()
		return
	}
	environ := []string{"TSUGI_TOKEN=" + s.token, "TSUGI_LINK=" + s.link}
	if testenv.IsLong() {
		environ = append(environ, "TSUGI_LOOK_ALL=1")
	}
	drive(t, web, environ, "look.mjs", s.url)
}

// needBrowser skips where there is none, and gives the folder of the scripts
// that drive it.
func needBrowser(t *testing.T) (web string) {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser, for a minute: not with -short")
	}
	web, err := filepath.Abs("../../web/console")
	qt.Assert(t, qt.IsNil(err))
	for _, program := range []string{"node", "chromium"} {
		need.Program(t, program)
	}
	if _, err := os.Stat(filepath.Join(web, "node_modules", "playwright-core")); err != nil {
		need.Allowed(t, "the modules of web/console are not installed: cd web/console && npm ci")
	}
	return web
}

// drive runs a script that drives a browser; pictures are taken only where
// somebody wants them.
func drive(t *testing.T, web string, environ []string, script ...string) {
	t.Helper()
	if shots := os.Getenv("TSUGI_CONSOLE_SHOTS"); shots != "" {
		script = append(script, shots)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", script...)
	cmd.Dir = web
	cmd.Env = append(os.Environ(), environ...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // the browser's processes too
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	qt.Check(t, qt.IsNil(err))
}
