// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Change is what a fix makes of one file.
type Change struct {
	Path     string
	Old, New []byte   // Old is nil when Created, New when Deleted
	Created  bool     // the file was not there before
	Deleted  bool     // the file is gone afterwards
	Notes    []string // hunks that were found elsewhere or with less context
}

// maxFuzz is how many lines of context at each end a hunk may lose, as in
// patch(1) by default.
const maxFuzz = 2

// Apply computes the files after the fix. read returns the file as it is now
// and an error that is fs.ErrNotExist when it is not there. A renamed file
// yields two changes. Nothing is returned unless every hunk applies.
//
// Errors: TS1103 names each hunk that fits nowhere, TS1104 that the whole fix
// is there already, TS1105 a file that is missing or should not be there.
func (f *Fix) Apply(read func(path string) ([]byte, error)) ([]Change, error) {
	var changes []Change
	var problems []error
	applied := 0 // files that hold the fix already
	for _, d := range f.Files {
		cs, err := d.apply(f.name(), read)
		if err != nil {
			if code.Of(err) == "" {
				return nil, err
			}
			if code.Of(err) == "TS1104" {
				applied++
			}
			problems = append(problems, err)
		}
		changes = append(changes, cs...)
	}
	switch {
	case len(problems) == 0:
		return changes, nil
	case applied == len(f.Files):
		return nil, code.New("TS1104", f.name(), fmt.Sprintf("%d of %d files have it", applied, len(f.Files)))
	case len(problems) == 1:
		return nil, problems[0]
	}
	// One problem that names the first place in full and all others shortly.
	first, _ := errors.AsType[*code.Problem](problems[0])
	p := *first
	var rest []string
	for _, e := range problems[1:] {
		if q, ok := errors.AsType[*code.Problem](e); ok {
			rest = append(rest, q.Where)
		}
	}
	if len(rest) > 10 {
		rest = append(rest[:10], fmt.Sprintf("%d more", len(rest)-10))
	}
	p.Why += "; neither: " + strings.Join(rest, ", ")
	p.Err = errors.Join(problems...)
	return nil, &p
}

func (f *Fix) name() string {
	if f.ID == "" {
		return "the fix"
	}
	return f.ID
}

func (d *FileDiff) apply(fixName string, read func(string) ([]byte, error)) ([]Change, error) {
	if d.Created {
		return d.create(read)
	}
	old, err := read(d.OldPath)
	if errors.Is(err, fs.ErrNotExist) {
		if d.Deleted {
			return nil, code.New("TS1104", d.Path, "the file is gone already")
		}
		return nil, code.New("TS1105", d.OldPath, "the file is not there")
	}
	if err != nil {
		return nil, err
	}
	lines, notes, err := d.patch(fixName, splitLines(old))
	if err != nil {
		return nil, err
	}
	if d.Deleted {
		if len(lines) > 0 {
			return nil, code.New("TS1105", d.Path, fmt.Sprintf("%d lines would be left of a file that the fix deletes", len(lines)))
		}
		return []Change{{Path: d.Path, Old: old, Deleted: true, Notes: notes}}, nil
	}
	new := []byte(strings.Join(lines, ""))
	if d.OldPath == d.Path {
		return []Change{{Path: d.Path, Old: old, New: new, Notes: notes}}, nil
	}
	if _, err := read(d.Path); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return nil, err
		}
		return nil, code.New("TS1105", d.Path, "the new name of "+d.OldPath+" is there already")
	}
	created := Change{Path: d.Path, New: new, Created: true, Notes: notes}
	if d.Copied {
		return []Change{created}, nil
	}
	return []Change{{Path: d.OldPath, Old: old, Deleted: true}, created}, nil
}

func (d *FileDiff) create(read func(string) ([]byte, error)) ([]Change, error) {
	var text strings.Builder
	for _, h := range d.Hunks {
		for _, l := range h.Lines {
			text.WriteString(l.Text)
		}
	}
	new := []byte(text.String())
	have, err := read(d.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []Change{{Path: d.Path, New: new, Created: true}}, nil
	case err != nil:
		return nil, err
	case string(have) == text.String():
		return nil, code.New("TS1104", d.Path, "the file is there already")
	}
	return nil, code.New("TS1105", d.Path, "the fix creates a file that is there already, with other contents")
}

