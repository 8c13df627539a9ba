// SPDX-License-Identifier: Apache-2.0

package includes

import (
	"bytes"
	"regexp"
)

// directive is one #include line.
type directive struct {
	name  string
	quote bool // "x" and not <x>: the file's own directory comes first
}

// blank is what may stand between the words of a directive.
const blank = `(?:[ \t]|/\*[^\n]*?\*/|\\\r?\n)*`

var (
	includeForm = regexp.MustCompile(`(?m)^` + blank + `(?:#|%:)` + blank + `(?:include_next|include|import)` + blank + `(?:"([^"\n]+)"|<([^>\n]+)>)`)
	// macroForm is a directive that names a macro; prose in comments goes on otherwise.
	macroForm = regexp.MustCompile(`(?m)^` + blank + `(?:#|%:)` + blank + `(?:include_next|include|import)` + blank + `[A-Za-z_][A-Za-z_0-9]*[ \t]*(?:\r?$|\(|/)`)
)

// parse reads the directives of a file. computed tells that one of them is a
// macro.
func parse(data []byte) (list []directive, computed bool) {
	if !bytes.Contains(data, []byte("include")) && !bytes.Contains(data, []byte("import")) {
		return nil, false
	}
	seen := map[directive]bool{}
	for _, m := range includeForm.FindAllSubmatch(data, -1) {
		d := directive{name: string(m[1]) + string(m[2]), quote: m[1] != nil}
		if !seen[d] {
			seen[d] = true
			list = append(list, d)
		}
	}
	return list, macroForm.Match(data)
}
