// SPDX-License-Identifier: Apache-2.0

package series

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// Names finds the fix of a series that brings what a compiler misses without
// it: a function, a member, a file, a type that changed.
type Names struct {
	byName map[string][]mention
	byFile map[string][]*Fix
	order  []*Fix
}

// Missed is what a compiler missed, and where.
type Missed struct {
	Name string // "" when its message tells none
	In   string // of a member: its struct, "struct sk_buff"
	File string // that does not compile
}

// mention is a fix whose lines hold a name.
type mention struct {
	fix   *Fix
	score int // how much it looks as if the fix brought the name, or changed it
}

// How a name is mentioned: what scores declares and more brings it by the looks
// of it, and does not only use it.
const (
	uses      = 1
	declares  = 6   // as a member, or as a variable
	defines   = 10  // added to where it stands
	inHeader  = 20  // whatever it is there
	baseName  = 50  // of a new file
	wholeName = 100 // of a new file, as an #include has it
)

// NewNames reads all lines of a series once.
func NewNames(fixes []*Fix) *Names {
	n := &Names{byName: map[string][]mention{}, byFile: map[string][]*Fix{}, order: fixes}
	word := nameForm()
	for _, f := range fixes {
		found := map[string]int{}
		for _, d := range f.Diff.Files {
			n.byFile[d.Path] = append(n.byFile[d.Path], f)
			if d.Created {
				found[strings.TrimPrefix(d.Path, "include/")] = wholeName
				found[path.Base(d.Path)] = baseName
			}
			header := path.Ext(d.Path) == ".h"
			for _, h := range d.Hunks {
				for _, l := range h.Lines {
					if l.Op != ' ' {
						scoreLine(word, found, l.Text, header)
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

func nameForm() *regexp.Regexp { return regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`) }

// scoreLine notes the names of an added or removed line: those of a header
// before others, and those that stand where something is defined or declared
// (in the first column, or as a member) before those that are only used.
func scoreLine(word *regexp.Regexp, found map[string]int, line string, header bool) {
	line = strings.TrimRight(line, "\n")
	base := uses
	if header {
		base = inHeader
	}
	for _, at := range word.FindAllStringIndex(line, -1) {
		score := base
		before, after := line[:at[0]], strings.TrimLeft(line[at[1]:], " \t")
		ends := after != "" && strings.ContainsRune(";,[{", rune(after[0]))
		switch {
		case strings.HasPrefix(strings.TrimSpace(before), "#define"), strings.HasPrefix(after, "(") && before != "" && line[0] != ' ' && line[0] != '\t':
			score += defines
		case header && ends:
			score += defines
		case ends && strings.TrimSpace(before) != "" && strings.Trim(before, " \t*") != "return" && !strings.ContainsAny(before, "=(.>\"&|+-/?:!,"):
			score = declares // "type name;"
		}
		w := line[at[0]:at[1]]
		found[w] = max(found[w], score)
	}
}

// Brings finds the fix that most likely brings what was missed, among those
// that are not to be skipped. It is sure when the fix declares or defines it,
// and not when it only uses it, or just changes the file that does not compile.
func (n *Names) Brings(m Missed, skip func(*Fix) bool) (f *Fix, sure bool) {
	if m.Name != "" {
		if f, score := n.named(m, skip); f != nil {
			return f, score >= declares
		}
	}
	// "struct sk_buff": where a member is missing, its struct may be new.
	if _, tag, ok := strings.Cut(m.In, " "); ok {
		if f, score := n.named(Missed{Name: tag, File: m.File}, skip); f != nil {
			return f, score >= declares
		}
	}
	// What fails is a file that the fixes do not touch themselves: they changed
	// what it uses, and it has to change with them.
	for _, f := range n.byFile[m.File] {
		if !skip(f) {
			return f, false
		}
	}
	return nil, false
}

// Typed finds the fix whose headers change most of what a message mentions: "…
// from incompatible pointer type 'int (*)(struct sk_buff *, bool)'" tells no
// name, but the types of the member that changed.
func (n *Names) Typed(message, file string, skip func(*Fix) bool) *Fix {
	points := map[*Fix]int{}
	seen := map[string]bool{}
	quoted, word := regexp.MustCompile(`['‘][^'’]+['’]`), nameForm()
	for _, q := range quoted.FindAllString(message, -1) {
		for _, w := range word.FindAllString(q, -1) {
			if seen[w] {
				continue
			}
			seen[w] = true
			for _, c := range n.byName[w] {
				if c.score >= inHeader && !skip(c.fix) {
					points[c.fix]++
				}
			}
		}
	}
	var best *Fix
	most := 0
	for _, f := range n.order {
		if p := points[f]; p > 0 && p*10+nearness(file, f) > most {
			best, most = f, p*10+nearness(file, f)
		}
	}
	return best
}

func (n *Names) named(m Missed, skip func(*Fix) bool) (*Fix, int) {
	var best mention
	most := 0
	for _, c := range n.byName[m.Name] {
		if skip(c.fix) {
			continue
		}
		if score := c.score*10 + nearness(m.File, c.fix); score > most {
			best, most = c, score
		}
	}
	return best.fix, best.score
}

// nearness counts the directories that a file has in common with a fix; what
// lies below include/ is near to everything.
func nearness(file string, f *Fix) int {
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

// Among makes a skip of a list of fixes.
func Among(fixes []*Fix) func(*Fix) bool {
	return func(f *Fix) bool { return slices.Contains(fixes, f) }
}
