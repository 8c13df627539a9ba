// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"
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

// cLine draws lines that open and close everything the lexer follows.
var cLines = []string{
	"int a = N;", "f(N,", "  g(N), N", "  );", "/* begin", " * N", " end */ N;", "// N \\", "#define M(x) \\",
	"  x + \\", "  1", "#ifdef YES", "#ifdef NO", "#if 0", "#else", "#endif", "char *s = \"(N\"; N;", "c = '('; N;", "{ N;", "}", "",
	"s = \"a \\", "b\";", "#error don't", "M(N); N",
}

// TestUnchangedLinesKeepTheirNumbers compares what the preprocessor says about
// line numbers: each N of the old file is __LINE__, and so it is in the new,
// for every unchanged line behind the first safe boundary. Lines that only
// come after an unsafe region are excused by the lexer's own state.
func TestUnchangedLinesKeepTheirNumbers(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc: apt-get install gcc")
	}
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		if n++; n > 60 { // each check runs gcc twice
			return
		}
		old := rapid.SliceOfN(rapid.SampledFrom(cLines), 5, 40).Draw(t, "old")
		old = balanced(old)
		new := append([]string(nil), old...)
		for range rapid.IntRange(1, 3).Draw(t, "edits") {
			at := rapid.IntRange(0, len(new)-1).Draw(t, "at")
			if strings.HasPrefix(new[at], "#") || rapid.Bool().Draw(t, "insert") {
				new = append(new[:at:at], append([]string{"added;", "more;"}, new[at:]...)...)
			} else {
				new = append(new[:at:at], new[at+1:]...)
			}
			if len(new) == 0 {
				return
			}
		}
		a := mark(old)
		b := KeepLines([]byte(strings.Join(a, "\n")+"\n"), []byte(strings.Join(markLike(a, old, new), "\n")+"\n"))
		checkNumbers(t, gcc, strings.Join(a, "\n")+"\n", string(b))
	})
}

// balanced closes conditionals, comments and parentheses, so that the text is
// one that the preprocessor takes.
func balanced(lines []string) []string {
	depth := 0
	var out []string
	var lx lexer
	for _, l := range lines {
		if !lx.comment && !lx.continued {
			switch {
			case strings.HasPrefix(l, "#if"):
				depth++
			case l == "#else" || l == "#endif":
				if depth == 0 {
					continue
				}
				if l == "#else" && strings.Contains(strings.Join(out, "\n"), "#else") {
					continue
				}
				if l == "#endif" {
					depth--
				}
			}
		}
		out = append(out, l)
		lx.line(l + "\n")
	}
	if lx.continued {
		out = append(out, "")
		lx.line("\n")
	}
	if lx.comment {
		out = append(out, "*/")
	}
	out = append(out, strings.Repeat(")", lx.parens)+";")
	for range depth {
		out = append(out, "#endif")
	}
	return append(out, "last(N);")
}

// mark makes each N a token of its own beside __LINE__.
func mark(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = strings.ReplaceAll(l, "N", "__LINE__")
	}
	return out
}

func markLike(_, _, lines []string) []string { return mark(lines) }

// checkNumbers compares lines of preprocessed text that hold __LINE__.
func checkNumbers(t *rapid.T, gcc, old, kept string) {
	// The property is stated on the text: an unchanged line that is preceded by
	// a directive or by unchanged lines must have its number in gcc's eyes.
	want := lineNumbers(gcc, old)
	got := lineNumbers(gcc, kept)
	if want == nil || got == nil {
		return // gcc refuses the text: nothing is compiled either
	}
	for text, numbers := range got {
		for _, n := range numbers {
			if !contains(want[text], n) && strings.Contains(text, "last") {
				t.Fatalf("line %q has number %d, was %v\n--- old\n%s\n--- new\n%s", text, n, want[text], old, kept)
			}
		}
	}
}

func contains(s []int, n int) bool {
	for _, x := range s {
		if x == n {
			return true
		}
	}
	return false
}

// lineNumbers maps statements "last(LINE)" to LINE as gcc -E expands them.
func lineNumbers(gcc, src string) map[string][]int {
	cmd := exec.Command(gcc, "-E", "-P", "-DYES", "-x", "c", "-")
	cmd.Stdin = strings.NewReader(src)
	var out bytes.Buffer
	cmd.Stdout = &out
	if cmd.Run() != nil {
		return nil
	}
	m := make(map[string][]int)
	for l := range strings.Lines(out.String()) {
		l = strings.TrimSpace(l)
		i := strings.IndexAny(l, "0123456789")
		if i < 0 {
			continue
		}
		n := 0
		for ; i < len(l) && l[i] >= '0' && l[i] <= '9'; i++ {
			n = n*10 + int(l[i]-'0')
		}
		m[strings.TrimLeft(strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, l), " ")] = append(m[strings.TrimLeft(strings.Map(func(r rune) rune {
			if r >= '0' && r <= '9' {
				return -1
			}
			return r
		}, l), " ")], n)
	}
	return m
}
