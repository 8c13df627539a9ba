// SPDX-License-Identifier: Apache-2.0

// Package series holds fixes in their order, each with what is known of it:
// what it repairs, how bad that was, where it comes from. It is pure: text in,
// values out, and back.
//
// # A directory of fixes
//
// NAME.diff is the source diff, as git or quilt write it. What is known of it
// stands in a YAML header in front of the diff, between two lines of three
// dashes, the first of which is the first line of the file; or, where the diff
// must stay as it came, in NAME.yaml beside it. Both hold a [Meta]. A file
// series.yaml gives the order and what the fixes are for; without one the
// order is that of the names.
package series

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/fix"
)

// Fix is one fix of a series.
type Fix struct {
	Meta
	Diff *fix.Fix
}

// Meta is what is known of a fix beside its diff. Files and functions that it
// touches are read from the diff and not kept here.
type Meta struct {
	ID         string   `yaml:"id" json:"id"`
	Title      string   `yaml:"title,omitempty" json:"title,omitempty"`
	CVEs       []string `yaml:"cves,omitempty" json:"cves,omitempty"` // ordered
	Advisories []string `yaml:"advisories,omitempty" json:"advisories,omitempty"`
	Severity   Severity `yaml:"severity,omitempty" json:"severity,omitempty"`
	CVSS       string   `yaml:"cvss,omitempty" json:"cvss,omitempty"` // vector, "CVSS:3.1/AV:L/…"
	// Exploited is set when one of the CVEs is in CISA's catalogue of known
	// exploited vulnerabilities (KEV).
	Exploited bool     `yaml:"exploited,omitempty" json:"exploited,omitempty"`
	Origin    string   `yaml:"origin,omitempty" json:"origin,omitempty"`         // upstream commit or URL
	Commit    string   `yaml:"commit,omitempty" json:"commit,omitempty"`         // in the stable tree it was taken from
	Update    string   `yaml:"update,omitempty" json:"update,omitempty"`         // source version that brought it, "6.1.192-1"
	FirstSeen string   `yaml:"first_seen,omitempty" json:"first_seen,omitempty"` // date, 2026-11-14
	Subsystem string   `yaml:"subsystem,omitempty" json:"subsystem,omitempty"`   // "fs/ext4"
	Requires  []string `yaml:"requires,omitempty" json:"requires,omitempty"`     // ids of fixes that must be there too
	// Entries are the changelog entries that the fix was found to carry out.
	Entries []Entry `yaml:"entries,omitempty" json:"entries,omitempty"`
	Note    string  `yaml:"note,omitempty" json:"note,omitempty"`
}

// Entry attributes one entry of a changelog to a fix.
type Entry struct {
	Subject    string     `yaml:"subject" json:"subject"`
	CVEs       []string   `yaml:"cves,omitempty" json:"cves,omitempty"`
	Confidence Confidence `yaml:"confidence" json:"confidence"`
	Why        string     `yaml:"why,omitempty" json:"why,omitempty"` // what the subject and the diff have in common
}

// Confidence says how sure an attribution is.
type Confidence string

const (
	Stated   Confidence = "stated"   // the source says so: a commit, a header, an operator
	Certain  Confidence = "certain"  // names that only this fix has
	Likely   Confidence = "likely"   // it fits best by far
	Possible Confidence = "possible" // it fits, and so do others
)

// Severity as CVSS words it (section 5 of the 3.1 specification).
type Severity string

const (
	Unknown  Severity = ""
	Low      Severity = "low"
	Medium   Severity = "medium"
	High     Severity = "high"
	Critical Severity = "critical"
)

// Rank orders severities; an unknown one is the lowest.
func (s Severity) Rank() int {
	return slices.Index([]Severity{Unknown, Low, Medium, High, Critical}, s)
}

