// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"fmt"
)

// KeepLines returns the new contents of a C file with #line directives that
// give unchanged code the line numbers it has in the old contents, so that
// __LINE__, and with it BUG, WARN and lockdep data, stay as they were.
//
// A directive follows each run of changes that adds or removes lines, at the
// first boundary between lines where the preprocessor takes one safely: not
// in a comment, a literal, a directive, a continued line, or parentheses
// (which may be the arguments of a macro). A directive inside a conditional
// may be skipped, so it is repeated behind each directive that ends a branch.
func KeepLines(old, new []byte) []byte {
	a, b := splitLines(old), splitLines(new)
	edits := Compare(a, b)
	if len(edits) == 0 || bytes.Equal(old, new) {
		return new
	}
	// origin[j] is the old number of line j of new, 0 for an added line.
	origin := make([]int, len(b))
	i, j := 0, 0
	for _, e := range append(edits, Edit{len(a), len(a), len(b), len(b)}) {
		for ; j < e.NewFrom; i, j = i+1, j+1 {
			origin[j] = i + 1
		}
		i, j = e.OldTo, e.NewTo
	}
	var out bytes.Buffer
	lx := lexer{}
	next := 1      // the number of the next line if no directive was skipped
	inside := 0    // depth of conditionals around the last directive
	again := false // the branch around the last directive has ended
	for j, line := range b {
		if lx.closed > 0 && lx.closed <= inside {
			again = true
		}
		if origin[j] != 0 && (again || origin[j] != next) && lx.safe() {
			fmt.Fprintf(&out, "#line %d\n", origin[j])
			next, inside, again = origin[j], lx.depth, false
		}
		out.WriteString(line)
		lx.line(line)
		next++
	}
	return out.Bytes()
}
