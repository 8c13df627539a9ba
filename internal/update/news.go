// SPDX-License-Identifier: Apache-2.0

package update

import (
	"regexp"
	"slices"
	"strings"
)

// newsItem is where an item of a file like NEWS begins: a bullet, a bug's number
// in brackets, or a name of a vulnerability.
var newsItem = regexp.MustCompile(`^([ \t]*)(?:[*+-][ \t]|\[\d+\]|CVE-\d|GLIBC-SA-|o )`)

// maxTold is how many vulnerabilities an item of the news may name: one that
// names more is a list, and says of none what it is.
const maxTold = 2

// News finds what an upstream project's own notes (NEWS, CHANGES.md) tell of
// vulnerabilities: the items that name them, by id.
func News(text []byte) map[string]string {
	out := make(map[string]string)
	var item []string
	indent, empty := 0, false
	done := func() {
		whole := strings.Join(item, "\n")
		ids := cveForm.FindAllString(whole, -1)
		slices.Sort(ids)
		if ids = slices.Compact(ids); len(ids) <= maxTold {
			for _, id := range ids {
				out[id] += whole + "\n"
			}
		}
		item = nil
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, " \t\r\n")
		white := len(line) - len(strings.TrimLeft(line, " \t"))
		m := newsItem.FindStringSubmatch(line)
		switch {
		case line == "":
			empty = true
			continue
		case m != nil && (len(item) == 0 || white <= indent):
			done()
			indent = white
		case len(item) == 0:
			continue
		case empty && white <= indent:
			done()
			continue
		}
		item, empty = append(item, line), false
	}
	done()
	return out
}
