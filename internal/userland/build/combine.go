// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
)

// combine applies the fixes one after the other to the target's source, in
// memory. Documentation, tests and the distribution's own files are left out
// before that: no process runs them.
func (b *job) combine(context.Context) error {
	sum := fix.NewSum(func(p string) ([]byte, error) {
		return os.ReadFile(filepath.Join(b.t.Build, filepath.FromSlash(p)))
	})
	for _, f := range b.req.Fixes {
		part, rest := Relevant(f)
		for _, u := range rest {
			if !slices.Contains(b.report.Unbuilt, u) { // several fixes change one test
				b.report.Unbuilt = append(b.report.Unbuilt, u)
			}
		}
		if len(part.Files) == 0 {
			continue
		}
		notes, err := sum.Add(part)
		if err != nil {
			return err
		}
		for _, n := range notes {
			b.report.Notes = append(b.report.Notes, f.ID+": "+n)
		}
	}
	now := sum.Changes()
	for _, p := range slices.Sorted(maps.Keys(now)) {
		c := now[p]
		if !c.Created && !c.Deleted && string(c.Old) == string(c.New) || c.Created && c.Deleted {
			continue // one fix undoes another
		}
		if c.Deleted && sourceFile(p) {
			return code.New("TS3514", p, "it is deleted")
		}
		b.changes = append(b.changes, c)
	}
	return nil
}

// Relevant is the part of a fix that can matter to a process, and the rest.
func Relevant(f *fix.Fix) (*fix.Fix, []Unbuilt) {
	part := *f
	part.Files = nil
	var rest []Unbuilt
	for _, d := range f.Files {
		if why := ignored(d.Path); why != "" {
			rest = append(rest, Unbuilt{d.Path, "ignored", why})
			continue
		}
		part.Files = append(part.Files, d)
	}
	return &part, rest
}

// Matters tells whether a file of a source package can matter to a process.
func Matters(path string) bool { return ignored(path) == "" }

// ignored says why a file of a source package is nothing that a process runs.
func ignored(p string) string {
	dirs := strings.Split(path.Dir(p), "/")
	if dirs[0] == "debian" {
		return "packaging"
	}
	for _, d := range dirs {
		switch d {
		case "doc", "docs", "man", "Documentation", "manual":
			return "documentation"
		case "test", "tests", "mysql-test", "testsuite", "unittest", "fuzz", "demos", "examples", "t", "regress":
			return "tests"
		case ".github", ".gitlab":
			return "the project's own"
		}
	}
	base := path.Base(p)
	switch path.Ext(p) {
	case ".md", ".pod", ".html", ".sgml", ".rst", ".texi", ".po", ".pot", ".1", ".3", ".5", ".7", ".8":
		return "documentation"
	}
	for _, n := range []string{"NEWS", "CHANGES", "ChangeLog", "README", "AUTHORS", "COPYING", "THANKS", "HISTORY", "LICENSE"} {
		if base == n || strings.HasPrefix(base, n+".") || strings.HasPrefix(base, n+"-") {
			return "documentation"
		}
	}
	if strings.HasPrefix(base, "tst-") || strings.HasPrefix(base, "test-") { // glibc's tests lie beside the sources
		return "tests"
	}
	return ""
}

// sourceFile reports whether compilers read such a file as it is.
func sourceFile(p string) bool {
	switch path.Ext(p) {
	case ".c", ".h", ".cc", ".cpp", ".cxx", ".C", ".hh", ".hpp", ".hxx", ".inc", ".ic", ".i", ".tbl", ".S", ".s":
		return true
	}
	return false
}
