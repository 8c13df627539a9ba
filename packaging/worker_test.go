// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
	"github.com/tsugi-project/tsugi/internal/userland"
)

const enterEnv = "TSUGI_PACKAGING_ENTER"

// enter runs a program in a small build root, as builds of packages do.
func enter(root string) string {
	t := userland.Target{Root: root, Build: root + "-build/src", BuildPath: "/build/small/src", Env: []string{"PATH=/usr/bin"}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := t.Run(ctx, userland.Run{Argv: []string{"/usr/bin/true"}})
	if err != nil {
		return fmt.Sprintf("%s: %v %s", code.Of(err), err, out)
	}
	return "done"
}

// TestWhereBuildRootsCanBeEntered: the server's unit lets its process make no
// namespaces, or mounts in them, and the worker's does, for a user without rights.
func TestWhereBuildRootsCanBeEntered(t *testing.T) {
	if os.Getuid() == 0 {
		cmd := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "--mount", "true")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		if text, err := cmd.CombinedOutput(); err != nil {
			need.Allowed(t, "users without rights may make no namespaces here: ", string(text), err)
		}
	}
	dir := t.TempDir()
	out := func(who string) string { return filepath.Join(dir, who) }
	services := map[string]string{}
	for who, name := range map[string]string{"server": "tsugi-server.service", "mountless": "tsugi-worker.service", "worker": "tsugi-worker.service"} {
		without := []string{"EnvironmentFile", "User", "Group", "StateDirectory", "CacheDirectory", "AmbientCapabilities"}
		text := service(t, name, enterEnv+"=/var/lib/root", out(who), without...) + "User=65534\nGroup=65534\n"
		if who == "mountless" {
			text += "SystemCallFilter=~@mount\n"
		}
		services["probe-"+who+".service"] = text
	}
	said := underSystemd(t, services, `cd /var/lib
for d in usr/bin lib/x86_64-linux-gnu lib64 proc dev tmp build tsugi; do mkdir -p root/$d; done
cp -L /usr/bin/env /usr/bin/true root/usr/bin
cp -L /lib/x86_64-linux-gnu/libc.so.6 root/lib/x86_64-linux-gnu
cp -L /lib64/ld-linux-x86-64.so.2 root/lib64
mkdir -p root-build/src
chown -R 65534:65534 root root-build`, "enter:", out("server"), out("mountless"), out("worker"))
	for who, want := range map[string]string{"server": "enter: TS3538", "mountless": "enter: TS3538", "worker": "enter: done"} {
		got, err := os.ReadFile(out(who))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.StringContains(string(got), want), qt.Commentf("%s: %s", who, said))
	}
}
