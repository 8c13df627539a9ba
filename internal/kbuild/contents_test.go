// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/fix"
)

const depsFile = `savedcmd_fs/ext4/x.o := gcc-12 -c -o fs/ext4/x.o /src/fs/ext4/x.c

source_fs/ext4/x.o := /src/fs/ext4/x.c

deps_fs/ext4/x.o := \
    $(wildcard include/config/SMP) \
  /src/include/linux/kconfig.h \
  /src/fs/ext4/../ext4/ext4.h \
  include/generated/asm/rwonce.h \
  /usr/lib/gcc/include/stdarg.h \
  /src2/include/x.h \

fs/ext4/x.o: $(deps_fs/ext4/x.o)

$(deps_fs/ext4/x.o):
`

func TestTheFilesOfACompilationAreReadFromKbuildAndGcc(t *testing.T) {
	t.Parallel()
	want := []string{"fs/ext4/ext4.h", "fs/ext4/x.c", "include/generated/asm/rwonce.h", "include/linux/kconfig.h"}
	got, err := parseReads([]byte(depsFile), "/src")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, want))
	got, err = parseRule([]byte("x.o: /ws/fs/ext4/x.c \\\n /ws/include/linux/kconfig.h \\\n /ws/fs/ext4/ext4.h include/generated/asm/rwonce.h \\\n ../other.h\n\n/ws/a.h:\n"), "/ws")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, want))
	for _, bad := range []string{"", "source_x := /src/x.c\n", "deps_x.o := \\\n  /src/a.h \\\n"} {
		if _, err := parseReads([]byte(bad), "/src"); bad != "" && strings.Contains(bad, "deps_") {
			qt.Check(t, qt.IsNil(err)) // the end of the file ends the list
		} else {
			qt.Check(t, qt.IsNotNil(err), qt.Commentf("%q", bad))
		}
	}
	for _, bad := range []string{"", "x.o", "x.o: a\\ b.h", "x.o: $$x"} {
		_, err := parseRule([]byte(bad), "/src")
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%q", bad))
	}
}

