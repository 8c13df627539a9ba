// SPDX-License-Identifier: Apache-2.0

package includes

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/userland"
)

// source writes the files of a source tree, and links where a text says "-> ".
func source(t *testing.T, files map[string]string) string {
	t.Helper()
	top := t.TempDir()
	for name, text := range files {
		file := filepath.Join(top, name)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(file), 0o755)))
		if to, link := cutLink(text); link {
			qt.Assert(t, qt.IsNil(os.Symlink(to, file)))
			continue
		}
		qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte(text), 0o644)))
	}
	return top
}

func cutLink(text string) (string, bool) {
	if len(text) > 3 && text[:3] == "-> " {
		return text[3:], true
	}
	return "", false
}

func TestWhoCanReadAFile(t *testing.T) {
	top := source(t, map[string]string{
		"build/p/a.c":               "#include \"a.h\"\n",
		"build/p/a.h":               "",
		"build/p/b.c":               "/* text */ # /* b */ include <sub/b.h>\n",
		"build/p/inc/sub/b.h":       "#include_next <b.h>\n#include \"near.h\"\n",
		"build/p/inc/sub/near.h":    "",
		"build/p/other/b.h":         "",
		"build/p/c.c":               "int t[] = {\n\t#\\\ninclude \"c.tbl\"\n};\n",
		"build/p/c.tbl":             "1\n",
		"build/p/d.c":               "#define WHAT \"x.h\"\n#include WHAT\n",
		"build/p/whole.c":           "#include \"a.c\"\n",
		"build/p/tests/t.c":         "#include \"../a.h\"\n#include WHAT\n",
		"build/p/linked.c":          "#include \"link.h\"\n#include \"dir/up.h\"\n",
		"build/p/link.h":            "-> a.h",
		"build/p/dir":               "-> inc/sub",
		"build/p/inc/up.h":          "",
		"build/p/inc/sub/up.h":      "#include \"../up.h\"\n",
		"build/p/before.h":          "#include <system.h>\n",
		"build/p/system2.h":         "",
		"build/p/pre.c":             "",
		"root/usr/include/system.h": "#include <system2.h>\n",
	})
	compile := func(source string, args ...string) userland.Command {
		return userland.Command{Argv: append([]string{"gcc", "-c", source}, args...), Dir: "/build/p", Source: "/build/p/" + source}
	}
	from := Sources{
		Root: filepath.Join(top, "root"), Build: filepath.Join(top, "build/p"), BuildPath: "/build/p",
		Compiles: []userland.Command{
			compile("a.c"), compile("b.c", "-Iinc", "-I", "other"), compile("c.c"), compile("d.c"), compile("whole.c"),
			compile("linked.c"), compile("pre.c", "-include", "before.h", "-I."), compile("gone.c"),
			compile("pre.c", "@args"),
		},
	}
	x, err := Load(t.Context(), from, filepath.Join(top, "index"))
	qt.Assert(t, qt.IsNil(err))
	all := func(p string) []string {
		return named(from, x.Readers([]string{p}, nil))
	}
	for p, want := range map[string][]string{
		"a.h":            {"a.c", "linked.c", "whole.c"},
		"a.c":            {"a.c", "whole.c"},
		"inc/sub/b.h":    {"b.c"},
		"inc/sub/near.h": {"b.c"},
		"other/b.h":      {"b.c"},
		"c.tbl":          {"c.c"},
		"inc/up.h":       {"linked.c"},
		"before.h":       {"pre.c"},
		"system2.h":      {"pre.c"},
		"tests/t.c":      {},
	} {
		qt.Check(t, qt.DeepEquals(slices.DeleteFunc(all(p), func(s string) bool { return s == "d.c" || s == "pre.c @args" }), want), qt.Commentf("%s", p))
		qt.Check(t, qt.IsTrue(slices.Contains(all(p), "d.c") && slices.Contains(all(p), "pre.c @args")), qt.Commentf("%s: who can't be followed may read all", p))
	}
	// A new file may be found in front of one of its name.
	got := named(from, x.Readers(nil, []string{"new/near.h"}))
	qt.Check(t, qt.DeepEquals(got, []string{"b.c", "d.c", "pre.c @args"}))

	again, err := Load(t.Context(), from, filepath.Join(top, "index"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(again, x))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(top, "index"), []byte("torn"), 0o644)))
	again, err = Load(t.Context(), from, filepath.Join(top, "index"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(again, x))
}

func named(from Sources, units []int) []string {
	var out []string
	for _, i := range units {
		c := from.Compiles[i]
		name := filepath.Base(c.Source)
		if c.Argv[len(c.Argv)-1] == "@args" {
			name += " @args"
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"#include <a.h>\n", "#\\\ninclude/**/\"b.h\"", "# include X\r\n", "include", "#import <", "%:include\"x\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, _ := parse(data)
		for _, d := range list {
			if d.name == "" {
				t.Fatal("a directive without a name")
			}
		}
	})
}
