// SPDX-License-Identifier: Apache-2.0

package update

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// maxTwins is in how many files an edit may be made for these to be twins;
// what is made in more says nothing (a member that all drivers have).
const maxTwins = 6

// twins finds atoms that make the same edit in files of the same name but for
// digits (ipmr.c and ip6mr.c): one commit changed them, whatever their paths.
// It tells of each the first one.
func (s *splitter) twins() map[*part]*part {
	all := make(map[string][]*part)
	for _, p := range s.parts {
		if p.atom == nil && len(p.edits) < len(p.file.edits) {
			continue // of a header, or lines of #include
		}
		if key := twinKey(p.file, p.edits); key != "" {
			all[key] = append(all[key], p)
		}
	}
	out := make(map[*part]*part)
	for _, ps := range all {
		for _, p := range ps[1:] {
			if len(ps) <= maxTwins && p.file != ps[0].file {
				out[p] = ps[0]
			}
		}
	}
	return out
}

// twinKey is the same for the same edits in files of the same name but for
// digits: what words they bring and take. It is "" where these say too little.
func twinKey(f *file, edits []int) string {
	if !f.cSource() || f.oneWhole() {
		return ""
	}
	count := make(map[string]int)
	for _, i := range edits {
		e := f.edits[i]
		for _, l := range f.oldCode[e.oldFrom:e.oldTo] {
			for _, w := range ctext.Words(l) {
				count[w]--
			}
		}
		for _, l := range f.newCode[e.newFrom:e.newTo] {
			for _, w := range ctext.Words(l) {
				count[w]++
			}
		}
	}
	var out strings.Builder
	out.WriteString(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, f.base()))
	tells := false
	for _, w := range slices.Sorted(maps.Keys(count)) {
		if n := count[w]; n != 0 {
			fmt.Fprintf(&out, " %s%+d", w, n)
			tells = tells || len(w) >= 8
		}
	}
	if !tells {
		return ""
	}
	return out.String()
}

// twinGroups lists for each group those that make the same edit in a function
// of another file, and the path of the first one's.
func twinGroups(groups []*Group) map[int]map[int]string {
	type place struct {
		group int
		path  string
	}
	all := make(map[string][]place)
	for i, g := range groups {
		for _, p := range g.Files {
			for _, edits := range p.functions() {
				if key := twinKey(p.file, edits); key != "" {
					all[key] = append(all[key], place{i, p.Path})
				}
			}
		}
	}
	out := make(map[int]map[int]string)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if len(all[key]) > maxTwins {
			continue
		}
		for _, a := range all[key] {
			for _, b := range all[key] {
				if a.group != b.group {
					if out[a.group] == nil {
						out[a.group] = make(map[int]string)
					}
					out[a.group][b.group] = a.path
				}
			}
		}
	}
	return out
}

// functions parts the edits of a piece by the functions of a source file.
func (p Piece) functions() [][]int {
	if !p.file.cSource() || p.file.header() || p.file.oneWhole() {
		return [][]int{p.edits}
	}
	var out [][]int
	cs, _ := p.file.byDecl()
	for _, c := range cs {
		if !slices.ContainsFunc(c.edits, func(e int) bool { return !slices.Contains(p.edits, e) }) {
			out = append(out, c.edits)
		}
	}
	return out
}
