// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

func TestKeepLinesPutsDirectivesAtSafeBoundaries(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"an unchanged file stays as it is", "a;\n", "a;\n", "a;\n"},
		{"a changed line needs none", "a;\nb;\nc;\n", "a;\nB;\nc;\n", "a;\nB;\nc;\n"},
		{"lines on top", "a;\nb;\n", "\n\n\na;\nb;\n", "\n\n\n#line 1\na;\nb;\n"},
		{"an added line", "a;\nb;\n", "a;\nx;\nb;\n", "a;\nx;\n#line 2\nb;\n"},
		{"a removed line", "a;\nx;\nb;\n", "a;\nb;\n", "a;\n#line 3\nb;\n"},
		{"nothing behind the last line", "a;\n", "a;\nb;\n", "a;\nb;\n"},
		{"not inside parentheses", "f(a,\n  b,\n  c);\nd;\n", "f(a,\n  x,\n  b,\n  c);\nd;\n", "f(a,\n  x,\n  b,\n  c);\n#line 4\nd;\n"},
		{"not inside a comment", "/* a\n * b\n */\nc;\n", "/* a\n * x\n * b\n */\nc;\n", "/* a\n * x\n * b\n */\n#line 4\nc;\n"},
		{"not inside a macro", "#define A(x) \\\n\tx; \\\n\ty\nc;\n", "#define A(x) \\\n\tz; \\\n\tx; \\\n\ty\nc;\n", "#define A(x) \\\n\tz; \\\n\tx; \\\n\ty\n#line 4\nc;\n"},
		{"parentheses in literals and comments do not count", "a(\"((\", '(');  // ((\nb;\nc;\n", "a(\"((\", '(');  // ((\nb;\nx;\nc;\n", "a(\"((\", '(');  // ((\nb;\nx;\n#line 3\nc;\n"},
		{
			"again behind a branch that may be skipped",
			"#ifdef A\na;\nb;\n#else\nc;\n#endif\nd;\n",
			"#ifdef A\na;\nx;\nb;\n#else\nc;\n#endif\nd;\n",
			"#ifdef A\na;\nx;\n#line 3\nb;\n#else\n#line 5\nc;\n#endif\n#line 7\nd;\n",
		},
		{
			"a parenthesis opened in both branches",
			"#ifdef A\nf(a\n#else\nf(b\n#endif\n  , c);\nd;\n",
			"#ifdef A\nf(a\n#else\nf(b\n#endif\n  , c);\nx;\nd;\n",
			"#ifdef A\nf(a\n#else\nf(b\n#endif\n  , c);\nx;\n#line 7\nd;\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			qt.Check(t, qt.Equals(string(KeepLines([]byte(c.old), []byte(c.new))), c.want))
		})
	}
}

// blocks are pieces of C in which every L is a line whose number counts.
var blocks = [][]string{
	{"L;"},
	{"L;", "L;", "L;"},
	{"f(a,", "  L,", "  g(b, L), L);", "L;"},
	{"/* a comment", " * it's (", " */ L;"},
	{"#define M(x) \\", "\tx + ( \\", "\t1", "M(L;)"},
	{"#ifdef YES", "L;", "L;", "#else", "L;", "#endif", "L;"},
	{"#ifdef NO", "L;", "L;", "#else", "L;", "L;", "#endif", "L;"},
	{"#if 0", "L;", "L;", "#endif", "L;"},
	{"#ifdef YES", "#ifdef NO", "L;", "#else", "L;", "#endif", "L;", "#endif", "L;"},
	{"#ifdef NO", "#ifdef YES", "L;", "#endif", "L;", "#endif", "L;", "L;"},
	{"#ifdef YES", "if (a &&", "#else", "if (b &&", "#endif", "    L)", "L;"},
	{"s = \"(/* //\"; L;", "c = '('; L;", "d = '\\''; L;", "L; // it's ( /*"},
	{"// goes on \\", "L (", "L;"},
	{"s = \"goes on \\", " (\"; L;", "L;"},
	{"struct s {", "\tint a;", "};", "L;"},
	{"void f(void)", "{", "\tL;", "}", "", "L;"},
}

