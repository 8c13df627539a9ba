// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// headerItems cuts a header as it is written: each directive is an item of
// its own, what is between two directives is cut as [items] does.
func headerItems(text []byte) []item {
	var out []item
	var code bytes.Buffer
	flush := func() {
		out = append(out, items(code.Bytes())...)
		code.Reset()
	}
	lines := slices.Collect(strings.Lines(string(withoutComments(text))))
	for i := 0; i < len(lines); i++ {
		l := strings.TrimSpace(lines[i])
		if !strings.HasPrefix(l, "#") {
			code.WriteString(lines[i])
			continue
		}
		for strings.HasSuffix(l, `\`) && i+1 < len(lines) {
			i++
			l = strings.TrimSuffix(l, `\`) + " " + strings.TrimSpace(lines[i])
		}
		flush()
		l = "#" + strings.TrimSpace(l[1:])
		out = append(out, item(strings.Join(strings.Fields(l), " ")))
	}
	flush()
	return out
}

// withoutComments joins continued lines and replaces comments by spaces, their
// newlines too, in the order of C's translation phases: a macro goes on behind
// a comment of several lines.
func withoutComments(b []byte) []byte {
	out := bytes.ReplaceAll(b, []byte("\\\n"), []byte("  ")) // a copy
	for i := 0; i < len(out); i++ {
		switch {
		case out[i] == '"' || out[i] == '\'':
			quote := out[i]
			for i++; i < len(out) && out[i] != quote && out[i] != '\n'; i++ {
				if out[i] == '\\' {
					i++
				}
			}
		case bytes.HasPrefix(out[i:], []byte("/*")):
			end := bytes.Index(out[i+2:], []byte("*/"))
			stop := len(out)
			if end >= 0 {
				stop = i + 2 + end + 2
			}
			for ; i < stop; i++ {
				out[i] = ' '
			}
			i--
		case bytes.HasPrefix(out[i:], []byte("//")):
			for ; i < len(out) && out[i] != '\n'; i++ {
				out[i] = ' '
			}
			i--
		}
	}
	return out
}

// mentions tells whether a text has name as a whole word.
func mentions(b []byte, name string) bool {
	for {
		i := bytes.Index(b, []byte(name))
		if i < 0 {
			return false
		}
		end := i + len(name)
		if (i == 0 || !ctext.IsWord(b[i-1])) && (end == len(b) || !ctext.IsWord(b[end])) {
			return true
		}
		b = b[end:]
	}
}
