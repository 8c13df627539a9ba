// SPDX-License-Identifier: Apache-2.0

package cumulative

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/series"
)

// text is the source as fixes leave it, one after the other, and remembers
// which fix brought a line.
type text struct {
	*original
	files map[string][]version
}

// original is the source that the fixes are for.
type original struct {
	read func(path string) ([]byte, error) // a file as nothing has changed it
	// relevant is the part of a fix that can matter there. Refusals are its errors.
	relevant func(*fix.Fix) (*fix.Fix, error)
}

// ofKernel is the source of a kernel.
func ofKernel(t *kernel.Target) *original {
	return &original{
		read: func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(t.Source, path)) },
		relevant: func(f *fix.Fix) (*fix.Fix, error) {
			part, _, err := kbuild.Relevant(t, f)
			return part, err
		},
	}
}

// version is a file as one fix left it; its text is nil when the file is gone.
type version struct {
	by   string
	text []byte
}

func newText(o *original) *text { return &text{original: o, files: map[string][]version{}} }

// read returns a file as it is now.
func (t *text) read(path string) ([]byte, error) {
	vs := t.files[path]
	if len(vs) == 0 {
		return t.original.read(path)
	}
	if now := vs[len(vs)-1].text; now != nil {
		return now, nil
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
}

// before returns a file as it was when a fix came, or as it is now.
func (t *text) before(path, id string) ([]byte, error) {
	vs := t.files[path]
	i := slices.IndexFunc(vs, func(v version) bool { return v.by == id })
	if i < 0 {
		return t.read(path)
	}
	earlier := text{original: t.original, files: map[string][]version{path: vs[:i]}}
	return earlier.read(path)
}

// apply puts a fix on top, or leaves everything as it was.
func (t *text) apply(f *series.Fix) error {
	part, err := t.relevant(f.Diff)
	if err != nil || len(part.Files) == 0 {
		return err
	}
	changes, err := part.Apply(t.read)
	if err != nil {
		return err
	}
	for _, c := range changes {
		now := c.New
		if now == nil && !c.Deleted {
			now = []byte{}
		}
		t.files[c.Path] = append(t.files[c.Path], version{f.ID, now})
	}
	return nil
}

// does tells whether a fix could be put on top.
func (t *text) does(f *series.Fix) bool {
	part, err := t.relevant(f.Diff)
	if err != nil {
		return false
	}
	if len(part.Files) > 0 {
		_, err = part.Apply(t.read)
	}
	return err == nil
}

// owners lists the fixes that changed a file, in their order.
func (t *text) owners(path string) []string {
	var out []string
	for _, v := range t.files[path] {
		out = append(out, v.by)
	}
	return out
}

// owner is the fix that brought a line, from 1, of a file as it is now; "" when
// the line was there before.
func (t *text) owner(path string, line int) string {
	by, _ := t.blame(path)
	if line < 1 || line > len(by) {
		return ""
	}
	return by[line-1]
}

// within lists the fixes that brought lines between two, or took some away
// there, in the order in which they changed the file.
func (t *text) within(path string, first, last int) []string {
	by, cuts := t.blame(path)
	found := map[string]bool{}
	for n := max(first, 1); n <= min(last, len(by)); n++ {
		found[by[n-1]] = true
		for _, id := range cuts[n] {
			found[id] = true
		}
	}
	return slices.DeleteFunc(t.owners(path), func(id string) bool { return !found[id] })
}

// blame goes through the versions of a file. It returns who brought each line,
// and who took lines away in front of it, counted from 1.
func (t *text) blame(path string) (by []string, cuts map[int][]string) {
	before, err := t.original.read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	by, cuts = make([]string, lines(before)), map[int][]string{}
	for _, v := range t.files[path] {
		by, cuts = follow(by, cuts, fix.Unified(path, before, v.text), v.by)
		before = v.text
	}
	return by, cuts
}

// follow carries what is known of lines over one diff.
func follow(by []string, cuts map[int][]string, diff []byte, id string) ([]string, map[int][]string) {
	if len(diff) == 0 {
		return by, cuts
	}
	f, err := fix.Parse(id, diff)
	if err != nil {
		return by, cuts
	}
	var out []string
	moved := map[int][]string{}
	old := 1 // next line of the text before
	keep := func(until int) {
		for ; old < until && old <= len(by); old++ {
			moved[len(out)+1] = append(moved[len(out)+1], cuts[old]...)
			out = append(out, by[old-1])
		}
	}
	for _, d := range f.Files {
		for _, h := range d.Hunks {
			start := h.OldStart
			if h.OldLines == 0 {
				start++ // an empty range names the line before it
			}
			keep(start)
			for _, l := range h.Lines {
				switch l.Op {
				case '+':
					out = append(out, id)
				case '-':
					moved[len(out)+1] = append(append(moved[len(out)+1], cuts[old]...), id)
					old++
				default:
					keep(old + 1)
				}
			}
		}
	}
	keep(len(by) + 1)
	return out, moved
}

func lines(b []byte) int {
	n := 0
	for i, c := range b {
		if c == '\n' || i == len(b)-1 {
			n++
		}
	}
	return n
}

var word = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)

// words lists the identifiers in the lines that a fix brings ('+') or takes
// away ('-').
func words(f *series.Fix, op byte) map[string]bool {
	out := map[string]bool{}
	for _, d := range f.Diff.Files {
		for _, h := range d.Hunks {
			for _, l := range h.Lines {
				if l.Op == op {
					for _, w := range word.FindAllString(l.Text, -1) {
						out[w] = true
					}
				}
			}
		}
	}
	return out
}

// textual tells whether an error means that a fix does not fit the text.
func textual(err error) bool {
	switch code.Of(err) {
	case "TS1103", "TS1104", "TS1105":
		return true
	}
	return false
}
