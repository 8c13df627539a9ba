// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/agent/host"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// unit are the settings of a unit's [Service], in order.
func unit(t *testing.T, name string) (settings [][2]string) {
	t.Helper()
	b, err := os.ReadFile("systemd/" + name)
	qt.Assert(t, qt.IsNil(err))
	_, service, ok := strings.Cut(string(b), "[Service]\n")
	qt.Assert(t, qt.IsTrue(ok))
	service, _, _ = strings.Cut(service, "\n[")
	for line := range strings.Lines(service) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			settings = append(settings, [2]string{key, value})
		}
	}
	return settings
}

// TestTheAgentMayWriteWhatItMust: ProtectSystem=strict makes everything
// read-only that is not named, and a path is named in vain if it is not there
// when the service starts.
func TestTheAgentMayWriteWhatItMust(t *testing.T) {
	var writable, made []string
	strict := false
	for _, s := range unit(t, "tsugi.service") {
		switch s[0] {
		case "ProtectSystem":
			strict = s[1] == "strict"
		case "ReadWritePaths":
			for _, p := range strings.Fields(s[1]) {
				writable = append(writable, strings.TrimPrefix(p, "-"))
			}
		case "ExecStartPre":
			if args, ok := strings.CutPrefix(s[1], "+/bin/mkdir "); ok {
				made = append(made, strings.Fields(args)...)
			}
		}
	}
	qt.Assert(t, qt.IsTrue(strict))
	for _, dir := range (host.Modules{}).Writes() {
		qt.Check(t, qt.SliceContains(writable, dir))
		// /lib/modules is the kernel's package's; what is in /run somebody makes.
		if strings.HasPrefix(dir, "/run/") {
			qt.Check(t, qt.SliceContains(made, dir))
		}
	}
}

const (
	probeEnv     = "TSUGI_PACKAGING_PROBE"
	probeRelease = "6.1.0-0-tsugi-probe"
)

// TestMain is the service's program too, when systemd runs it.
func TestMain(m *testing.M) {
	if os.Getenv(probeEnv) != "" {
		fmt.Println("probe:", probe())
		return
	}
	os.Exit(m.Run())
}

// probe puts a fixed module on the disk and takes it away, by the machine's own
// depmod.
func probe() error {
	m := host.Modules{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.Put(ctx, probeRelease, map[string][]byte{"one.ko": probeModule("fixed")}, []string{"one.ko"}); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	there, err := m.There(probeRelease)
	if err != nil || !there["one.ko"].Found {
		return fmt.Errorf("it is not found: %v", err)
	}
	if err := m.Put(ctx, probeRelease, nil, nil); err != nil {
		return fmt.Errorf("take away: %w", err)
	}
	if there, err = m.There(probeRelease); err != nil || len(there) > 0 {
		return fmt.Errorf("it is there still: %v", err)
	}
	for _, dir := range []string{"/usr", "/run", "/etc", "/var/lib"} {
		if err := os.WriteFile(dir+"/tsugi-probe", nil, 0o600); err == nil {
			return errors.Join(fmt.Errorf("the sandbox is none: %s can be written", dir), os.Remove(dir+"/tsugi-probe"))
		}
	}
	return nil
}

func probeModule(text string) []byte {
	f := elfobj.File{Machine: elf.EM_X86_64, Order: elf.ELFDATA2LSB, Sections: []*elfobj.Section{
		{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Align: 1, Data: []byte("name=one\x00depends=\x00text=" + text + "\x00")},
	}}
	b, err := f.Bytes()
	if err != nil {
		panic(err)
	}
	return b
}

// TestTheSandboxAsSystemdMakesIt runs a systemd of its own in namespaces of
// its own, and in it the probe with all that the agent's unit says.
func TestTheSandboxAsSystemdMakesIt(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a systemd: not with -short")
	}
	if os.Getuid() != 0 {
		t.Skip("only root may make the namespaces")
	}
	for _, p := range []string{"/lib/systemd/systemd", "/usr/sbin/depmod", "/usr/bin/unshare"} {
		if _, err := os.Stat(p); err != nil {
			need.Allowed(t, err)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir("/lib/modules", 0o755); err == nil {
		t.Cleanup(func() { _ = os.Remove("/lib/modules") }) // a place to mount on, on a machine without kernels
	}
	units, out := filepath.Join(dir, "units"), filepath.Join(dir, "out")
	qt.Assert(t, qt.IsNil(os.Mkdir(units, 0o755)))
	write := func(name, text string) {
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)))
	}
	for _, name := range []string{"sysinit.target", "basic.target", "shutdown.target", "umount.target", "final.target", "exit.target", "system.slice"} {
		write("units/"+name, "[Unit]\nDefaultDependencies=no\n")
	}
	write("units/probe.target", "[Unit]\nDefaultDependencies=no\nWants=probe.service\nAfter=probe.service\n")
	text := "[Unit]\nDefaultDependencies=no\n[Service]\nEnvironment=" + probeEnv + "=1\nStandardOutput=append:" + out + "\nStandardError=append:" + out + "\nExecStartPre=+/bin/echo began\n"
	for _, s := range unit(t, "tsugi.service") {
		switch s[0] {
		case "Type":
			s[1] = "oneshot"
		case "ExecStart":
			s[1] = "/var/lib/probe"
		case "Restart", "RestartSec", "ConfigurationDirectory": // of no matter here, or of this very host
			continue
		case "ProtectControlGroups": // in a container they lie in layers, and systemd ends its read-only pass there
			continue
		}
		text += s[0] + "=" + s[1] + "\n"
	}
	write("units/probe.service", text)
	write("module.ko", string(probeModule("shipped")))
	exe, err := os.Executable()
	qt.Assert(t, qt.IsNil(err))
	write("start.sh", `set -e
mount --make-rprivate /
mount -t cgroup2 none /sys/fs/cgroup
for d in /run /var/lib /lib/modules /etc/systemd/system /lib/systemd/system /lib/systemd/system-generators; do mount -t tmpfs tmpfs $d; done
mkdir /run/user /run/lock
cp `+units+`/* /lib/systemd/system/
cp `+exe+` /var/lib/probe
mkdir -p /lib/modules/`+probeRelease+`/kernel
cp `+dir+`/module.ko /lib/modules/`+probeRelease+`/kernel/one.ko
exec /lib/systemd/systemd --system --unit=probe.target --log-target=null --show-status=false
`)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "unshare", "--kill-child=SIGKILL", "--fork", "-pmCinu", "--mount-proc", "/bin/sh", filepath.Join(dir, "start.sh"))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = 5 * time.Second
	qt.Assert(t, qt.IsNil(cmd.Start()))
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var got []byte
	for over := false; !over && !bytes.Contains(got, []byte("probe:")); {
		select {
		case <-ended:
			over = true
			ended <- nil
		case <-time.After(100 * time.Millisecond):
		}
		got, _ = os.ReadFile(out)
	}
	cancel()
	<-ended
	if !bytes.Contains(got, []byte("began")) {
		need.Allowed(t, "no systemd runs in namespaces here: ", said.String())
	}
	qt.Check(t, qt.Equals(string(got[max(0, bytes.LastIndex(got, []byte("probe:"))):]), "probe: <nil>\n"), qt.Commentf("%s %s", got, said.String()))
	qt.Check(t, qt.IsTrue(slices.Contains(strings.Split(string(got), "\n"), "began")))
}
