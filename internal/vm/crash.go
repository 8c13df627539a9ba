// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"regexp"
	"strings"
)

// Crash is a kernel crash as its console shows it.
type Crash struct {
	Title    string `json:"title"`              // the line that says what happened
	Function string `json:"function,omitempty"` // where, from the first RIP line
	Oops     bool   `json:"oops"`               // a fault or BUG in kernel code, as against panic() alone
	Fatal    bool   `json:"fatal"`              // the kernel stopped: "Kernel panic - not syncing"
	Excerpt  string `json:"excerpt"`            // the report, at most 80 lines
}

var (
	stamp     = regexp.MustCompile(`^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?`)
	oopsLine  = regexp.MustCompile(`^(?:BUG: (?:unable to handle|kernel NULL pointer|stack guard page)|kernel BUG at |Oops: |general protection fault|invalid opcode: |stack segment: |double fault|traps: PANIC)`)
	panicLine = regexp.MustCompile(`^Kernel panic - not syncing: `)
	ripLine   = regexp.MustCompile(`^RIP: [0-9a-f]{4}:([A-Za-z_][\w.]*)\+0x`)
)

// FindCrash returns the first crash in a console's text, or nil. Warnings
// are not crashes.
func FindCrash(console string) *Crash {
	lines := strings.Split(console, "\n")
	for i, l := range lines {
		lines[i] = stamp.ReplaceAllString(strings.TrimRight(l, "\r"), "")
	}
	for i, l := range lines {
		// "BUG: sleeping function called…" and the like are reports, not ends.
		if !oopsLine.MatchString(l) && !panicLine.MatchString(l) {
			continue
		}
		c := &Crash{Title: l, Oops: oopsLine.MatchString(l)}
		end := min(i+80, len(lines))
		for _, n := range lines[i:end] {
			if m := ripLine.FindStringSubmatch(n); m != nil && c.Function == "" {
				c.Function = m[1]
			}
		}
		for j := i; j < len(lines); j++ {
			if panicLine.MatchString(lines[j]) {
				c.Fatal = true
				end = min(end, j+1)
				break
			}
		}
		c.Excerpt = strings.TrimRight(strings.Join(lines[i:end], "\n"), "\n")
		return c
	}
	return nil
}
