// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// glibc are fixes of 2.36-9+deb12u14 that 2.36-9+deb12u7 lacks. Debian has all
// that upstream's stable branch did in one patch of its series; each of these is
// what that patch does to one function of one file.
var glibc = []struct{ cve, file, function string }{
	{"CVE-2025-8058", "posix/regcomp.c", "parse_bracket_exp"},
	{"CVE-2026-0861", "malloc/malloc.c", "_int_memalign"},
}

const glibcFixed = "2.36-9+deb12u14"

// glibcFix takes a fix out of the patch.
func glibcFix(t *testing.T, cve, file, function string) *fix.Fix {
	t.Helper()
	dir, err := store(t).FetchSource(t.Context(), "glibc", glibcFixed, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	all, err := exec.Command("tar", "-xJOf", filepath.Join(dir, "glibc_"+glibcFixed+".debian.tar.xz"), "debian/patches/git-updates.diff").Output()
	qt.Assert(t, qt.IsNil(err))
	var text strings.Builder
	in, hunk := false, false
	for line := range strings.Lines(string(all)) {
		switch {
		case strings.HasPrefix(line, "diff --git "):
			in = line == "diff --git a/"+file+" b/"+file+"\n"
			hunk = in
		case strings.HasPrefix(line, "@@ "):
			hunk = in && strings.Contains(line, "@@ "+function+" (")
		}
		if hunk {
			text.WriteString(line)
		}
	}
	f, err := fix.Parse(cve+".patch", []byte(text.String()))
	qt.Assert(t, qt.IsNil(err))
	return f
}

func TestFixesOfGlibc(t *testing.T) {
	old := target(t, "debian:libc6=2.36-9+deb12u7")
	libs := libraries(t, old)
	loader := filepath.Join(libs, "ld-linux-x86-64.so.2")
	var fixes []*fix.Fix
	var each []*build.Report
	for _, x := range glibc {
		f := glibcFix(t, x.cve, x.file, x.function)
		fixes = append(fixes, f)
		r := live(t, old, f)
		t.Logf("%s: %v, %v", x.cve, changed(r), r.Stages)
		each = append(each, r)
	}
	both := live(t, old, fixes...)
	for name, argv := range map[string][]string{
		"started by its loader":    {loader, "--library-path", libs, compile(t, "glibc.c", "-lpthread"), "64"},
		"started with it directly": {compile(t, "glibc.c", "-lpthread", "-Wl,--dynamic-linker="+loader, "-Wl,-rpath="+libs), "64"},
	} {
		t.Run(name, func(t *testing.T) {
			p := talk(t, nil, argv...)
			ask := func(when, want string) {
				t.Helper()
				for _, x := range glibc {
					got := p.ask(x.cve)
					t.Logf("%s: %s: %s", when, x.cve, got)
					qt.Check(t, qt.IsTrue(strings.HasPrefix(got, want)), qt.Commentf("%s: %s: %s", when, x.cve, got))
				}
			}
			ask("before", "vulnerable: ")
			for i, r := range each {
				into(t, p.pid(), r)
				qt.Check(t, qt.Equals(p.ask(glibc[i].cve), "fixed"))
				outOf(t, p.pid())
			}
			ask("out again", "vulnerable: ")
			into(t, p.pid(), both)
			ask("both", "fixed")
			time.Sleep(time.Second)
			outOf(t, p.pid())
			ask("out of both", "vulnerable: ")
			work := p.ask("work")
			t.Log(work)
			qt.Check(t, qt.IsTrue(strings.HasSuffix(work, " done, 0 wrong")))
			p.quit()
		})
	}
}
