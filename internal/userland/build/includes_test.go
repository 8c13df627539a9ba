// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestWhoMayReadAFileIsFoundByNames(t *testing.T) {
	top := t.TempDir()
	for name, text := range map[string]string{
		"a.c":       "#include \"a.h\"\n",
		"b.c":       "# include <sub/b.h>\n",
		"sub/b.h":   "#include_next <b.h>\n",
		"sub/c.tbl": "x\n",
		"c.c":       "int t[] = {\n\t#include \"sub/c.tbl\"\n};\n",
		"d.c":       "#define WHAT \"x.h\"\n#include WHAT\n",
		"whole.c":   "#include \"a.c\"\n",
		"Makefile":  "# include files\n",
		"a.h":       "",
	} {
		file := filepath.Join(top, name)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(file), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte(text), 0o644)))
	}
	qt.Assert(t, qt.IsNil(os.Symlink("a.h", filepath.Join(top, "other.h"))))
	in, err := scanIncludes(t.Context(), top)
	qt.Assert(t, qt.IsNil(err))
	for name, want := range map[string][]string{
		"a.h":   {"a.c", "a.h", "d.c", "other.h", "whole.c"},
		"b.h":   {"b.c", "b.h", "d.c"},
		"c.tbl": {"c.c", "c.tbl", "d.c"},
		"a.c":   {"a.c", "d.c", "whole.c"},
	} {
		names := map[string]bool{name: true}
		in.spread(names)
		var got []string
		for n := range names {
			got = append(got, n)
		}
		slices.Sort(got)
		qt.Check(t, qt.DeepEquals(got, want), qt.Commentf("%s", name))
	}
	qt.Check(t, qt.DeepEquals(in.aliases(map[string]bool{"a.h": true}), map[string]bool{"other.h": true}))
}

func TestWhatACompilerReadsIsTakenFromItsRule(t *testing.T) {
	got := parseRule([]byte("x: ../a.c /build/p/inc/a.h \\\n /usr/include/stdio.h with\\ space.h\n"), "/build/p/sub", "/build/p")
	qt.Check(t, qt.DeepEquals(got, map[string]bool{"a.c": true, "inc/a.h": true, "sub/with space.h": true}))
}

func TestACommandIsRunAgainWithoutItsOutput(t *testing.T) {
	got := withoutOutput([]string{"gcc", "-g", "-O2", "-MMD", "-MF", "x.d", "-Wp,-MD,y", "-c", "-o", "x.o", "-ggdb3", "-DX=\"-o\"", "x.c"})
	qt.Check(t, qt.DeepEquals(got, []string{"gcc", "-O2", "-DX=\"-o\"", "x.c"}))
}