// editedBlocks draws a file of blocks and the same file with lines put in and taken
// out anywhere, also inside of comments, macros and calls.
func editedBlocks(t *rapid.T) (old, new []string) {
	for range rapid.IntRange(1, 8).Draw(t, "blocks") {
		old = append(old, rapid.SampledFrom(blocks).Draw(t, "block")...)
	}
	for i, l := range old { // each counted line is told from all others
		old[i] = strings.ReplaceAll(l, "L", fmt.Sprintf("L%d(__LINE__)", i))
	}
	rate := rapid.IntRange(2, 12).Draw(t, "rate")
	var lx lexer
	for _, l := range old {
		if rapid.IntRange(0, rate).Draw(t, "insert") == 0 {
			for range rapid.IntRange(1, 3).Draw(t, "lines") {
				add := "added;"
				switch {
				case lx.comment:
					add = "* added"
				case lx.continued:
					add = " \\"
				case lx.parens > 0:
					add = "added,"
				}
				new = append(new, add)
			}
		}
		lone := !lx.continued && !lx.comment && lx.parens == 0
		lx.line(l + "\n")
		lone = lone && !lx.continued && !lx.comment && lx.parens == 0 && !strings.HasPrefix(l, "#")
		if lone && rapid.IntRange(0, rate).Draw(t, "delete") == 0 {
			continue
		}
		new = append(new, l)
	}
	return old, new
}

// TestUnchangedLinesKeepTheirNumbers asks gcc's preprocessor for the number
// of every line. Only lines between a change and the next safe boundary that
// the preprocessor reads may have another than before.
func TestUnchangedLinesKeepTheirNumbers(t *testing.T) {
	gcc := need.Program(t, "gcc")
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		old, new := editedBlocks(t)
		before, after := strings.Join(old, "\n")+"\n", strings.Join(new, "\n")+"\n"
		kept := string(KeepLines([]byte(before), []byte(after)))
		if !isWith(kept, after) {
			t.Fatalf("something else than directives was added\n--- new\n%s\n--- kept\n%s", after, kept)
		}
		want, got := lineNumbers(t, gcc, before), lineNumbers(t, gcc, kept)
		excused := excusedLines(old, new)
		for id, n := range got {
			if excused[id] {
				continue
			}
			compared++
			if n != want[id] {
				t.Fatalf("line %s has number %d, had %d\n--- old\n%s\n--- kept\n%s", id, n, want[id], before, kept)
			}
		}
	})
	floor := 200 // or the property held of nothing
	if testing.Short() {
		floor = 20 // a fifth of the edits are drawn
	}
	if compared < floor {
		t.Fatalf("only %d lines were compared", compared)
	}
}

// isWith tells whether kept is text with #line directives between its lines.
func isWith(kept, text string) bool {
	var out strings.Builder
	for l := range strings.Lines(kept) {
		if !strings.HasPrefix(l, "#line ") {
			out.WriteString(l)
		}
	}
	return out.String() == text
}

var counted = regexp.MustCompile(`L(\d+)\((\d+|__LINE__)\)`)

// lineNumbers maps the identities of lines to the numbers that gcc gives them.
func lineNumbers(t *rapid.T, gcc, src string) map[string]int {
	cmd := exec.Command(gcc, "-E", "-P", "-w", "-DYES", "-x", "c", "-")
	cmd.Stdin = strings.NewReader(src)
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		t.Fatalf("gcc -E: %v: %s\n%s", err, msg.String(), src)
	}
	m := make(map[string]int)
	for _, f := range counted.FindAllStringSubmatch(out.String(), -1) {
		m[f[1]], _ = strconv.Atoi(f[2])
	}
	return m
}

// excusedLines follows the same text with an evaluation of its conditionals:
// a line is excused from when lines were added or removed before it until the
// first safe boundary in code that the preprocessor reads. The end of a branch
// does as much as a change: directives in it may have been skipped, but count
// as lines.
func excusedLines(old, new []string) map[string]bool {
	excused := make(map[string]bool)
	edits := Compare(old, new)
	var lx lexer
	read := []bool{true} // of the conditionals around
	dirty := false
	for j, l := range new {
		inserted := false
		for _, e := range edits {
			if e.NewTo == j && e.OldTo-e.OldFrom != e.NewTo-e.NewFrom {
				dirty = true
			}
			inserted = inserted || j >= e.NewFrom && j < e.NewTo
		}
		active := !slices.Contains(read, false)
		if lx.safe() && active && !inserted {
			dirty = false
		}
		for _, f := range counted.FindAllStringSubmatch(l, -1) {
			if dirty || inserted {
				excused[f[1]] = true
			}
		}
		if !lx.comment && !lx.continued {
			switch strings.TrimSpace(l) {
			case "#ifdef YES":
				read = append(read, true)
			case "#ifdef NO", "#if 0":
				read = append(read, false)
			case "#else":
				dirty = true
				read[len(read)-1] = !read[len(read)-1]
			case "#endif":
				dirty = true
				read = read[:len(read)-1]
			}
		}
		lx.line(l + "\n")
	}
	return excused
}
