// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// Record is what is known of one vulnerability, from one feed or several.
type Record struct {
	ID        string  `json:"id"`
	Title     string  `json:"title,omitempty"`
	Published string  `json:"published,omitempty"` // date, 2026-11-14
	CVSS      string  `json:"cvss,omitempty"`      // vector
	Score     float64 `json:"score,omitempty"`     // base score of the vector, or as the feed has it
	Severity  string  `json:"severity,omitempty"`  // of the score
	Exploited bool    `json:"exploited,omitempty"` // it is in KEV
	Rejected  bool    `json:"rejected,omitempty"`
	// Commits pairs what introduced the flaw with what fixed it, one pair for
	// each branch; either may be "".
	Commits []Pair   `json:"commits,omitempty"`
	Files   []string `json:"files,omitempty"` // paths that the record names
}

// Pair is where a flaw came into a branch and where it left.
type Pair struct {
	Introduced string `json:"introduced,omitempty"`
	Fixed      string `json:"fixed,omitempty"`
}

var (
	idForm     = regexp.MustCompile(`^CVE-\d{4}-\d{4,19}$`)
	commitForm = regexp.MustCompile(`^[0-9a-f]{12,40}$`)
	dateForm   = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}`)
)

// ValidID tells whether a text is a CVE id.
func ValidID(s string) bool { return idForm.MatchString(s) }

// Merge joins two records of one vulnerability. What the newer one says wins;
// what it is silent on stays; commits and files add up.
func (r Record) Merge(newer Record) Record {
	r.Title = cmp.Or(newer.Title, r.Title)
	r.Published = cmp.Or(newer.Published, r.Published)
	if newer.CVSS != "" || newer.Score > 0 && r.CVSS == "" {
		r.CVSS, r.Score, r.Severity = newer.CVSS, newer.Score, newer.Severity
	} else if r.Severity == "" {
		r.Severity = newer.Severity
	}
	r.Exploited = r.Exploited || newer.Exploited
	r.Rejected = newer.Rejected || r.Rejected && newer.Title == "" && newer.CVSS == ""
	r.Commits = append(slices.Clone(r.Commits), newer.Commits...)
	r.Files = append(slices.Clone(r.Files), newer.Files...)
	r.order()
	return r
}

// order sorts what has no order of its own, for records that compare.
func (r *Record) order() {
	slices.SortFunc(r.Commits, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(a.Fixed, b.Fixed), cmp.Compare(a.Introduced, b.Introduced))
	})
	r.Commits = slices.Compact(r.Commits)
	slices.Sort(r.Files)
	r.Files = slices.Compact(r.Files)
}

// FixedBy tells whether a commit is one that fixed the flaw. Either id may be
// abbreviated to 12 digits or more.
func (r *Record) FixedBy(commit string) bool {
	return slices.ContainsFunc(r.Commits, func(p Pair) bool {
		return len(p.Fixed) >= 12 && len(commit) >= 12 && (strings.HasPrefix(p.Fixed, commit) || strings.HasPrefix(commit, p.Fixed))
	})
}

// rate sets the score that a vector comes to, and says whether it is one.
func (r *Record) rate(vector string) bool {
	s, err := ParseVector(vector)
	if err != nil {
		return false
	}
	// 3.1 is what most feeds have and what policies are written for; a 4.0
	// vector counts where there is no other.
	if old, err := ParseVector(r.CVSS); err == nil && (old.Version == s.Version || old.Version == "3.1" || s.Version == "4.0") {
		return true
	}
	r.CVSS, r.Score, r.Severity = vector, s.Base, s.Severity
	return true
}

func date(s string) string { return dateForm.FindString(s) }

// line makes one line of a feed's text, without control characters.
func line(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	if len(s) > 500 {
		s = strings.ToValidUTF8(s[:500], "") + "…"
	}
	return strings.ToValidUTF8(s, "�")
}
