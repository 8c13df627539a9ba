// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/bluekeyes/go-gitdiff/gitdiff"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Fix is a source diff with what it says about itself.
type Fix struct {
	ID          string     // the name it was read under, without directory and extension
	Title       string     // subject line, or ""
	Origin      string     // upstream commit or URL that the description names, or ""
	Description string     // text in front of the first file
	CVEs        []string   // CVE identifiers in the description and the name, sorted
	Files       []FileDiff // in the order of the diff
	Raw         []byte     // the diff as it was given
}

// FileDiff is what a fix does to one file. Paths are relative to the top of
// the source tree.
type FileDiff struct {
	Path    string // the file afterwards, or the deleted file
	OldPath string // the file before; Path unless renamed or copied
	Created bool
	Deleted bool
	Copied  bool // OldPath stays
	Hunks   []Hunk
}

// Hunk is one run of lines.
type Hunk struct {
	Line               int // where its header is in the diff, from 1
	OldStart, OldLines int // as in the header: lines from 1; 0 with no lines
	NewStart, NewLines int
	Lines              []Line
}

// Line is one line of a hunk with its newline, if it has one.
type Line struct {
	Op   byte // ' ', '-' or '+'
	Text string
}

// MaxSize is the length of the longest diff that Parse takes. The whole
// difference of two stable updates is about 10 MB.
const MaxSize = 256 << 20

// Parse reads a diff. name is used for messages and the fix's ID.
func Parse(name string, b []byte) (*Fix, error) {
	if len(b) > MaxSize {
		return nil, code.New("TS1101", name, fmt.Sprintf("it is longer than %d MiB", MaxSize>>20))
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return nil, code.New("TS1106", name, "it holds a zero byte")
	}
	text := b
	if n := bytes.Count(b, []byte("\r\n")); n > 0 && n == bytes.Count(b, []byte("\n")) {
		text = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")) // a mailer's line ends
	}
	description, sections, err := split(text)
	if err != nil {
		return nil, code.New("TS1101", name, "").With(err)
	}
	f := &Fix{ID: strings.TrimSuffix(path.Base(name), path.Ext(name)), Description: description, Raw: b}
	seen := make(map[string]bool)
	for _, s := range sections {
		d, err := parseSection(name, s)
		if err != nil {
			return nil, err
		}
		if d == nil {
			continue
		}
		if seen[d.Path] {
			return nil, code.New("TS1108", d.Path, fmt.Sprintf("line %d of %s", s.line, name))
		}
		seen[d.Path] = true
		f.Files = append(f.Files, *d)
	}
	if len(f.Files) == 0 {
		p := code.New("TS1107", name, "no file with changed lines in it")
		if len(sections) == 0 {
			p = code.New("TS1101", name, "no file header (---, +++) was found")
		}
		return nil, p
	}
	f.describe(name)
	return f, nil
}

// parseSection reads the part of a diff that belongs to one file. It returns
// nil when only the file's mode changes.
func parseSection(name string, s section) (*FileDiff, error) {
	where := fmt.Sprintf("%s line %d", name, s.line)
	files, _, err := gitdiff.Parse(bytes.NewReader(s.text))
	if err != nil {
		return nil, code.New("TS1101", where, "").With(err)
	}
	if len(files) != 1 {
		return nil, code.New("TS1101", where, fmt.Sprintf("%d file headers where one was seen", len(files)))
	}
	g := files[0]
	if g.IsBinary || g.BinaryFragment != nil {
		return nil, code.New("TS1106", where, cleanName(g.NewName))
	}
	d := &FileDiff{Created: g.IsNew, Deleted: g.IsDelete, Copied: g.IsCopy, OldPath: g.OldName, Path: g.NewName}
	switch {
	case d.Created:
		d.OldPath = d.Path
	case d.Deleted:
		d.Path = d.OldPath
	}
	if !s.git { // gitdiff strips the first component of git's headers only
		if d.Path, err = strip1(d.Path); err == nil {
			d.OldPath, err = strip1(d.OldPath)
		}
		if err != nil {
			return nil, code.New("TS1102", where, "").With(err)
		}
	}
	for _, p := range []string{d.Path, d.OldPath} {
		if err := checkPath(p); err != nil {
			return nil, code.New("TS1102", where, "").With(err)
		}
	}
	if len(g.TextFragments) > len(s.hunks) {
		return nil, code.New("TS1101", where, "hunks were not counted right")
	}
	for i, h := range g.TextFragments {
		hunk := Hunk{
			Line:     s.hunks[i],
			OldStart: int(h.OldPosition), OldLines: int(h.OldLines),
			NewStart: int(h.NewPosition), NewLines: int(h.NewLines),
		}
		if hunk.OldStart < 0 || hunk.NewStart < 0 || int64(hunk.OldStart) != h.OldPosition || h.OldPosition > maxLines || h.NewPosition > maxLines {
			return nil, code.New("TS1101", fmt.Sprintf("%s line %d", name, hunk.Line), "line number out of range")
		}
		for _, l := range h.Lines {
			hunk.Lines = append(hunk.Lines, Line{l.Op.String()[0], l.Line})
		}
		d.Hunks = append(d.Hunks, hunk)
	}
	if len(d.Hunks) == 0 && !d.Created && !d.Deleted && d.OldPath == d.Path {
		return nil, nil
	}
	return d, nil
}

// maxLines is more lines than any file that fits in MaxSize has.
const maxLines = MaxSize

func strip1(p string) (string, error) {
	_, rest, ok := strings.Cut(strings.TrimLeft(p, "/"), "/")
	if !ok || strings.HasPrefix(p, "/") {
		return "", fmt.Errorf("%q has no leading component to strip", cleanName(p))
	}
	return rest, nil
}

// checkPath accepts clean relative paths of printable characters.
func checkPath(p string) error {
	if !fs.ValidPath(p) || p == "." || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }) {
		return fmt.Errorf("path %q", cleanName(p))
	}
	return nil
}

// cleanName cuts a name that goes into a message.
func cleanName(p string) string {
	if len(p) > 200 {
		p = p[:200] + "…"
	}
	return p
}

var (
	cveForm      = regexp.MustCompile(`\bCVE-\d{4}-\d{4,19}\b`)
	subjectForm  = regexp.MustCompile(`(?mi)^(?:Subject|Description): *(?:\[[^\]\n]*\] *)*(.+(?:\n[ \t]+\S.*)*)`)
	upstreamForm = regexp.MustCompile(`(?mi)(?:^\s*\[? ?(?:upstream )?commit ([0-9a-f]{12,40})\b(?: upstream)?|^Origin: *(.+)$|^From ([0-9a-f]{40}) Mon Sep 17)`)
)

// describe picks title, origin and CVE identifiers out of the description,
// which may be a commit message, a mail of git format-patch or the header of
// a Debian patch (DEP-3).
func (f *Fix) describe(name string) {
	f.CVEs = cveForm.FindAllString(f.Description+"\n"+path.Base(name), -1)
	slices.Sort(f.CVEs)
	f.CVEs = slices.Compact(f.CVEs)
	if m := subjectForm.FindStringSubmatch(f.Description); m != nil {
		f.Title = strings.Join(strings.Fields(m[1]), " ")
	} else {
		for l := range strings.Lines(f.Description) {
			if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "From ") && !strings.HasPrefix(l, "Index: ") && !strings.HasPrefix(l, "===") {
				f.Title = l
				break
			}
		}
	}
	if m := upstreamForm.FindStringSubmatch(f.Description); m != nil {
		f.Origin = strings.TrimSpace(m[1] + m[2] + m[3])
	}
}
