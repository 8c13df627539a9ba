// SPDX-License-Identifier: Apache-2.0

package update

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/ctext"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/series"
)

// QuiltPatch is one of the patches that a distribution lays over a source, as
// they stand in debian/patches (dpkg-source(1), format 3.0 quilt).
type QuiltPatch struct {
	Name string // as the file "series" has it: "any/CVE-2026-0861.diff"
	Text []byte
}

// QuiltNames reads the names in the file "series", in their order. Errors: TS1214.
func QuiltNames(text []byte) ([]string, error) {
	var out []string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if !fs.ValidPath(f[0]) || f[0] == "." {
			return nil, code.New("TS1214", fmt.Sprintf("debian/patches/series: %.80q", f[0]), "it leads out of the directory")
		}
		out = append(out, f[0]) // options are ignored, as dpkg-source does
	}
	return out, nil
}

// NewPatches are those at the end of a series that the old one does not have,
// from the first of them on. One that only had its context brought up to date
// is not new. What is new in front of one that both have is not among them: it
// can't be taken off without that one.
func NewPatches(old, new []QuiltPatch) []QuiltPatch {
	had := make(map[[sha256.Size]byte]bool)
	for _, p := range old {
		had[p.key()] = true
	}
	first := len(new)
	for first > 0 && !had[new[first-1].key()] {
		d, err := fix.Parse(new[first-1].Name, new[first-1].Text)
		if err != nil || slices.ContainsFunc(d.Files, func(f fix.FileDiff) bool { return f.OldPath != f.Path }) {
			break // it changes what no text is, or renames
		}
		first--
	}
	return new[first:]
}

// key tells patches by the lines that they take away and bring.
func (p QuiltPatch) key() [sha256.Size]byte {
	h := sha256.New()
	in := bufio.NewScanner(bytes.NewReader(p.Text))
	in.Buffer(nil, len(p.Text)+1)
	begun := false
	for in.Scan() {
		l := in.Bytes()
		begun = begun || bytes.HasPrefix(l, []byte("--- "))
		if begun && len(l) > 0 && (l[0] == '+' || l[0] == '-') {
			if bytes.HasPrefix(l, []byte("--- ")) || bytes.HasPrefix(l, []byte("+++ ")) {
				l, _, _ = bytes.Cut(l, []byte("\t")) // the date behind the name of a file
			}
			fmt.Fprintf(h, "%s\n", l)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// Patched makes fixes of patches, and returns the entries of the changelog that
// tell of none of them: an entry belongs to a patch that it names, or that names
// all of its CVEs.
func Patched(to string, patches []QuiltPatch, entries []Item) ([]*series.Fix, []Item, error) {
	var out []*series.Fix
	taken := make(map[string]bool)
	told := make([]bool, len(entries))
	for _, p := range patches {
		d, err := fix.Parse(p.Name, p.Text)
		if err != nil {
			return nil, nil, err
		}
		d.Title = strings.TrimPrefix(d.Title, "Description: ") // DEP 3
		base := path.Base(p.Name)
		d.ID = strings.TrimLeft(idBytes.ReplaceAllString(strings.TrimSuffix(base, path.Ext(base)), "-"), "._+-")
		d.ID = unused(d.ID, taken)
		f := &series.Fix{Diff: d, Meta: series.Meta{
			ID: d.ID, Title: d.Title, CVEs: d.CVEs, Origin: d.Origin, Update: to, Subsystem: series.Subsystem(d.Files[0].Path),
		}}
		for i, e := range entries {
			why := ""
			switch {
			case namesFile(e.Subject, base):
				why = "it names the patch"
			case len(e.CVEs) > 0 && !slices.ContainsFunc(e.CVEs, func(c string) bool { return !slices.Contains(d.CVEs, c) }):
				why = "the patch names the CVE"
			default:
				continue
			}
			told[i] = true
			f.Entries = append(f.Entries, series.Entry{Subject: e.Subject, CVEs: e.CVEs, Confidence: series.Stated, Why: why})
			f.CVEs = append(f.CVEs, e.CVEs...)
		}
		slices.Sort(f.CVEs)
		f.CVEs = slices.Compact(f.CVEs)
		f.Diff.CVEs = f.CVEs
		out = append(out, f)
	}
	var rest []Item
	for i, e := range entries {
		if !told[i] {
			rest = append(rest, e)
		}
	}
	return out, rest, nil
}

// namesFile tells whether a text names a file, and not one whose name is longer.
// What could be any word is the name of none.
func namesFile(text, name string) bool {
	if !strings.ContainsAny(name, "._-0123456789") {
		return false
	}
	inside := func(c byte) bool { return ctext.IsWord(c) || c == '-' || c == '+' }
	for from := 0; ; {
		k := strings.Index(text[from:], name)
		if k < 0 {
			return false
		}
		k += from
		end := k + len(name)
		more := strings.TrimLeft(text[end:], ".") // it may end a sentence
		if (k == 0 || !inside(text[k-1]) && text[k-1] != '.') && (end == len(text) || !inside(text[end]) && (text[end] != '.' || more == "" || !ctext.IsWord(more[0]))) {
			return true
		}
		from = k + 1
	}
}

var (
	// "CVE-2025-9230 (Out-of-bounds read …)", "Fix CVE-2025-1 and CVE-2025-2: …"
	leading = regexp.MustCompile(`^(?:(?:[Ff]ix(?:es|ed)?|[Aa]ddress(?:es)?|[Pp]atch(?:es)? for|[Bb]ackport (?:of|for|fix for))\s+)?(CVE-\d{4}-\d{4,19}(?:(?:\s*,\s*|\s+and\s+|\s*/\s*|\s+)CVE-\d{4}-\d{4,19})*)[\s:,.;-]*`)
	// An entry about the files in debian/patches and not about what they do.
	housekeeping = regexp.MustCompile(`(?i)\b(upstreamed|refresh(ed)?|rebased?|dropped|removed|applied upstream)\b`)
)

// PackageItems brings the entries of a package's changelog into the form of the
// kernel's: what one tells of a CVE that stands in front is about that CVE. What
// only tells of packaging is left out.
func PackageItems(entries []Item) []Item {
	var out []Item
	for _, e := range entries {
		if m := leading.FindStringSubmatch(e.Subject); m != nil {
			e.CVEs = append(slices.Clone(e.CVEs), cveForm.FindAllString(m[1], -1)...)
			slices.Sort(e.CVEs)
			e.CVEs = slices.Compact(e.CVEs)
			if rest := strings.Trim(strings.TrimSpace(e.Subject[len(m[0]):]), `()"`); rest != "" {
				e.Subject = rest
			}
		}
		if len(e.CVEs) == 0 && housekeeping.MatchString(e.Subject) {
			continue
		}
		out = append(out, e)
	}
	return out
}
