// SPDX-License-Identifier: Apache-2.0

package update

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
	"github.com/tsugi-project/tsugi/internal/fix"
)

// Delta is two versions of a source and their difference, as fix.Derive
// writes it: no renames.
type Delta struct {
	Old, New fs.FS
	Diff     *fix.Fix
}

// edit is one run of changed lines: [oldFrom, oldTo) become [newFrom, newTo),
// counted from 0. Between the edits of a file its versions are equal.
type edit struct{ oldFrom, oldTo, newFrom, newTo int }

// file is one changed file.
type file struct {
	path             string
	old, new         []string // lines; nil where it does not exist
	oldCode, newCode []string // the same without comments and literals
	created, deleted bool
	edits            []edit
	oldDecls         []decl
	newDecls         []decl
	text             map[string]bool // words of the new text, of the old one when deleted
}

func (f *file) base() string { return path.Base(f.path) }
func (f *file) dir() string  { return path.Dir(f.path) }
func (f *file) header() bool { return path.Ext(f.path) == ".h" }
func (f *file) cSource() bool {
	return path.Ext(f.path) == ".c" || f.header() || path.Ext(f.path) == ".inc"
}
func (f *file) oneWhole() bool { return f.created || f.deleted }

// private tells a directory's own header from those for the whole kernel.
func (f *file) private() bool {
	return !strings.HasPrefix(f.path, "include/") && !strings.Contains(f.path, "/include/asm/")
}

func lines(b []byte) []string { return slices.Collect(strings.Lines(string(b))) }

// load reads the changed files and finds their edits and declarations.
func (d Delta) load() ([]*file, error) {
	out := make([]*file, 0, len(d.Diff.Files))
	for _, x := range d.Diff.Files {
		if x.OldPath != x.Path {
			return nil, fmt.Errorf("%s: the difference of an update names no renames", x.Path)
		}
		f := &file{path: x.Path, created: x.Created, deleted: x.Deleted, edits: editsOf(x)}
		var err error
		if f.old, err = readLines(d.Old, x.Path, x.Created); err != nil {
			return nil, err
		}
		if f.new, err = readLines(d.New, x.Path, x.Deleted); err != nil {
			return nil, err
		}
		if err := f.check(); err != nil {
			return nil, err
		}
		f.oldCode, f.newCode = f.old, f.new
		if f.cSource() {
			f.oldCode, f.newCode = bare(f.old), bare(f.new)
			f.oldDecls, f.newDecls = scan(f.old), scan(f.new)
		}
		f.text = make(map[string]bool)
		for _, l := range f.either() {
			for _, w := range ctext.Words(l) {
				f.text[w] = true
			}
		}
		out = append(out, f)
	}
	return out, nil
}

func readLines(root fs.FS, name string, absent bool) ([]string, error) {
	if absent {
		return nil, nil
	}
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return nil, err
	}
	return lines(b), nil
}

// bare blanks comments and literals.
func bare(text []string) []string {
	out := make([]string, len(text))
	comment := false
	for i, l := range text {
		l, comment = withoutComments(l, comment)
		out[i] = withoutLiterals(l)
	}
	return out
}

// either is the text of the version that exists, the new one by preference.
func (f *file) either() []string {
	if f.new != nil {
		return f.new
	}
	return f.old
}

// check holds the edits against both versions: splitting a difference that is
// not theirs would give fixes that apply and are wrong.
func (f *file) check() error {
	from, to := 0, 0
	for _, e := range append(f.edits[:len(f.edits):len(f.edits)], edit{len(f.old), len(f.old), len(f.new), len(f.new)}) {
		if e.oldFrom > len(f.old) || e.newFrom > len(f.new) || e.oldFrom < from || !slices.Equal(f.old[from:e.oldFrom], f.new[to:e.newFrom]) {
			return errors.New(f.path + ": the difference is not that of the two sources")
		}
		from, to = e.oldTo, e.newTo
		if from > len(f.old) || to > len(f.new) {
			return errors.New(f.path + ": the difference is not that of the two sources")
		}
	}
	return nil
}

func editsOf(d fix.FileDiff) []edit {
	var out []edit
	for _, h := range d.Hunks {
		o, n := start(h.OldStart, h.OldLines), start(h.NewStart, h.NewLines)
		open := false
		for _, l := range h.Lines {
			if l.Op == ' ' {
				o, n, open = o+1, n+1, false
				continue
			}
			if !open {
				out, open = append(out, edit{o, o, n, n}), true
			}
			e := &out[len(out)-1]
			if l.Op == '-' {
				o++
			} else {
				n++
			}
			e.oldTo, e.newTo = o, n
		}
	}
	return out
}

// start is the first line of a hunk from 0: an empty side names the line
// before it.
func start(line, count int) int {
	if count == 0 {
		return line
	}
	return line - 1
}

// overlaps tells whether an edit changes lines [from, to) of one side.
func overlaps(editFrom, editTo, from, to int) bool { return editFrom < to && editTo > from }
