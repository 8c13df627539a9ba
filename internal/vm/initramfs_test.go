// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// static compiles a static program and returns its path.
func static(t testing.TB) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "static")
	cmd := exec.CommandContext(t.Context(), "gcc", "-static", "-nostdlib", "-x", "c", "-o", bin, "-")
	cmd.Stdin = strings.NewReader("void _start(void) { for (;;) ; }")
	out, err := cmd.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	return bin
}

// unpack lists an archive: files with their bytes, links with their targets.
func unpack(t testing.TB, b []byte) map[string]string {
	t.Helper()
	out := map[string]string{}
	r := cpio.NewReader(bytes.NewReader(b))
	var dirs []string
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		qt.Assert(t, qt.IsNil(err))
		data, err := io.ReadAll(r)
		qt.Assert(t, qt.IsNil(err))
		if d := filepath.Dir(h.Name); d != "." {
			qt.Assert(t, qt.IsTrue(slices.Contains(dirs, d)), qt.Commentf("%s comes before its directory", h.Name))
		}
		_, twice := out[h.Name]
		qt.Assert(t, qt.IsFalse(twice), qt.Commentf("%s", h.Name))
		switch {
		case h.Mode&cpio.TypeDir == cpio.TypeDir && h.Mode&cpio.TypeReg != cpio.TypeReg:
			dirs = append(dirs, h.Name)
			out[h.Name] = "directory"
		case h.Linkname != "":
			out[h.Name] = "-> " + h.Linkname
		default:
			out[h.Name] = string(data)
		}
	}
}

func TestTheArchiveHoldsWhatTheGuestNeeds(t *testing.T) {
	cfg := &Config{
		Init: static(t), Programs: []string{"mkfs.ext4"},
		Files: []File{{Path: "/deep/er/file", Data: []byte("x"), Mode: 0o600}, {Path: "/etc/self", From: "initramfs_test.go"}},
	}
	m, err := buildImage(t.Context(), cfg, &wire.Plan{Format: wire.Format})
	qt.Assert(t, qt.IsNil(err))
	var a, b bytes.Buffer
	qt.Assert(t, qt.IsNil(m.write(&a)))
	qt.Assert(t, qt.IsNil(m.write(&b)))
	qt.Check(t, qt.IsTrue(bytes.Equal(a.Bytes(), b.Bytes())), qt.Commentf("the same contents, other bytes"))

	got := unpack(t, a.Bytes())
	self, _ := os.ReadFile("initramfs_test.go")
	qt.Check(t, qt.Equals(got["deep/er/file"], "x"))
	qt.Check(t, qt.Equals(got["etc/self"], string(self)))
	qt.Check(t, qt.Equals(got["proc"], "directory"))
	qt.Check(t, qt.Equals(got["bin/sh"], "-> busybox"))
	qt.Check(t, qt.Equals(got["sbin/modprobe"], "-> /init"))
	_, err = wire.ParsePlan([]byte(got[wire.PlanPath[1:]]))
	qt.Check(t, qt.IsNil(err))

	// Every library that ldd names is there, by the name that it is asked by.
	mkfs := m.files["/bin/mkfs.ext4"].From
	ldd, err := exec.CommandContext(t.Context(), "ldd", mkfs).Output()
	qt.Assert(t, qt.IsNil(err))
	n := 0
	for l := range strings.Lines(string(ldd)) {
		name := strings.Fields(l)[0]
		if strings.HasPrefix(name, "linux-vdso") {
			continue
		}
		n++
		p := "lib/" + name
		if strings.HasPrefix(name, "/") {
			p = name[1:]
		}
		_, ok := got[p]
		qt.Check(t, qt.IsTrue(ok), qt.Commentf("%s; there is %v", p, slices.Sorted(maps.Keys(m.files))))
	}
	qt.Check(t, qt.IsTrue(n > 3))
}

func TestWhatIsMissingHasACode(t *testing.T) {
	sh, err := exec.LookPath("sh")
	qt.Assert(t, qt.IsNil(err))
	init := static(t)
	for _, c := range []struct {
		name string
		cfg  Config
		want code.Code
	}{
		{"a dynamic program as process 1", Config{Init: sh}, "TS6004"},
		{"a text as process 1", Config{Init: "initramfs_test.go"}, "TS6004"},
		{"no busybox", Config{Init: init, Busybox: "/nonexistent"}, "TS6002"},
		{"a program that is not installed", Config{Init: init, Programs: []string{"no-such-program"}}, "TS6003"},
		{"modules with no source", Config{Init: init, Modules: []string{"ext4"}}, "TS6005"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := buildImage(t.Context(), &c.cfg, &wire.Plan{})
			qt.Check(t, qt.Equals(code.Of(err), c.want), qt.Commentf("%v", err))
		})
	}
	_, err = Run(t.Context(), Config{Kernel: "/nonexistent", Accel: TCG}, &wire.Plan{})
	qt.Check(t, qt.Equals(code.Of(err), "TS6006"))
	_, err = Run(t.Context(), Config{Kernel: "initramfs_test.go", Init: init, Accel: TCG, QEMU: "no-such-qemu"}, &wire.Plan{})
	qt.Check(t, qt.Equals(code.Of(err), "TS6001"))
	_, err = Run(t.Context(), Config{Kernel: "initramfs_test.go", Init: init, Accel: TCG}, &wire.Plan{})
	qt.Check(t, qt.Equals(code.Of(err), "TS6007"), qt.Commentf("a kernel that is none: %v", err))
}

func TestTheResultOfAProbeIsRemembered(t *testing.T) {
	file := filepath.Join(t.TempDir(), "new", "accelerator.json")
	_, ok := readProbe(file, "k")
	qt.Check(t, qt.IsFalse(ok))
	qt.Assert(t, qt.IsNil(writeProbe(file, "k", TCG)))
	a, ok := readProbe(file, "k")
	qt.Check(t, qt.IsTrue(ok && a == TCG))
	_, ok = readProbe(file, "another QEMU")
	qt.Check(t, qt.IsFalse(ok))
	for _, text := range []string{"", "{", `{"key":"k","accelerator":"xen"}`} {
		qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte(text), 0o600)))
		_, ok = readProbe(file, "k")
		qt.Check(t, qt.IsFalse(ok), qt.Commentf("%q", text))
	}
}
