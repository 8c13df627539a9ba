// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	if root := os.Getenv(enterEnv); root != "" {
		fmt.Println("enter:", enter(root))
		return
	}
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

// TestTheSandboxAsSystemdMakesIt runs the probe with all that the agent's unit says.
func TestTheSandboxAsSystemdMakesIt(t *testing.T) {
	if _, err := os.Stat("/usr/sbin/depmod"); err != nil {
		need.Allowed(t, err)
	}
	if err := os.Mkdir("/lib/modules", 0o755); err == nil {
		t.Cleanup(func() { _ = os.Remove("/lib/modules") }) // a place to mount on, on a machine without kernels
	}
	dir := t.TempDir()
	out, module := filepath.Join(dir, "out"), filepath.Join(dir, "module.ko")
	qt.Assert(t, qt.IsNil(os.WriteFile(module, probeModule("shipped"), 0o644)))
	said := underSystemd(t, map[string]string{"probe.service": service(t, "tsugi.service", probeEnv+"=1", out)}, `mount -t tmpfs tmpfs /lib/modules
mkdir -p /lib/modules/`+probeRelease+`/kernel
cp `+module+` /lib/modules/`+probeRelease+`/kernel/one.ko`, "probe:", out)
	got, err := os.ReadFile(out)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(got[max(0, bytes.LastIndex(got, []byte("probe:"))):]), "probe: <nil>\n"), qt.Commentf("%s %s", got, said))
}
