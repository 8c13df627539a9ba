// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// drift reports functions that change although the fix edits no line of
// theirs: something that they inline was edited, or the compiler decided
// anew. Both are carried correctly; the first is worth knowing, the second
// worth a look. Where only headers were edited nothing can be told.
func (b *build) drift(o kbuild.Object, d *objdiff.Result) []Refusal {
	edited := b.editedLines(o.Source)
	if len(edited) == 0 {
		return nil
	}
	text, err := b.source(o.Source)
	if err != nil {
		return nil
	}
	lines := strings.Split(string(text), "\n")
	var out []Refusal
	for _, f := range d.Changed {
		name, _, _ := strings.Cut(f.Name, ".")
		first := definition(string(text), name)
		if first == 0 || f.StandIn {
			continue
		}
		last := bodyEnd(lines, first)
		touched := false
		for _, n := range edited {
			touched = touched || n >= first && n <= last
		}
		if !touched {
			out = append(out, b.place(code.New("TS8010", f.Name, f.Why), o))
		}
	}
	return out
}

// editedLines lists the lines, from 1, that the fix adds to a file, and where
// it takes lines away.
func (b *build) editedLines(file string) []int {
	var out []int
	for _, f := range b.fix.Files {
		if f.Path != file {
			continue
		}
		for _, h := range f.Hunks {
			n := max(h.NewStart, 1)
			for _, l := range h.Lines {
				if l.Op != ' ' {
					out = append(out, n)
				}
				if l.Op != '-' {
					n++
				}
			}
		}
	}
	return out
}

// bodyEnd is the line, from 1, of the brace in the first column that ends a
// definition, as kernel style has it.
func bodyEnd(lines []string, first int) int {
	for i := first - 1; i < len(lines); i++ {
		if strings.HasPrefix(lines[i], "}") {
			return i + 1
		}
	}
	return len(lines)
}
