// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/series"
)

// missing is what a compiler did not find, or found to be otherwise than the
// fix thinks.
type missing struct {
	File string // where it was missed
	Name string // of a function, a member, a type or a header; "" when no message tells
}

var (
	messageForm = regexp.MustCompile(`(?m)^([A-Za-z0-9_./-]+):\d+:(?:\d+:)? (?:fatal )?error: (.*)$`)
	headerForm  = regexp.MustCompile(`^([A-Za-z0-9_./-]+): No such file or directory`)
	// The name that a message is about is the last thing in quotes, members
	// ("'struct a' has no member named 'b'") among it, without what gcc suggests.
	quoted  = regexp.MustCompile(`['‘]([^'’]+)['’]`)
	nameEnd = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_]*)\W*$`)
)

// parseMissing reads gcc's messages.
func parseMissing(why string) []missing {
	var out []missing
	for _, m := range messageForm.FindAllStringSubmatch(why, -1) {
		file, text := m[1], m[2]
		if h := headerForm.FindStringSubmatch(text); h != nil {
			out = append(out, missing{file, h[1]})
			continue
		}
		text, _, _ = strings.Cut(text, "; did you mean")
		text, _, _ = strings.Cut(text, "[-W")
		names := quoted.FindAllStringSubmatch(text, -1)
		name := ""
		if len(names) > 0 {
			q := names[len(names)-1][1]
			if strings.Contains(text, "follows non-static") || strings.Contains(text, "from incompatible") ||
				strings.Contains(text, "makes pointer from") || strings.Contains(text, "makes integer from") {
				q = names[0][1]
			}
			if n := nameEnd.FindStringSubmatch(q); n != nil {
				name = n[1]
			}
		}
		out = append(out, missing{file, name})
	}
	// A name is more telling than that something is wrong in a file.
	slices.SortStableFunc(out, func(a, b missing) int {
		if (a.Name == "") != (b.Name == "") {
			if a.Name == "" {
				return 1
			}
			return -1
		}
		return 0
	})
	return slices.Compact(out)
}

// names finds the fixes that change something about a name, and those that
// change a file.
type names struct {
	byName map[string][]mention
	byFile map[string][]*series.Fix
}

// mention is a fix whose lines hold a name.
type mention struct {
	fix   *series.Fix
	score int // how much it looks as if the fix brought the name, or changed it
}

var word = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)

func newNames(s *series.Series) *names {
	n := &names{byName: map[string][]mention{}, byFile: map[string][]*series.Fix{}}
	for _, f := range s.Fixes {
		found := map[string]int{}
		for _, d := range f.Diff.Files {
			n.byFile[d.Path] = append(n.byFile[d.Path], f)
			if d.Created {
				found[strings.TrimPrefix(d.Path, "include/")] = 100
				found[path.Base(d.Path)] = 50
			}
			header := path.Ext(d.Path) == ".h"
			for _, h := range d.Hunks {
				for _, l := range h.Lines {
					if l.Op != ' ' {
						scoreLine(found, l.Text, header)
					}
				}
			}
		}
		for w, score := range found {
			n.byName[w] = append(n.byName[w], mention{f, score})
		}
	}
	return n
}

// scoreLine notes the names of an added or removed line: those of a header
// before others, and those that stand where something is defined or declared
// (in the first column, or as a member) before those that are only used.
func scoreLine(found map[string]int, line string, header bool) {
	line = strings.TrimRight(line, "\n")
	base := 1
	if header {
		base = 20
	}
	for _, at := range word.FindAllStringIndex(line, -1) {
		score := base
		before, after := line[:at[0]], strings.TrimLeft(line[at[1]:], " \t")
		switch {
		case strings.HasPrefix(strings.TrimSpace(before), "#define"), strings.HasPrefix(after, "(") && before != "" && !isSpace(line[0]):
			score += 10
		case header && (strings.HasPrefix(after, ";") || strings.HasPrefix(after, ",") || strings.HasPrefix(after, "[") || strings.HasPrefix(after, "{")):
			score += 10
		}
		w := line[at[0]:at[1]]
		found[w] = max(found[w], score)
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// provider finds the fix that most likely brings what was missed, among those
// that are not taken already.
func (n *names) provider(m missing, fixes []*series.Fix) (*series.Fix, bool) {
	if m.Name != "" {
		if f := n.named(m, fixes); f != nil {
			return f, true
		}
	}
	// What fails is a file that the fixes do not touch themselves: they changed
	// what it uses, and it has to change with them.
	for _, f := range n.byFile[m.File] {
		if !slices.Contains(fixes, f) {
			return f, true
		}
	}
	return nil, false
}

func (n *names) named(m missing, fixes []*series.Fix) *series.Fix {
	var best *series.Fix
	most := 0
	for _, c := range n.byName[m.Name] {
		if slices.Contains(fixes, c.fix) {
			continue
		}
		if score := c.score*10 + nearness(m.File, c.fix); score > most {
			best, most = c.fix, score
		}
	}
	return best
}

// nearness counts the directories that a file has in common with a fix; what
// lies below include/ is near to everything.
func nearness(file string, f *series.Fix) int {
	best := 0
	for _, d := range f.Diff.Files {
		n := 0
		if strings.HasPrefix(d.Path, "include/") {
			n = 1
		}
		a, b := strings.Split(path.Dir(file), "/"), strings.Split(path.Dir(d.Path), "/")
		for i := 0; i < min(len(a), len(b)) && a[i] == b[i]; i++ {
			n = max(n, 2*(i+1))
		}
		best = max(best, n)
	}
	return best
}