func FuzzParseReads(f *testing.F) {
	f.Add([]byte(depsFile))
	f.Add([]byte("x.o: /src/a.c \\\n b.h\n"))
	f.Add([]byte(`[[],["include/x.h"]]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func([]byte, string) ([]string, error){parseReads, parseRule} {
			reads, err := parse(b, "/src")
			if err != nil && reads != nil {
				t.Fatal("both files and an error")
			}
			if !slices.IsSorted(reads) || slices.Contains(reads, "") {
				t.Fatalf("%q", reads)
			}
		}
		if w, err := parseWays(b); err != nil && w != nil {
			t.Fatal("both ways and an error")
		}
	})
}

func changes(files ...string) []fix.Change {
	var out []fix.Change
	for _, f := range files {
		path, text, _ := strings.Cut(f, "=")
		c := fix.Change{Path: path, Old: []byte("old"), New: []byte(text)}
		switch text {
		case "gone":
			c.New, c.Deleted = nil, true
		case "new":
			c.Old, c.Created = nil, true
		}
		out = append(out, c)
	}
	return out
}

func TestAnObjectIsKeptUnderWhatItsCompilerSees(t *testing.T) {
	t.Parallel()
	reads := []string{"fs/a.c", "include/a.h", "include/b.h"}
	key := func(files ...string) string { return newContents(changes(files...), "").first(reads) }
	base := key("include/a.h=1")
	qt.Check(t, qt.Equals(key("fs/other.c=1"), ""))
	qt.Check(t, qt.Equals(key("fs/other.c=1", "include/a.h=1"), base))
	for _, other := range [][]string{
		{"include/a.h=2"},
		{"include/a.h=gone"},
		{"include/b.h=1"},
		{"include/a.h=1", "include/b.h=1"},
		{"include/a.h=1", "fs/b.h=new"}, // lies before include/b.h when fs/a.c asks for "b.h"
	} {
		qt.Check(t, qt.Not(qt.Equals(key(other...), base)), qt.Commentf("%q", other))
	}
	qt.Check(t, qt.Equals(key("include/a.h=1", "fs/c.h=new"), base))
	qt.Check(t, qt.Not(qt.Equals(newContents(changes("include/a.h=1"), "x").first(reads), base)))

	// A header that is included newly counts by its contents too.
	more := []string{"include/c.h"}
	second := func(files ...string) string {
		k := newContents(changes(files...), "")
		return k.second(k.first(reads), more)
	}
	base = second("include/a.h=1")
	qt.Check(t, qt.Equals(second("include/a.h=1", "include/d.h=1"), base))
	qt.Check(t, qt.Not(qt.Equals(second("include/a.h=1", "include/c.h=1"), base)))
	qt.Check(t, qt.Not(qt.Equals(second("include/a.h=1", "fs/c.h=new"), base)))
}

// TestEqualKeysMeanEqualText lets a toy preprocessor read files whose lines
// are "include NAME", looked for beside the includer and then in include/.
func TestEqualKeysMeanEqualText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a.c", "a.h", "b.h", "c.h", "include/a.h", "include/b.h", "include/c.h"}
		text := rapid.Custom(func(t *rapid.T) string {
			var b strings.Builder
			for range rapid.IntRange(0, 2).Draw(t, "lines") {
				b.WriteString(rapid.SampledFrom([]string{"include a.h\n", "include b.h\n", "include c.h\n", "1\n", "2\n"}).Draw(t, "line"))
			}
			return b.String()
		})
		pristine := map[string]string{"a.c": "include a.h\n", "include/a.h": "", "include/b.h": "", "include/c.h": ""}
		for n := range pristine {
			if n != "a.c" {
				pristine[n] = text.Draw(t, n)
			}
		}
		draw := func(label string) ([]fix.Change, map[string]string) {
			now := map[string]string{}
			for n, s := range pristine {
				now[n] = s
			}
			var cs []fix.Change
			for _, n := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 0, 3, rapid.ID[string]).Draw(t, label) {
				_, had := pristine[n]
				now[n] = text.Draw(t, label+n)
				cs = append(cs, fix.Change{Path: n, New: []byte(now[n]), Created: !had})
			}
			return cs, now
		}
		base, _ := preprocessToy(pristine)
		slices.Sort(base)
		ca, fa := draw("one")
		cb, fb := draw("two")
		ka, kb := newContents(ca, ""), newContents(cb, "")
		reads, ta := preprocessToy(fa)
		_, tb := preprocessToy(fb)
		if ka.first(base) == "" {
			if _, want := preprocessToy(pristine); ta != want {
				t.Fatalf("unchanged by its key, and %q is not %q", ta, want)
			}
			return
		}
		slices.Sort(reads)
		more := beside(base, reads)
		if ka.first(base) == kb.first(base) && ka.second(ka.first(base), more) == kb.second(kb.first(base), more) && ta != tb {
			t.Fatalf("one key, and %q is not %q", ta, tb)
		}
	})
}

func preprocessToy(files map[string]string) (reads []string, text string) {
	var b strings.Builder
	var read func(path string, depth int)
	read = func(path string, depth int) {
		if !slices.Contains(reads, path) {
			reads = append(reads, path)
		}
		for line := range strings.Lines(files[path]) {
			name, ok := strings.CutPrefix(strings.TrimSpace(line), "include ")
			if !ok {
				b.WriteString(line)
				continue
			}
			dir := ""
			if strings.HasPrefix(path, "include/") {
				dir = "include/"
			}
			for _, p := range []string{dir + name, "include/" + name} {
				if _, ok := files[p]; ok {
					if depth < 4 {
						fmt.Fprintf(&b, "<%s>", p)
						read(p, depth+1)
					}
					break
				}
			}
		}
	}
	read("a.c", 0)
	return reads, b.String()
}
