// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// context is the number of equal lines around a change.
const context = 3

// Derive returns the difference between two source trees as a git-style diff
// that Parse reads, sorted by path. paths limits it to files and directories;
// nil means all. Files that only one tree has are created or deleted. Files
// that hold a zero byte are left out, as are symbolic links and modes. Two
// equal trees give an empty diff.
func Derive(oldRoot, newRoot fs.FS, paths []string) ([]byte, error) {
	names, err := differing(oldRoot, newRoot, paths)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, name := range names {
		old, err := readIfThere(oldRoot, name)
		if err != nil {
			return nil, err
		}
		new, err := readIfThere(newRoot, name)
		if err != nil {
			return nil, err
		}
		out.Write(Unified(name, old, new))
	}
	return out.Bytes(), nil
}

// Unified is the diff of one file in git's style; nil contents mean that the
// file is not there, and nothing is returned for equal or binary files.
func Unified(name string, old, new []byte) []byte {
	if bytes.Equal(old, new) && (old == nil) == (new == nil) || bytes.IndexByte(old, 0) >= 0 || bytes.IndexByte(new, 0) >= 0 {
		return nil
	}
	var out bytes.Buffer
	oldName, newName := "a/"+name, "b/"+name
	fmt.Fprintf(&out, "diff --git %s %s\n", oldName, newName)
	switch {
	case old == nil:
		out.WriteString("new file mode 100644\n")
		oldName = "/dev/null"
	case new == nil:
		out.WriteString("deleted file mode 100644\n")
		newName = "/dev/null"
	}
	a, b := splitLines(old), splitLines(new)
	edits := Compare(a, b)
	if len(edits) == 0 { // an empty file comes or goes
		return out.Bytes()
	}
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", oldName, newName)
	for len(edits) > 0 {
		n := 1
		for n < len(edits) && edits[n].OldFrom-edits[n-1].OldTo <= 2*context {
			n++
		}
		writeHunk(&out, a, b, edits[:n])
		edits = edits[n:]
	}
	return out.Bytes()
}

func writeHunk(out *bytes.Buffer, a, b []string, edits []Edit) {
	first, last := edits[0], edits[len(edits)-1]
	lead := min(context, first.OldFrom)
	trail := min(context, len(a)-last.OldTo)
	from, to := first.OldFrom-lead, last.OldTo+trail
	newFrom, newTo := first.NewFrom-lead, last.NewTo+trail
	fmt.Fprintf(out, "@@ -%s +%s @@%s\n", span(from, to), span(newFrom, newTo), function(a, from))
	pos := from
	for _, e := range edits {
		put(out, ' ', a[pos:e.OldFrom])
		put(out, '-', a[e.OldFrom:e.OldTo])
		put(out, '+', b[e.NewFrom:e.NewTo])
		pos = e.OldTo
	}
	put(out, ' ', a[pos:to])
}

func put(out *bytes.Buffer, op byte, lines []string) {
	for _, l := range lines {
		out.WriteByte(op)
		out.WriteString(l)
		if !strings.HasSuffix(l, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// span writes lines [from, to) as diff does: an empty range names the line
// before it, and a count of 1 is left out.
func span(from, to int) string {
	switch n := to - from; n {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return fmt.Sprint(from + 1)
	default:
		return fmt.Sprintf("%d,%d", from+1, n)
	}
}

// function is the heading behind the second @@: the last line above the hunk
// that begins with a letter, _ or $, as git's default (xdl_emit.c).
func function(lines []string, before int) string {
	for i := before - 1; i >= 0; i-- {
		c := lines[i][0]
		if c == '_' || c == '$' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return " " + strings.TrimRight(lines[i][:min(len(lines[i]), 80)], " \t\r\n")
		}
	}
	return ""
}

// differing lists the regular files below paths that the trees do not share
// byte by byte.
func differing(oldRoot, newRoot fs.FS, paths []string) ([]string, error) {
	if len(paths) == 0 {
		paths = []string{"."}
	}
	files := make(map[string]bool)
	for _, p := range paths {
		p = path.Clean(p)
		if !fs.ValidPath(p) {
			return nil, fmt.Errorf("path %q: %w", p, fs.ErrInvalid)
		}
		for _, root := range []fs.FS{oldRoot, newRoot} {
			err := fs.WalkDir(root, p, func(name string, d fs.DirEntry, err error) error {
				if err != nil {
					if name == p && errors.Is(err, fs.ErrNotExist) {
						return nil
					}
					return err
				}
				if d.Type().IsRegular() {
					files[name] = true
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
	}
	var names []string
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for name := range files {
		g.Go(func() error {
			same, err := sameFile(oldRoot, newRoot, name)
			if err == nil && !same {
				mu.Lock()
				names = append(names, name)
				mu.Unlock()
			}
			return err
		})
	}
	err := g.Wait()
	slices.Sort(names)
	return names, err
}

func sameFile(oldRoot, newRoot fs.FS, name string) (bool, error) {
	a, errA := fs.Stat(oldRoot, name)
	b, errB := fs.Stat(newRoot, name)
	for _, err := range []error{errA, errB} {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	if a.Size() != b.Size() {
		return false, nil
	}
	x, err := fs.ReadFile(oldRoot, name)
	if err != nil {
		return false, err
	}
	y, err := fs.ReadFile(newRoot, name)
	return bytes.Equal(x, y), err
}

func readIfThere(root fs.FS, name string) ([]byte, error) {
	b, err := fs.ReadFile(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if b == nil && err == nil {
		b = []byte{}
	}
	return b, err
}
