// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// contents is what each package has to hold, beside manual pages.
func contents() map[string][]string {
	return map[string][]string{
		"tsugi": {
			"/usr/bin/tsugi", "/etc/tsugi", "/usr/lib/systemd/system/tsugi.service", "/usr/lib/systemd/system/tsugi-boot.service",
			"/usr/lib/systemd/system/tsugi-keep.service",
			"/usr/share/man/man1/tsugi.1.gz", "/usr/share/man/man1/tsugi-revert.1.gz",
		},
		"tsugi-server": {
			"/usr/bin/tsugi-server", "/usr/lib/systemd/system/tsugi-server.service", "/usr/lib/systemd/system/tsugi-worker.service", "/usr/lib/sysusers.d/tsugi-server.conf",
			"/usr/share/man/man1/tsugi-server.1.gz", "/usr/share/man/man1/tsugi-server-serve.1.gz",
			"/usr/share/tsugi-server/prometheus/tsugi.rules.yml", "/usr/share/tsugi-server/grafana/tsugi.json",
		},
		"tsugictl": {"/usr/bin/tsugictl", "/usr/share/man/man1/tsugictl.1.gz", "/usr/share/man/man1/tsugictl-build.1.gz"},
	}
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s %v: %s", name, args, stderr.String()))
	return string(out)
}

func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(found, 1), qt.Commentf("%s", pattern))
	return found[0]
}

func TestPackages(t *testing.T) {
	if testing.Short() {
		t.Skip("builds all programs: not with -short")
	}
	for _, tool := range []string{"dpkg-deb", "rpm", "rpm2cpio", "git"} {
		need.Program(t, tool)
	}
	dir := t.TempDir()
	commit := output(t, "git", "rev-parse", "HEAD")
	output(t, "./build.sh", filepath.Join(dir, "one"), "tsugi")
	if !testenv.IsLong() {
		t.Setenv("COMPRESSION", "gzip") // xz takes a minute for the large ones, and the agent's packages have it
	}
	output(t, "./build.sh", filepath.Join(dir, "one"), "tsugi-server", "tsugictl")
	for name, want := range contents() {
		t.Run(name, func(t *testing.T) {
			deb, rpm := one(t, dir+"/one/"+name+"_*.deb"), one(t, dir+"/one/"+name+"-[0-9]*.rpm")
			version := output(t, "dpkg-deb", "-f", deb, "Version")
			qt.Check(t, qt.Equals(output(t, "rpm", "-qp", "--qf", "%{VERSION}-%{RELEASE}\n", rpm), version))
			qt.Check(t, qt.StringContains(output(t, "rpm", "-K", rpm), "digests OK"))

			tree := filepath.Join(dir, name)
			output(t, "dpkg-deb", "-x", deb, tree)
			rpmFiles := strings.Fields(output(t, "rpm", "-qpl", rpm))
			for _, f := range append(want,
				"/usr/share/bash-completion/completions/"+name, "/usr/share/fish/vendor_completions.d/"+name+".fish") {
				_, err := os.Stat(tree + f)
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.SliceContains(rpmFiles, f))
			}
			// What both kinds hold is the same, byte by byte.
			other := filepath.Join(dir, name+"-rpm")
			qt.Assert(t, qt.IsNil(os.Mkdir(other, 0o755)))
			// The names in an rpm begin with /: without that option cpio would
			// unpack over this very host.
			output(t, "sh", "-c", "cd "+other+" && rpm2cpio "+rpm+" | cpio -idm --quiet --no-absolute-filenames")
			a, err := os.ReadFile(tree + "/usr/bin/" + name)
			qt.Assert(t, qt.IsNil(err))
			b, err := os.ReadFile(other + "/usr/bin/" + name)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsTrue(bytes.Equal(a, b)))
			if name == "tsugi" { // each machine has it
				qt.Check(t, qt.IsTrue(len(a) <= 15_000_000), qt.Commentf("%d bytes", len(a)))
				qt.Check(t, qt.Equals(strings.TrimSpace(output(t, "dpkg-deb", "-f", deb, "Depends", "Recommends")), "Depends: tzdata\nRecommends: ca-certificates"))
			}
			// The programs run without anything beside them.
			qt.Check(t, qt.StringContains(output(t, tree+"/usr/bin/"+name, "version"), name+" "))
			owners := output(t, "dpkg-deb", "-c", deb)
			for line := range strings.Lines(owners) {
				qt.Check(t, qt.IsTrue(strings.Contains(line, " root/root ") && !strings.Contains(line[:10], "s")), qt.Commentf("%s", line))
			}
		})
	}
	t.Run("units", func(t *testing.T) { verifyUnits(t, dir) })
	t.Run("scripts", func(t *testing.T) {
		for _, name := range []string{"tsugi", "tsugi-server"} {
			control := filepath.Join(dir, name+"-control")
			output(t, "dpkg-deb", "-e", one(t, dir+"/one/"+name+"_*.deb"), control)
			for _, s := range []string{"postinst", "prerm", "postrm"} {
				got, err := os.ReadFile(filepath.Join(control, s))
				qt.Assert(t, qt.IsNil(err))
				ours, err := os.ReadFile("scripts/" + name + "." + s)
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.IsTrue(bytes.Equal(got, ours)))
			}
		}
	})
	t.Run("the same bytes again", func(t *testing.T) {
		if head := output(t, "git", "rev-parse", "HEAD"); head != commit {
			t.Skipf("there is a new commit since the packages were built: %s", head)
		}
		t.Setenv("COMPRESSION", "xz")
		output(t, "./build.sh", filepath.Join(dir, "two"), "tsugi")
		for _, f := range []string{one(t, dir+"/one/tsugi_*.deb"), one(t, dir+"/one/tsugi-[0-9]*.rpm")} {
			a, err := os.ReadFile(f)
			qt.Assert(t, qt.IsNil(err))
			b, err := os.ReadFile(filepath.Join(dir, "two", filepath.Base(f)))
			if err != nil && output(t, "git", "rev-parse", "HEAD") != commit {
				t.Skip("there is a new commit since the packages were built")
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsTrue(bytes.Equal(a, b)), qt.Commentf("%s", f))
		}
	})
}

// verifyUnits has systemd read the units, with the programs where the test has
// unpacked them.
func verifyUnits(t *testing.T, dir string) {
	need.Program(t, "systemd-analyze")
	var units []string
	for _, u := range []string{"tsugi/tsugi.service", "tsugi/tsugi-boot.service", "tsugi-server/tsugi-server.service", "tsugi-server/tsugi-worker.service"} {
		name, base := filepath.Split(u)
		b, err := os.ReadFile(filepath.Join(dir, name, "usr/lib/systemd/system", base))
		qt.Assert(t, qt.IsNil(err))
		text := strings.ReplaceAll(string(b), "/usr/bin/"+filepath.Clean(name), filepath.Join(dir, name, "usr/bin", name))
		qt.Assert(t, qt.StringContains(text, "ExecStart="+dir))
		to := filepath.Join(dir, base)
		qt.Assert(t, qt.IsNil(os.WriteFile(to, []byte(text), 0o644)))
		units = append(units, to)
	}
	cmd := exec.CommandContext(t.Context(), "systemd-analyze", slices.Concat([]string{"verify", "--man=no"}, units)...)
	out, err := cmd.CombinedOutput()
	qt.Check(t, qt.IsNil(err), qt.Commentf("%s", out))
	for line := range strings.Lines(string(out)) {
		qt.Check(t, qt.IsFalse(strings.Contains(line, "tsugi")), qt.Commentf("%s", line))
	}
}
