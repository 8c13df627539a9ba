// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/series"
)

// names finds the fixes that change something about a name, and those that
// change a file.
type names struct {
	byName map[string][]mention
	byFile map[string][]*series.Fix
	order  []*series.Fix
}

// mention is a fix whose lines hold a name.
type mention struct {
	fix   *series.Fix
	score int // how much it looks as if the fix brought the name, or changed it
}

var (
	word   = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)
	quoted = regexp.MustCompile(`['‘][^'’]+['’]`)
)

// inHeader is the least score of a name that a header changes.
const inHeader = 20

func newNames(s *series.Series) *names {
	n := &names{byName: map[string][]mention{}, byFile: map[string][]*series.Fix{}, order: s.Fixes}
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
		base = inHeader
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
func (n *names) provider(m kbuild.Missed, fixes []*series.Fix) (*series.Fix, bool) {
	if m.Name != "" {
		if f := n.named(m, fixes); f != nil {
			return f, true
		}
	}
	// "struct sk_buff": where a member is missing, its struct may be new.
	if _, tag, ok := strings.Cut(m.In, " "); ok {
		if f := n.named(kbuild.Missed{Name: tag, File: m.File}, fixes); f != nil {
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

// typed finds the fix whose headers change most of what a message mentions: "…
// from incompatible pointer type 'int (*)(struct sk_buff *, bool)'" tells no
// name, but the types of the member that changed.
func (n *names) typed(message, file string, fixes []*series.Fix) *series.Fix {
	points := map[*series.Fix]int{}
	seen := map[string]bool{}
	for _, q := range quoted.FindAllString(message, -1) {
		for _, w := range word.FindAllString(q, -1) {
			if seen[w] {
				continue
			}
			seen[w] = true
			for _, c := range n.byName[w] {
				if c.score >= inHeader && !slices.Contains(fixes, c.fix) {
					points[c.fix]++
				}
			}
		}
	}
	var best *series.Fix
	most := 0
	for _, f := range n.order {
		if p := points[f]; p > 0 && p*10+nearness(file, f) > most {
			best, most = f, p*10+nearness(file, f)
		}
	}
	return best
}

func (n *names) named(m kbuild.Missed, fixes []*series.Fix) *series.Fix {
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
