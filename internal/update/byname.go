// SPDX-License-Identifier: Apache-2.0

package update

import (
	"path"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/series"
)

// byNames gives entries with a CVE that belong to no group to the one that alone
// has a word of theirs as the name of its file, or in the name of a function
// that it changes: "double-free in regcomp" is posix/regcomp.c. It returns those
// that stay without one.
func byNames(groups []*Group, found map[int][]series.Entry, left []series.Entry) []series.Entry {
	having := make(map[string][]int) // groups by word
	for i, g := range groups {
		for _, w := range uniq(g.names()) {
			having[w] = append(having[w], i)
		}
	}
	var rest []series.Entry
	for _, e := range left {
		votes := make(map[int][]string)
		if len(e.CVEs) > 0 {
			s := parseSubject(e.Subject)
			for _, w := range uniq(slices.Concat(s.prefix, s.names, s.words)) {
				if in := having[w]; len(in) == 1 && len(w) > 4 && !common(w) && !ofSecurity(w) {
					votes[in[0]] = append(votes[in[0]], w)
				}
			}
		}
		best, twice := -1, false
		for i, ws := range votes {
			switch {
			case best < 0 || len(ws) > len(votes[best]):
				best, twice = i, false
			case len(ws) == len(votes[best]):
				twice = true
			}
		}
		if best < 0 || twice {
			rest = append(rest, e)
			continue
		}
		e.Confidence, e.Why = series.Possible, "only this fix has a file or a function named "+strings.Join(votes[best], ", ")
		found[best] = append(found[best], e)
	}
	return rest
}

// names are those of the group's source files and of the functions that it
// changes in them, and what these are made of.
func (g *Group) names() []string {
	var out []string
	for _, p := range g.Files {
		if !p.file.cSource() && !slices.Contains([]string{".cc", ".cpp", ".cxx"}, path.Ext(p.Path)) {
			continue
		}
		stem := strings.ToLower(strings.TrimSuffix(p.file.base(), path.Ext(p.Path)))
		out = append(out, stem)
		for _, n := range p.touched() {
			out = append(out, strings.ToLower(n))
			out = append(out, pieces(n)...)
		}
	}
	return out
}

// ofSecurity tells words that say what kind of mistake a CVE is, and not where.
func ofSecurity(w string) bool {
	switch w {
	case "buffer", "overflow", "underflow", "stack", "integer", "double", "corruption", "uninitialized", "failure",
		"allocation", "assert", "assertion", "crash", "denial", "service", "validation", "verification", "confusion",
		"truncation", "length", "contents", "content", "message", "messages", "string", "strings", "input", "inputs", "output",
		"client", "server", "processing", "parsing", "parse", "function", "functions", "conversion", "response", "responses", "request",
		"requests", "process", "search", "result", "results", "encryption", "decryption", "incorrect", "improper", "reading", "writing",
		"print", "printing", "convert", "converting", "binary", "binaries", "character", "names", "attack", "remote", "local":
		return true
	}
	return false
}