// PossibleCVEs lists those of the fix's CVEs, ordered, that only a possible
// attribution gives it.
func (m *Meta) PossibleCVEs() []string {
	var out []string
	for _, c := range m.CVEs {
		possible := false
		for _, e := range m.Entries {
			if slices.Contains(e.CVEs, c) {
				if possible = e.Confidence == Possible; !possible {
					break
				}
			}
		}
		if possible {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Doubt is a CVE of which it is not sure that the fixes that carry it are its
// own: a person should look at them.
type Doubt struct {
	CVE      string   `json:"cve"`
	Severity Severity `json:"severity,omitempty"` // the worst of the fixes
	Fixes    []string `json:"fixes"`
	Subject  string   `json:"subject,omitempty"` // of the changelog's entry
	Why      string   `json:"why,omitempty"`
}

// Doubts lists the CVEs that have nothing but possible attributions, the most
// severe first.
func Doubts(fixes []*Meta) []Doubt {
	at := map[string]*Doubt{}
	sure := map[string]bool{}
	for _, f := range fixes {
		possible := f.PossibleCVEs()
		for _, c := range f.CVEs {
			if !slices.Contains(possible, c) {
				sure[c] = true
				continue
			}
			d := at[c]
			if d == nil {
				d = &Doubt{CVE: c}
				at[c] = d
			}
			d.Fixes = append(d.Fixes, f.ID)
			if f.Severity.Rank() > d.Severity.Rank() {
				d.Severity = f.Severity
			}
			if i := slices.IndexFunc(f.Entries, func(e Entry) bool { return slices.Contains(e.CVEs, c) }); d.Subject == "" {
				d.Subject, d.Why = f.Entries[i].Subject, f.Entries[i].Why
			}
		}
	}
	var out []Doubt
	for c, d := range at {
		if !sure[c] {
			out = append(out, *d)
		}
	}
	slices.SortFunc(out, func(a, b Doubt) int {
		return cmp.Or(cmp.Compare(b.Severity.Rank(), a.Severity.Rank()), cmp.Compare(a.CVE, b.CVE))
	})
	return out
}

// Doubts lists those of the series.
func (s *Series) Doubts() []Doubt {
	metas := make([]*Meta, len(s.Fixes))
	for i, f := range s.Fixes {
		metas[i] = &f.Meta
	}
	return Doubts(metas)
}

// Series is fixes in the order in which they are applied.
type Series struct {
	Name string `yaml:"name,omitempty" json:"name,omitempty"`
	// From and To are the source versions between which an update's fixes lie.
	From  string `yaml:"from,omitempty" json:"from,omitempty"`
	To    string `yaml:"to,omitempty" json:"to,omitempty"`
	Fixes []*Fix `yaml:"-" json:"-"`
	// Unattributed are changelog entries that no fix could be found for.
	Unattributed []Entry `yaml:"unattributed,omitempty" json:"unattributed,omitempty"`
	// Formatted is how many files were only laid out anew, or had comments
	// changed. They are in no fix.
	Formatted int `yaml:"formatted,omitempty" json:"formatted,omitempty"`
}

// Fix returns the fix with an id, or nil.
func (s *Series) Fix(id string) *Fix {
	i := slices.IndexFunc(s.Fixes, func(f *Fix) bool { return f.ID == id })
	if i < 0 {
		return nil
	}
	return s.Fixes[i]
}

// CVEs lists the CVE ids of all fixes, ordered.
func (s *Series) CVEs() []string {
	var out []string
	for _, f := range s.Fixes {
		out = append(out, f.CVEs...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Digest names fixes in an order by what they change, not by what is known of
// them: a corrected title is no other live patch.
func Digest(fixes []*Fix) string {
	h := sha256.New()
	for _, f := range fixes {
		fmt.Fprintf(h, "%q %d\n", f.ID, len(f.Diff.Raw))
		_, _ = h.Write(f.Diff.Raw) // a hash takes everything
	}
	return hex.EncodeToString(h.Sum(nil))
}
