// SPDX-License-Identifier: Apache-2.0

package update

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Stanza is one version in a Debian changelog (deb-changelog(5)).
type Stanza struct {
	Source  string // "linux"
	Version string // "6.1.192-1"
	Date    string // as it stands behind the maintainer
	Entries []Item
}

// Item is one entry: a bullet of any depth without bullets below it.
type Item struct {
	Subject string // without the CVE ids at its end
	CVEs    []string
	Arches  []string // what stands in brackets in front: "arm64", "x86"
}

// maxChangelog is the length of the longest changelog that is read; Debian's
// for 6.12 has 4 MB.
const maxChangelog = 64 << 20

var (
	stanzaForm  = regexp.MustCompile(`^([a-z0-9][a-z0-9+.-]*) \(([^() \t]+)\)((?:\s+[-+0-9a-zA-Z.]+)+);`)
	trailerForm = regexp.MustCompile(`^ -- (.*) <(.*)>  ?(.*)$`)
	bulletForm  = regexp.MustCompile(`^( +)([*+-]) +(.*)$`)
	cveGroup    = regexp.MustCompile(`\s*\(([^()]*\bCVE-\d{4}-\d{4,19}\b[^()]*)\)`)
	cveForm     = regexp.MustCompile(`\bCVE-\d{4}-\d{4,19}\b`)
	archForm    = regexp.MustCompile(`^\[([a-z0-9*,/ _-]+)\]\s+`)
)

// ParseChangelog reads a Debian changelog, newest version first, as it stands.
// Errors: TS1210.
func ParseChangelog(name string, text []byte) ([]Stanza, error) {
	if len(text) > maxChangelog {
		return nil, code.New("TS1210", name, fmt.Sprintf("it is longer than %d MiB", maxChangelog>>20))
	}
	var out []Stanza
	var cur *Stanza
	var open []bullet
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, " \t\r\n")
		switch {
		case line == "":
			open = cur.flush(open)
		case cur == nil && line[0] != ' ' && line[0] != '\t':
			m := stanzaForm.FindStringSubmatch(line)
			if m == nil {
				if len(out) > 0 { // old changelogs end in lines of other forms
					return out, nil
				}
				return nil, code.New("TS1210", fmt.Sprintf("%s line %d", name, n), fmt.Sprintf("%.80q is not the head of a version", line))
			}
			cur = &Stanza{Source: m[1], Version: m[2]}
		case cur == nil:
			return nil, code.New("TS1210", fmt.Sprintf("%s line %d", name, n), "text before the head of a version")
		case strings.HasPrefix(line, " -- "):
			open = cur.flush(open)
			if m := trailerForm.FindStringSubmatch(line); m != nil {
				cur.Date = m[3]
			}
			out, cur = append(out, *cur), nil
		case line[0] != ' ' && line[0] != '\t':
			return nil, code.New("TS1210", fmt.Sprintf("%s line %d", name, n), fmt.Sprintf("%.80q within version %s", line, cur.Version))
		default:
			open = cur.line(open, line)
		}
	}
	if cur != nil {
		return nil, code.New("TS1210", name, fmt.Sprintf("version %s has no end", cur.Version))
	}
	if len(out) == 0 {
		return nil, code.New("TS1210", name, "no version in it")
	}
	return out, nil
}

// bullet is an entry being read.
type bullet struct {
	indent int
	text   string
	parent bool // bullets stand below it
}

// line takes one line of a version's body.
func (s *Stanza) line(open []bullet, line string) []bullet {
	if m := bulletForm.FindStringSubmatch(line); m != nil {
		indent := len(m[1])
		for i := len(open) - 1; i >= 0; i-- {
			if open[i].indent < indent {
				open[i].parent = true
				break
			}
		}
		return append(open, bullet{indent: indent, text: m[3]})
	}
	text := strings.TrimSpace(line)
	switch {
	case len(open) == 0, strings.HasPrefix(text, "[ ") && strings.HasSuffix(text, " ]"): // whose entries follow
	case strings.HasPrefix(text, "https://"), strings.HasPrefix(text, "http://"): // where the entries below come from
		open[0].parent = true
		if last := &open[len(open)-1]; last.indent <= 2 {
			last.parent = true
		}
	default:
		open[len(open)-1].text += " " + text
	}
	return open
}

func (s *Stanza) flush(open []bullet) []bullet {
	for _, b := range open {
		if !b.parent && s != nil {
			if it, ok := parseItem(b.text); ok {
				s.Entries = append(s.Entries, it)
			}
		}
	}
	return nil
}

func parseItem(text string) (Item, bool) {
	var it Item
	for _, g := range cveGroup.FindAllStringSubmatch(text, -1) {
		it.CVEs = append(it.CVEs, cveForm.FindAllString(g[1], -1)...)
	}
	slices.Sort(it.CVEs)
	it.CVEs = slices.Compact(it.CVEs)
	text = strings.Join(strings.Fields(cveGroup.ReplaceAllString(text, "")), " ")
	for {
		m := archForm.FindStringSubmatch(text)
		if m == nil {
			break
		}
		it.Arches = append(it.Arches, strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' || r == '/' })...)
		text = text[len(m[0]):]
	}
	it.Subject = text
	return it, text != ""
}

// Between returns the entries of the versions above from, up to to. A version
// that names no stanza is an error (TS1211): which entries belong to the
// update would be a guess. A stanza of another source name ("linux" in the
// changelog of "linux-6.12") counts by its version alike.
func Between(stanzas []Stanza, from, to string) ([]Item, error) {
	first := slices.IndexFunc(stanzas, func(s Stanza) bool { return s.Version == to })
	last := slices.IndexFunc(stanzas, func(s Stanza) bool { return s.Version == from })
	switch {
	case first < 0:
		return nil, code.New("TS1211", to, "the changelog has no such version")
	case last < 0:
		return nil, code.New("TS1211", from, "the changelog of "+to+" has no such version")
	case last < first:
		return nil, code.New("TS1211", from, "it is newer than "+to)
	}
	var out []Item
	for _, s := range stanzas[first:last] {
		out = append(out, s.Entries...)
	}
	return out, nil
}
