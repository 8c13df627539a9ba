// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// most is the size that the agent may have, stripped.
const most = 17_000_000

// TestWhatTheAgentLinks holds the list of all packages outside the standard
// library that run as root on every machine. Whoever adds one sees it here.
func TestWhatTheAgentLinks(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	qt.Assert(t, qt.IsNil(err))
	var got []string
	for l := range strings.Lines(string(out)) {
		if l = strings.TrimSpace(l); l != "" {
			got = append(got, l)
		}
	}
	slices.Sort(got)
	for _, p := range got {
		for _, no := range []string{
			"/internal/store", "/internal/builder", "/internal/kbuild", "/internal/vm", "/internal/server", "/internal/jobs", "/internal/publish",
			"/internal/objdiff", "modernc.org/", "jackc/pgx", "huma", "certmagic", "minio", "koanf", "prometheus", "cgo",
		} {
			qt.Check(t, qt.IsFalse(strings.Contains(p, no)), qt.Commentf("the agent links %s", p))
		}
	}
	text := strings.Join(got, "\n") + "\n"
	if *update {
		qt.Assert(t, qt.IsNil(os.MkdirAll("testdata", 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile("testdata/links.txt", []byte(text), 0o644)))
	}
	want, err := os.ReadFile("testdata/links.txt")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(text, string(want)), qt.Commentf("if this is meant: go test ./cmd/tsugi -update"))
}

// TestTheAgentIsSmallAndStatic builds it as the packages do.
func TestTheAgentIsSmallAndStatic(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a program")
	}
	file := filepath.Join(t.TempDir(), "tsugi")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	info, err := os.Stat(file)
	qt.Assert(t, qt.IsNil(err))
	t.Logf("%d bytes", info.Size())
	qt.Check(t, qt.IsTrue(info.Size() <= most), qt.Commentf("%d bytes", info.Size()))
	b, err := os.ReadFile(file)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(strings.Contains(string(b), "ld-linux-x86-64.so")))
}
