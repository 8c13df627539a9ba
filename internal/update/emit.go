// SPDX-License-Identifier: Apache-2.0

package update

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// context is how many equal lines stand around a change.
const context = 3

// diff writes what a group changes in one file, in git's style. The lines of
// context are lines that no other group changes, and each hunk's old side is
// in one place of the file only, so that the groups of a file apply in any
// choice of them.
func (p Piece) diff() []byte {
	f := p.file
	var out bytes.Buffer
	oldName, newName := "a/"+f.path, "b/"+f.path
	fmt.Fprintf(&out, "diff --git %s %s\n", oldName, newName)
	switch {
	case f.created:
		out.WriteString("new file mode 100644\n")
		oldName = "/dev/null"
	case f.deleted:
		out.WriteString("deleted file mode 100644\n")
		newName = "/dev/null"
	}
	if len(f.edits) == 0 {
		return out.Bytes()
	}
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", oldName, newName)
	shift := 0 // of the new side, by this group's own edits
	for _, h := range p.hunks() {
		h.write(&out, f, shift)
		shift += h.grows(f)
	}
	return out.Bytes()
}

// hunk is edits of one group and the lines of the old side around them.
type hunk struct {
	edits    []int
	from, to int // of the old side
}

func (h hunk) grows(f *file) int {
	n := 0
	for _, i := range h.edits {
		e := f.edits[i]
		n += (e.newTo - e.newFrom) - (e.oldTo - e.oldFrom)
	}
	return n
}

// hunks gives each run of edits its context, and joins those that touch.
func (p Piece) hunks() []hunk {
	var out []hunk
	for _, i := range p.edits {
		h := p.surround(hunk{edits: []int{i}, from: p.file.edits[i].oldFrom, to: p.file.edits[i].oldTo})
		// Where another group inserts between two, their contexts may meet.
		if n := len(out); n > 0 && out[n-1].to >= h.from && out[n-1].edits[len(out[n-1].edits)-1] == i-1 {
			out[n-1].edits = append(out[n-1].edits, i)
			out[n-1].to = max(out[n-1].to, h.to)
		} else {
			out = append(out, h)
		}
	}
	return out
}

// surround widens a hunk to its context, and further until its old side is
// unique, as far as lines go that no other edit changes.
func (p Piece) surround(h hunk) hunk {
	low, high := p.bounds(h.edits[0])
	e := p.file.edits[h.edits[0]]
	h.from, h.to = max(low, e.oldFrom-context), min(high, e.oldTo+context)
	for !p.unique(h) && (h.from > low || h.to < high) {
		h.from, h.to = max(low, h.from-1), min(high, h.to+1)
	}
	return h
}

// bounds are how far the context of an edit may reach: the edits beside it.
func (p Piece) bounds(i int) (low, high int) {
	low, high = 0, len(p.file.old)
	if i > 0 {
		low = p.file.edits[i-1].oldTo
	}
	if i+1 < len(p.file.edits) {
		high = p.file.edits[i+1].oldFrom
	}
	return low, high
}

// unique tells whether a hunk's old side is in one place only, whatever other
// groups have made of the file before.
func (p Piece) unique(h hunk) bool {
	if p.file.oneWhole() || len(p.edits) == len(p.file.edits) {
		return true // nothing else moves it
	}
	return h.from < h.to && newMixture(p).places(p.file.old[h.from:h.to]) == 1
}

// mixture is a file as any choice of other groups may have made it: runs of
// lines, each of which may be one of several. Those of the group itself are as
// they were.
type mixture [][][]string

func newMixture(p Piece) mixture {
	var m mixture
	at := 0
	for i, e := range p.file.edits {
		if slices.Contains(p.edits, i) {
			continue
		}
		m = append(m, [][]string{p.file.old[at:e.oldFrom]}, [][]string{p.file.old[e.oldFrom:e.oldTo], p.file.new[e.newFrom:e.newTo]})
		at = e.oldTo
	}
	return append(m, [][]string{p.file.old[at:]})
}

// places counts where lines may be found, two at most.
func (m mixture) places(part []string) int {
	n := 0
	for i, run := range m {
		for _, alternative := range run {
			for j := range alternative {
				if m.match(part, i, alternative[j:]) {
					if n++; n > 1 {
						return n
					}
				}
			}
		}
	}
	return n
}

// match tells whether lines may begin with the rest of a run, and go on in
// those behind it.
func (m mixture) match(part []string, run int, rest []string) bool {
	n := min(len(part), len(rest))
	if !slices.Equal(part[:n], rest[:n]) {
		return false
	}
	if part = part[n:]; len(part) == 0 {
		return true
	}
	return run+1 < len(m) && slices.ContainsFunc(m[run+1], func(alternative []string) bool { return m.match(part, run+1, alternative) })
}

func (h hunk) write(out *bytes.Buffer, f *file, shift int) {
	oldLen := h.to - h.from
	newLen := oldLen + h.grows(f)
	fmt.Fprintf(out, "@@ -%s +%s @@%s\n", span(h.from, oldLen), span(h.from+shift, newLen), heading(f.old, h.from))
	pos := h.from
	for _, i := range h.edits {
		e := f.edits[i]
		put(out, ' ', f.old[pos:e.oldFrom])
		put(out, '-', f.old[e.oldFrom:e.oldTo])
		put(out, '+', f.new[e.newFrom:e.newTo])
		pos = e.oldTo
	}
	put(out, ' ', f.old[pos:h.to])
}

// heading is the last line above a hunk that begins with a letter or _, as
// git's default (xdl_emit.c).
func heading(text []string, before int) string {
	for i := before - 1; i >= 0; i-- {
		if c := text[i][0]; c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return " " + strings.TrimRight(text[i][:min(len(text[i]), 80)], " \t\r\n")
		}
	}
	return ""
}

// span writes a range as diff does: an empty one names the line before it.
func span(from, n int) string {
	if n == 0 {
		return fmt.Sprintf("%d,0", from)
	}
	return fmt.Sprintf("%d,%d", from+1, n)
}

func put(out *bytes.Buffer, op byte, text []string) {
	for _, l := range text {
		out.WriteByte(op)
		out.WriteString(l)
		if !strings.HasSuffix(l, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// separable joins groups whose edits of one file can't be applied without
// each other: the context between them is not enough to find the place.
func (s *splitter) separable() {
	for again := true; again; {
		again = false
		byFile := make(map[*file][]*part)
		for _, p := range s.parts {
			byFile[p.file] = append(byFile[p.file], p)
		}
		for _, f := range s.files {
			ps := byFile[f]
			owner := make([]*part, len(f.edits))
			for _, p := range ps {
				for _, e := range p.edits {
					owner[e] = p
				}
			}
			for i := range f.edits {
				var mine []int
				for k, o := range owner {
					if o.root() == owner[i].root() {
						mine = append(mine, k)
					}
				}
				piece := Piece{file: f, edits: mine}
				h := piece.surround(hunk{edits: []int{i}, from: f.edits[i].oldFrom, to: f.edits[i].oldTo})
				if piece.unique(h) {
					continue
				}
				for _, k := range []int{i - 1, i + 1} {
					if k >= 0 && k < len(owner) && owner[k].root() != owner[i].root() {
						join(owner[i], owner[k])
						again = true
						break
					}
				}
			}
		}
	}
}
