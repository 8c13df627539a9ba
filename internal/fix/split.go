// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// section is the part of a diff that belongs to one file.
type section struct {
	line  int   // where it begins in the diff, from 1
	git   bool  // it has a "diff --git" header
	hunks []int // lines of the hunk headers
	text  []byte
}

var hunkHeader = regexp.MustCompile(`^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@`)

// split cuts a diff at its file headers and returns the text in front of the
// first. A removed line "-- x" looks like a header ("--- x"), so the lines of
// hunks are counted off by what their headers announce. Text between files
// ("Index:" lines, mail signatures) belongs to no section.
func split(b []byte) (description string, sections []section, err error) {
	lines := splitLines(b)
	var text strings.Builder
	var cur *section
	var buf strings.Builder
	flush := func() {
		if cur != nil {
			cur.text = []byte(buf.String())
			sections = append(sections, *cur)
		}
		cur = nil
		buf.Reset()
	}
	begin := func(i int, git bool) {
		flush()
		cur = &section{line: i + 1, git: git}
	}
	for i := 0; i < len(lines); i++ {
		l := lines[i]
		switch {
		case strings.HasPrefix(l, "diff --git "):
			begin(i, true)
		case strings.HasPrefix(l, "--- ") && i+1 < len(lines) && strings.HasPrefix(lines[i+1], "+++ "):
			if cur == nil || !cur.git || len(cur.hunks) > 0 {
				begin(i, false)
			}
			buf.WriteString(l) // both at once
			i++
			l = lines[i]
		case strings.HasPrefix(l, "@@ -"):
			if cur == nil {
				if len(sections) == 0 && !hunkHeader.MatchString(l) {
					break // prose
				}
				return "", nil, fmt.Errorf("line %d: a hunk without a file header", i+1)
			}
			end, err := hunkEnd(lines, i)
			if err != nil {
				return "", nil, err
			}
			cur.hunks = append(cur.hunks, i+1)
			for _, h := range lines[i:end] {
				buf.WriteString(h)
			}
			i = end - 1
			continue
		case cur != nil && len(cur.hunks) > 0:
			continue // between hunks and the next header: prose
		}
		if cur != nil {
			buf.WriteString(l)
		} else if len(sections) == 0 {
			text.WriteString(l)
		}
	}
	flush()
	return text.String(), sections, nil
}

// hunkEnd finds the line behind the hunk whose header is at i.
func hunkEnd(lines []string, i int) (int, error) {
	m := hunkHeader.FindStringSubmatch(lines[i])
	if m == nil {
		return 0, fmt.Errorf("line %d: malformed hunk header %.80q", i+1, lines[i])
	}
	var left [2]int
	for k := range left {
		left[k] = 1
		if m[k+1] != "" {
			n, err := strconv.Atoi(m[k+1])
			if err != nil || n > maxLines {
				return 0, fmt.Errorf("line %d: malformed hunk header %.80q", i+1, lines[i])
			}
			left[k] = n
		}
	}
	end := i + 1
	for ; left[0] > 0 || left[1] > 0; end++ {
		if end >= len(lines) {
			return 0, fmt.Errorf("line %d: the hunk ends early, the diff is cut", i+1)
		}
		switch lines[end][0] {
		case ' ', '\n', '\t':
			left[0]--
			left[1]--
		case '-':
			left[0]--
		case '+':
			left[1]--
		case '\\':
		default:
			return 0, fmt.Errorf("line %d: %.40q in the hunk of line %d", end+1, lines[end], i+1)
		}
		if left[0] < 0 || left[1] < 0 {
			return 0, fmt.Errorf("line %d: the hunk of line %d has more lines than its header says", end+1, i+1)
		}
	}
	if end < len(lines) && strings.HasPrefix(lines[end], `\ `) {
		end++
	}
	return end, nil
}
