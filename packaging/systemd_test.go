// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// service is a unit's [Service] for a systemd of our own, where this program stands
// in for the unit's. It says all to the file out; without are settings that do not
// fit there.
func service(t *testing.T, name, env, out string, without ...string) string {
	t.Helper()
	text := "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nEnvironment=" + env + "\nExecStart=/var/lib/probe\n" +
		"StandardOutput=append:" + out + "\nStandardError=append:" + out + "\nExecStartPre=+/bin/echo began\n"
	without = append(without, "Type", "ExecStart", "Restart", "RestartSec", "ConfigurationDirectory", // of no matter here, or of this very host
		"ProtectControlGroups") // in a container they lie in layers, and systemd ends its read-only pass there
	for _, s := range unit(t, name) {
		if !slices.Contains(without, s[0]) {
			text += s[0] + "=" + s[1] + "\n"
		}
	}
	return text
}

// underSystemd runs a systemd of its own in namespaces of its own, and in it
// services, by name, until each of the files outs has a word, or it ends. The shell
// prepares /var/lib, which is empty then.
func underSystemd(t *testing.T, services map[string]string, shell, word string, outs ...string) (said string) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a systemd: not with -short")
	}
	if os.Getuid() != 0 {
		t.Skip("only root may make the namespaces")
	}
	for _, p := range []string{"/lib/systemd/systemd", "/usr/bin/unshare"} {
		if _, err := os.Stat(p); err != nil {
			need.Allowed(t, err)
		}
	}
	dir := t.TempDir()
	units := filepath.Join(dir, "units")
	qt.Assert(t, qt.IsNil(os.Mkdir(units, 0o755)))
	write := func(name, text string) {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)))
	}
	for _, name := range []string{"sysinit.target", "basic.target", "shutdown.target", "umount.target", "final.target", "exit.target", "system.slice"} {
		write("units/"+name, "[Unit]\nDefaultDependencies=no\n")
	}
	all := "[Unit]\nDefaultDependencies=no\n"
	for name, text := range services {
		write("units/"+name, text)
		all += "Wants=" + name + "\nAfter=" + name + "\n"
	}
	write("units/probe.target", all)
	exe, err := os.Executable()
	qt.Assert(t, qt.IsNil(err))
	write("start.sh", `set -e
mount --make-rprivate /
mount -t cgroup2 none /sys/fs/cgroup
for d in /run /var/lib /etc/systemd/system /lib/systemd/system /lib/systemd/system-generators; do mount -t tmpfs tmpfs $d; done
mkdir /run/user /run/lock
cp `+units+`/* /lib/systemd/system/
cp `+exe+` /var/lib/probe
`+shell+`
exec /lib/systemd/systemd --system --unit=probe.target --log-target=null --show-status=false
`)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--kill-child=SIGKILL", "--fork", "-pmCinu", "--mount-proc", "/bin/sh", filepath.Join(dir, "start.sh"))
	var talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &talk, &talk
	cmd.WaitDelay = 5 * time.Second
	qt.Assert(t, qt.IsNil(cmd.Start()))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	lacks := func(out string) bool {
		got, _ := os.ReadFile(out)
		return !bytes.Contains(got, []byte(word))
	}
	for over := false; !over && slices.ContainsFunc(outs, lacks); {
		select {
		case <-ended:
			over = true
			ended <- nil
		case <-time.After(100 * time.Millisecond):
		}
	}
	cancel()
	<-ended
	for _, out := range outs {
		if got, _ := os.ReadFile(out); !bytes.Contains(got, []byte("began")) {
			need.Allowed(t, "no systemd runs in namespaces here: ", talk.String())
		}
	}
	return talk.String()
}
