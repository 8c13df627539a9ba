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
)

func TestConsole(t *testing.T) {
	if testing.Short() {
		t.Skip("a browser, for a minute: not with -short")
	}
	web, err := filepath.Abs("../../web/console")
	qt.Assert(t, qt.IsNil(err))
	for _, need := range []string{"node", "chromium"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Skipf("%s is not installed", need)
		}
	}
	if _, err := os.Stat(filepath.Join(web, "node_modules", "playwright-core")); err != nil {
		t.Skip("the modules of web/console are not installed: cd web/console && npm ci")
	}
	s := newServer(t)
	s.fill()
	if os.Getenv("TSUGI_CONSOLE_STAY") != "" {
		t.Logf("%s (token %s)", s.link, s.token)
		ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt)
		defer stop()
		<-ctx.Done()
		return
	}
	shots := os.Getenv("TSUGI_CONSOLE_SHOTS")
	if shots == "" {
		shots = t.TempDir()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "look.mjs", s.url, shots)
	cmd.Dir = web
	cmd.Env = append(os.Environ(), "TSUGI_TOKEN="+s.token, "TSUGI_LINK="+s.link)
	if testenv.IsLong() {
		cmd.Env = append(cmd.Env, "TSUGI_LOOK_ALL=1")
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // the browser's processes too
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	qt.Assert(t, qt.IsNil(err))
}
