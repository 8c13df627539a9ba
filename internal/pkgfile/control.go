// SPDX-License-Identifier: Apache-2.0

package pkgfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

const (
	maxLine      = 1 << 20 // the longest of Debian's own, a Provides, has 60 kB
	maxParagraph = 16 << 20
	blank        = " \t\r" // carriage returns of files that were elsewhere
)

// Paragraph is one stanza of control text. The zero value has no fields.
type Paragraph struct {
	names, values []string
}

// Get returns the value of a field, whose name is compared without case; ""
// when there is none. Lines after the first are joined with newlines and lack
// their leading space.
func (p Paragraph) Get(name string) string {
	for i, n := range p.names {
		if strings.EqualFold(n, name) {
			return p.values[i]
		}
	}
	return ""
}

// Fields yields names and values in the order of the text.
func (p Paragraph) Fields() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for i, n := range p.names {
			if !yield(n, p.values[i]) {
				return
			}
		}
	}
}

// Len returns the number of fields.
func (p Paragraph) Len() int { return len(p.names) }

// ControlReader reads paragraphs of deb822 text, as control files, Packages
// and Sources indices and apt-cache show have them.
type ControlReader struct {
	s    *bufio.Scanner
	line int
}

// NewControlReader reads from r.
func NewControlReader(r io.Reader) *ControlReader {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	return &ControlReader{s: s}
}

// Next returns the next paragraph, io.EOF after the last.
func (c *ControlReader) Next() (Paragraph, error) {
	var p Paragraph
	var value strings.Builder
	size := 0
	flush := func() {
		if len(p.names) > len(p.values) {
			p.values = append(p.values, value.String())
			value.Reset()
		}
	}
	bad := func(why string) error {
		return code.New("TS2203", fmt.Sprintf("line %d", c.line), why)
	}
	for c.s.Scan() {
		c.line++
		line := c.s.Text()
		if size += len(line); size > maxParagraph {
			return Paragraph{}, bad("the paragraph is longer than 16 MiB")
		}
		switch {
		case strings.Trim(line, blank) == "":
			if len(p.names) > 0 {
				flush()
				return p, nil
			}
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if len(p.names) == 0 {
				return Paragraph{}, bad("a continuation line with no field before it")
			}
			value.WriteByte('\n')
			value.WriteString(strings.TrimRight(line[1:], blank))
		default:
			name, rest, ok := strings.Cut(line, ":")
			if !ok || !isFieldName(name) {
				return Paragraph{}, bad("neither a field nor a continuation line")
			}
			flush()
			if (Paragraph{names: p.names, values: p.values}).has(name) {
				return Paragraph{}, bad(fmt.Sprintf("field %s occurs twice", name))
			}
			p.names = append(p.names, name)
			value.WriteString(strings.Trim(rest, blank))
		}
	}
	if err := c.s.Err(); errors.Is(err, bufio.ErrTooLong) {
		c.line++
		return Paragraph{}, bad("the line is longer than 1 MiB")
	} else if err != nil {
		return Paragraph{}, fmt.Errorf("control text: line %d: %w", c.line, err)
	}
	if len(p.names) == 0 {
		return Paragraph{}, io.EOF
	}
	flush()
	return p, nil
}

func (p Paragraph) has(name string) bool {
	for _, n := range p.names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// isFieldName follows deb822(5): printable ASCII but space and colon, not
// beginning with # or -.
func isFieldName(s string) bool {
	if s == "" || s[0] == '-' || s[0] == '#' {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// ReadControl reads all paragraphs of a text.
func ReadControl(r io.Reader) ([]Paragraph, error) {
	c := NewControlReader(r)
	var out []Paragraph
	for {
		p, err := c.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
}
