// SPDX-License-Identifier: Apache-2.0

package series

import (
	"path"
	"slices"
	"strings"
)

// Filter chooses fixes for showing. Its zero value takes all; each field that
// is set leaves out.
type Filter struct {
	CVE         string   // this one, or all that match a pattern (path.Match)
	MinSeverity Severity // a fix of unknown severity is left out
	Subsystem   string   // a path: fixes that change a file below it
	Exploited   bool
	Security    bool     // those with a CVE or an advisory
	Text        string   // in id or title, whatever the case
	IDs         []string // patterns of ids
}

// Match tells whether a fix is taken.
func (q Filter) Match(f *Fix) bool {
	switch {
	case q.CVE != "" && !slices.ContainsFunc(f.CVEs, func(c string) bool { return matches(q.CVE, c) }):
	case q.MinSeverity != "" && f.Severity.Rank() < q.MinSeverity.Rank():
	case q.Subsystem != "" && !f.below(strings.Trim(q.Subsystem, "/")):
	case q.Exploited && !f.Exploited:
	case q.Security && len(f.CVEs) == 0 && len(f.Advisories) == 0:
	case q.Text != "" && !strings.Contains(strings.ToLower(f.ID+"\n"+f.Title), strings.ToLower(q.Text)):
	case len(q.IDs) > 0 && !slices.ContainsFunc(q.IDs, func(p string) bool { return matches(p, f.ID) }):
	default:
		return true
	}
	return false
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return pattern == name || err == nil && ok
}

func (f *Fix) below(dir string) bool {
	return slices.ContainsFunc(f.Paths(), func(p string) bool { return p == dir || strings.HasPrefix(p, dir+"/") })
}

// Paths lists the files that a fix changes, in the order of its diff.
func (f *Fix) Paths() []string {
	out := make([]string, len(f.Diff.Files))
	for i, d := range f.Diff.Files {
		out[i] = d.Path
	}
	return out
}

// Functions lists the functions that a fix touches, as far as its diff tells:
// by the headings of its hunks and the lines in the first column. Ordered.
func (f *Fix) Functions() []string {
	var out []string
	current := ""
	for line := range strings.Lines(string(f.Diff.Raw)) {
		line = strings.TrimRight(line, "\r\n")
		if rest, ok := strings.CutPrefix(line, "@@ "); ok {
			_, heading, _ := strings.Cut(rest, " @@")
			current, _ = functionHead(strings.TrimPrefix(heading, " "))
			continue
		}
		if line == "" || strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "+++ ") || strings.HasPrefix(line, "diff ") {
			continue
		}
		text := line[1:]
		if name, ok := functionHead(text); ok {
			current = name
		}
		if (line[0] == '+' || line[0] == '-') && current != "" && strings.TrimSpace(text) != "" {
			out = append(out, current)
		}
		if strings.HasPrefix(text, "}") {
			current = ""
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// FunctionAt names the function that a line of a source, from 1, is part of: the
// last one that begins in the first column before it, as kernel style has it;
// "" between two.
func FunctionAt(lines []string, n int) string {
	for i := min(n, len(lines)) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], "}") && i < n-1 {
			return ""
		}
		if name, ok := functionHead(lines[i]); ok {
			return name
		}
	}
	return ""
}

// functionHead names the function that a line in the first column begins.
func functionHead(line string) (string, bool) {
	if line == "" || line[0] != '_' && (line[0]|0x20 < 'a' || line[0]|0x20 > 'z') {
		return "", false
	}
	open := strings.IndexByte(line, '(')
	if open <= 0 || strings.ContainsAny(line[:open], "=;\"") || strings.HasSuffix(strings.TrimSpace(line), ";") {
		return "", false
	}
	end := len(strings.TrimRight(line[:open], " \t"))
	from := end
	for from > 0 && (line[from-1] == '_' || line[from-1] >= '0' && line[from-1] <= '9' || line[from-1]|0x20 >= 'a' && line[from-1]|0x20 <= 'z') {
		from--
	}
	if from == end {
		return "", false
	}
	return line[from:end], true
}
