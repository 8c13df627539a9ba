// SPDX-License-Identifier: Apache-2.0

package series

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/cve"
	"github.com/tsugi-project/tsugi/internal/fix"
)

// maxHeader is the length of the longest YAML text that is read.
const maxHeader = 16 << 20

var (
	idForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,199}$`)
	cveForm  = regexp.MustCompile(`^CVE-\d{4}-\d{4,19}$`)
	lineForm = regexp.MustCompile(`^line (\d+): `)
)

// ParseFix reads a fix: a diff with or without a YAML header in front of it,
// or a diff as it came and its header beside it (sidecar, nil for none). name
// is the diff's file name; without an id in the header its stem is the id.
// What the header does not say, title, CVEs and origin, is taken from the
// description in the diff.
//
// Errors: TS1201 for YAML that can't be read, TS1202 for a value that can't
// be; those of fix.Parse.
func ParseFix(name string, text, sidecar []byte) (*Fix, error) {
	header, diff, has := cutHeader(text)
	where := name
	switch {
	case has && sidecar != nil:
		return nil, code.New("TS1201", name, "it has a header, and there is one beside it too")
	case sidecar != nil:
		header, diff, where = sidecar, text, strings.TrimSuffix(name, ".diff")+".yaml"
	case !has:
		header = nil
	}
	var m Meta
	if err := decode(where, header, headerOffset(has), &m); err != nil {
		return nil, err
	}
	d, err := fix.Parse(name, diff)
	if err != nil {
		return nil, err
	}
	if m.ID == "" {
		m.ID = d.ID
	}
	if m.Title == "" {
		m.Title = d.Title
	}
	if m.CVEs == nil {
		m.CVEs = d.CVEs
	}
	if m.Origin == "" {
		m.Origin = d.Origin
	}
	if err := m.Check(where); err != nil {
		return nil, err
	}
	f := &Fix{Meta: m, Diff: d}
	f.agree()
	return f, nil
}

// agree gives the diff the names that the header has, for those who see only
// the diff.
func (f *Fix) agree() {
	f.Diff.ID, f.Diff.Title, f.Diff.CVEs, f.Diff.Origin = f.ID, f.Title, f.CVEs, f.Origin
}

func headerOffset(front bool) int {
	if front {
		return 1
	}
	return 0
}

// cutHeader takes the YAML between two lines of three dashes off the front.
func cutHeader(text []byte) (header, diff []byte, ok bool) {
	rest, ok := bytes.CutPrefix(text, []byte("---\n"))
	if !ok {
		return nil, text, false
	}
	if after, ok := bytes.CutPrefix(rest, []byte("---\n")); ok {
		return []byte{}, after, true
	}
	i := bytes.Index(rest, []byte("\n---\n"))
	if i < 0 {
		return nil, text, false
	}
	return rest[:i+1], rest[i+5:], true
}

// decode reads one strict YAML document: no unknown fields, no second
// document. offset is added to the lines that errors name.
func decode(where string, text []byte, offset int, into any) error {
	if len(text) > maxHeader {
		return code.New("TS1201", where, fmt.Sprintf("it is longer than %d MiB", maxHeader>>20))
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	err := dec.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if err = dec.Decode(new(yaml.Node)); errors.Is(err, io.EOF) {
			return nil
		}
		return code.New("TS1201", where, "there is a second document")
	}
	why := strings.TrimPrefix(err.Error(), "yaml: ")
	if types, ok := errors.AsType[*yaml.TypeError](err); ok {
		why = strings.Join(types.Errors, "; ")
	}
	if m := lineForm.FindStringSubmatch(why); m != nil {
		n := 0
		_, _ = fmt.Sscan(m[1], &n) // digits
		where, why = fmt.Sprintf("%s line %d", where, n+offset), why[len(m[0]):]
	}
	return code.New("TS1201", where, clean(why))
}

// clean makes one line of a library's message.
func clean(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	s = strings.NewReplacer("field ", "", " not found in type series.", " is not a field of ").Replace(s)
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return s
}

// Check holds the values of a fix's header. Errors: TS1202.
func (m *Meta) Check(where string) error {
	bad := func(format string, args ...any) error { return code.New("TS1202", where, fmt.Sprintf(format, args...)) }
	if !idForm.MatchString(m.ID) {
		return bad("id %.60q is not made of letters, digits, . _ + and -", m.ID)
	}
	for _, c := range slices.Concat([][]string{m.CVEs}, entryCVEs(m.Entries))[:] {
		for _, id := range c {
			if !cveForm.MatchString(id) {
				return bad("%.60q is not a CVE id", id)
			}
		}
	}
	if m.Severity.Rank() < 0 {
		return bad("severity %.60q is not low, medium, high or critical", m.Severity)
	}
	if m.CVSS != "" {
		if _, err := cve.ParseVector(m.CVSS); err != nil {
			return bad("cvss: %v", err)
		}
	}
	if m.FirstSeen != "" {
		if _, err := time.Parse(time.DateOnly, m.FirstSeen); err != nil {
			return bad("first_seen %.60q is not a date like 2026-11-14", m.FirstSeen)
		}
	}
	for _, r := range m.Requires {
		if !idForm.MatchString(r) || r == m.ID {
			return bad("it requires %.60q", r)
		}
	}
	for _, e := range m.Entries {
		if !slices.Contains([]Confidence{Stated, Certain, Likely, Possible}, e.Confidence) {
			return bad("confidence %.60q is not stated, certain, likely or possible", e.Confidence)
		}
	}
	for _, s := range []string{m.Title, m.Origin, m.Subsystem, m.Update, m.Commit} {
		if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return bad("%.60q has control characters", s)
		}
	}
	slices.Sort(m.CVEs)
	m.CVEs = slices.Compact(m.CVEs)
	return nil
}

func entryCVEs(es []Entry) [][]string {
	out := make([][]string, len(es))
	for i, e := range es {
		out[i] = e.CVEs
	}
	return out
}

// Encode writes a fix as a diff with its header in front, which ParseFix
// reads back.
func (f *Fix) Encode() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("---\n")
	if err := encode(&b, f.Meta); err != nil {
		return nil, err
	}
	b.WriteString("---\n")
	b.Write(f.Diff.Raw)
	return b.Bytes(), nil
}

// DecodeYAML reads a strict YAML document: one that holds a field that into
// has not is refused. Errors: TS1201 with the line.
func DecodeYAML(where string, text []byte, into any) error { return decode(where, text, 0, into) }

// EncodeYAML writes a value as DecodeYAML reads it.
func EncodeYAML(v any) ([]byte, error) {
	var b bytes.Buffer
	err := encode(&b, v)
	return b.Bytes(), err
}

func encode(w io.Writer, v any) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	return errors.Join(enc.Encode(v), enc.Close())
}