// patch applies the hunks of one file in their order.
func (d *FileDiff) patch(fixName string, lines []string) (out, notes []string, err error) {
	pos, offset := 0, 0 // first line not yet consumed; where the last hunk was, less where it said
	var failed []string
	reversed := 0
	for i, h := range d.Hunks {
		old, new := h.sides()
		want := h.OldStart - 1
		if h.OldLines == 0 {
			want = h.OldStart
		}
		at, fuzz, others := find(lines, pos, want+offset, h)
		if at < 0 {
			if locate(lines, pos, want+offset, new) >= 0 && len(new) > 0 {
				reversed++
			}
			failed = append(failed, fmt.Sprintf("hunk %d (line %d of %s, for line %d)", i+1, h.Line, fixName, h.OldStart))
			continue
		}
		lead, trail := h.trim(fuzz)
		old, new = old[lead:len(old)-trail], new[lead:len(new)-trail]
		out = append(append(out, lines[pos:at+lead]...), new...)
		pos = at + lead + len(old)
		if moved := at - want; moved != 0 || fuzz > 0 {
			note := fmt.Sprintf("%s: hunk %d applied at line %d, %+d lines from where it says", d.Path, i+1, at+1, moved)
			if fuzz > 0 {
				note += fmt.Sprintf(", with %d lines less context", fuzz)
			}
			if others > 0 {
				note += fmt.Sprintf("; it fits %d other places too", others)
			}
			notes = append(notes, note)
		}
		offset = at - want
	}
	switch {
	case len(failed) == 0:
		return append(out, lines[pos:]...), notes, nil
	case reversed == len(d.Hunks):
		return nil, nil, code.New("TS1104", d.Path, "all of its hunks are there")
	}
	why := "its lines are not there, even with less context"
	if reversed > 0 {
		why = fmt.Sprintf("%d of them are applied already", reversed)
	}
	return nil, nil, code.New("TS1103", d.Path+": "+strings.Join(failed, ", "), why)
}

func (h *Hunk) sides() (old, new []string) {
	for _, l := range h.Lines {
		if l.Op != '+' {
			old = append(old, l.Text)
		}
		if l.Op != '-' {
			new = append(new, l.Text)
		}
	}
	return old, new
}

// trim tells how many context lines fuzz takes away at each end. As in
// patch(1), the longer side of an uneven context is shortened first.
func (h *Hunk) trim(fuzz int) (lead, trail int) {
	prefix, suffix := 0, 0
	for prefix < len(h.Lines) && h.Lines[prefix].Op == ' ' {
		prefix++
	}
	for suffix < len(h.Lines)-prefix && h.Lines[len(h.Lines)-1-suffix].Op == ' ' {
		suffix++
	}
	longest := max(prefix, suffix)
	fuzz = max(0, min(fuzz, longest-1)) // one line of context stays, where there is any
	return max(0, fuzz+prefix-longest), max(0, fuzz+suffix-longest)
}

// find looks for the old side of a hunk, first in full at its own place, then
// at the nearest other, then with less context. It returns the line where the
// whole hunk would begin, or -1, and how many other places fit as well.
func find(lines []string, from, want int, h Hunk) (at, fuzz, others int) {
	old, _ := h.sides()
	lastLead, lastTrail := -1, -1
	for fuzz := range maxFuzz + 1 {
		lead, trail := h.trim(fuzz)
		if lead == lastLead && trail == lastTrail {
			continue
		}
		lastLead, lastTrail = lead, trail
		part := old[lead : len(old)-trail]
		if len(part) == 0 { // an insertion without context fits only where it says
			if want >= from && want <= len(lines) {
				return want, 0, 0
			}
			return -1, 0, 0
		}
		if at := locate(lines, from, want+lead, part); at >= 0 {
			return at - lead, fuzz, count(lines, from, part) - 1
		}
	}
	return -1, 0, 0
}

// locate finds lines as near as possible to want, looking down first.
func locate(lines []string, from, want int, part []string) int {
	last := len(lines) - len(part)
	if last < from {
		return -1
	}
	want = min(max(want, from), last)
	for d := 0; want+d <= last || want-d >= from; d++ {
		if p := want + d; p >= from && p <= last && slices.Equal(lines[p:p+len(part)], part) {
			return p
		}
		if p := want - d; p >= from && p <= last && slices.Equal(lines[p:p+len(part)], part) {
			return p
		}
	}
	return -1
}

func count(lines []string, from int, part []string) int {
	n := 0
	for p := from; p+len(part) <= len(lines); p++ {
		if slices.Equal(lines[p:p+len(part)], part) {
			n++
		}
	}
	return n
}
