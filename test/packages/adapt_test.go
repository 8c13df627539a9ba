// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// OpenSSL's sources were laid out anew between 3.0.17 and 3.0.20, so fixes of
// the later fit the earlier only in what they say, not in how their lines break.
// adapt finds the old side of each hunk token by token and puts the new side
// there: whatever the space between tokens, no other token changes.

var token = regexp.MustCompile(`"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[A-Za-z0-9_]+|[^\sA-Za-z0-9_]`)

// enough is how many tokens have to be found, at least.
const enough = 8

// adapt applies the hunks of one file to a source that is laid out in another
// way. Context may be missing at the ends of a hunk, as patch(1) allows, but
// what is left has to fit in one place only.
func adapt(source string, d fix.FileDiff) (string, error) {
	for _, h := range d.Hunks {
		lines, err := h.Lines, errors.New("")
		for n := 0; err != nil && n <= 3; n++ {
			for lead := 0; err != nil && lead <= n; lead++ {
				var out string
				if out, err = replace(source, trimmed(lines, lead, n-lead)); err == nil {
					source = out
				}
			}
		}
		if err != nil {
			return "", fmt.Errorf("%s, hunk at line %d: %w", d.Path, h.OldStart, err)
		}
	}
	return source, nil
}

// trimmed is a hunk without some lines of context at its ends.
func trimmed(lines []fix.Line, lead, trail int) []fix.Line {
	for ; lead > 0 && lines[0].Op == ' '; lead-- {
		lines = lines[1:]
	}
	for ; trail > 0 && lines[len(lines)-1].Op == ' '; trail-- {
		lines = lines[:len(lines)-1]
	}
	return lines
}

func replace(source string, lines []fix.Line) (string, error) {
	var old, put strings.Builder
	for _, l := range lines {
		if l.Op != '+' {
			old.WriteString(l.Text)
		}
		if l.Op != '-' {
			put.WriteString(l.Text)
		}
	}
	want := token.FindAllString(old.String(), -1)
	if len(want) < enough {
		return "", errors.New("too little of it is left to find its place")
	}
	at := token.FindAllStringIndex(source, -1)
	have := make([]string, len(at))
	for i, a := range at {
		have[i] = source[a[0]:a[1]]
	}
	found := -1
	for i := 0; i+len(want) <= len(have); i++ {
		if slices.Equal(have[i:i+len(want)], want) {
			if found >= 0 {
				return "", errors.New("it fits two places")
			}
			found = i
		}
	}
	if found < 0 {
		return "", errors.New("its tokens are not there")
	}
	return source[:at[found][0]] + strings.TrimSpace(put.String()) + source[at[found+len(want)-1][1]:], nil
}

// adapted makes of fixes one that fits the sources of a target, leaving out the
// files that leave says. It is one, since they build on each other.
func adapted(t *testing.T, target *userland.Target, id string, leave func(path string) bool, fixes ...*fix.Fix) (*fix.Fix, error) {
	t.Helper()
	was, is := map[string]string{}, map[string]string{}
	var paths []string
	for _, f := range fixes {
		for _, d := range f.Files {
			if leave(d.Path) {
				continue
			}
			if _, ok := is[d.Path]; !ok {
				b, err := os.ReadFile(filepath.Join(target.Build, d.Path))
				qt.Assert(t, qt.IsNil(err))
				was[d.Path], is[d.Path] = string(b), string(b)
				paths = append(paths, d.Path)
			}
			out, err := adapt(is[d.Path], d)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.ID, err)
			}
			is[d.Path] = out
		}
	}
	slices.Sort(paths)
	var text strings.Builder
	for _, p := range paths {
		text.Write(fix.Unified(p, []byte(was[p]), []byte(is[p])))
	}
	return fix.Parse(id+".patch", []byte(text.String()))
}

// fileOf is what makes of one file of a target's source that of another's.
func fileOf(t *testing.T, from, to *userland.Target, id, name string) *fix.Fix {
	t.Helper()
	a, err := os.ReadFile(filepath.Join(from.Build, name))
	qt.Assert(t, qt.IsNil(err))
	b, err := os.ReadFile(filepath.Join(to.Build, name))
	qt.Assert(t, qt.IsNil(err))
	f, err := fix.Parse(id+".patch", fix.Unified(name, a, b))
	qt.Assert(t, qt.IsNil(err))
	return f
}

func TestAFixIsAdaptedToAnotherLayoutOfLines(t *testing.T) {
	const diff = `--- a/x.c
+++ b/x.c
@@ -1,4 +1,6 @@
 static int f(int a,
     int b)
 {
+    if (a > b)
+        return 0;
     return a;
`
	for _, test := range []struct{ name, source, want string }{
		{"as it is", "static int f(int a,\n    int b)\n{\n    return a;\n}\n", "static int f(int a,\n    int b)\n{\n    if (a > b)\n        return 0;\n    return a;\n}\n"},
		{"another layout", "static int f(int a, int b)\n{\n  return a;\n}\n", "static int f(int a,\n    int b)\n{\n    if (a > b)\n        return 0;\n    return a;\n}\n"},
		{"other code", "static void g(void)\n{\n  return b;\n}\n", ""},
		{"less context", "static int f(int a, int b)\n{\n  return b;\n}\n", "static int f(int a,\n    int b)\n{\n    if (a > b)\n        return 0;\n  return b;\n}\n"},
		{"two places", strings.Repeat("static int f(int a, int b)\n{\n  return a;\n}\n", 2), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f, err := fix.Parse("x.patch", []byte(diff))
			qt.Assert(t, qt.IsNil(err))
			got, err := adapt(test.source, f.Files[0])
			qt.Check(t, qt.Equals(err == nil, test.want != ""))
			qt.Check(t, qt.Equals(got, test.want))
		})
	}
}
