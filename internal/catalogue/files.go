// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/cve"
	"github.com/tsugi-project/tsugi/internal/series"
)

// holdAgainst compares what an update's CVEs are attributed to with the files
// that their records name, where feeds brought some. A file that the record
// names and the update changes, but none of the fixes that carry the CVE, is
// half of its repair: the only fix that changes it carries the CVE too, as
// possible; of several none is picked, and the entry is listed with those that
// are not attributed.
func holdAgainst(s *series.Series, records map[string]cve.Record) {
	byFile := make(map[string][]*series.Fix)
	for _, f := range s.Fixes {
		for _, p := range f.Paths() {
			byFile[p] = append(byFile[p], f)
		}
	}
	for _, id := range updateCVEs(s) {
		r, ok := records[id]
		if !ok || r.Rejected {
			continue
		}
		carriers, entry, stated := carriersOf(s, id)
		if stated {
			continue
		}
		for _, path := range r.Files {
			changing := byFile[path]
			if len(changing) == 0 || slices.ContainsFunc(changing, func(f *series.Fix) bool { return slices.Contains(carriers, f) }) {
				continue
			}
			e := series.Entry{Subject: entry.Subject, CVEs: []string{id}, Confidence: series.Possible}
			if len(changing) > 1 {
				e.Why = fmt.Sprintf("the record of %s names %s, which %d fixes change, and none of those that carry it", id, path, len(changing))
				s.Unattributed = append(s.Unattributed, e)
				continue
			}
			e.Why = fmt.Sprintf("the record of %s names %s, which only this fix changes", id, path)
			carry(changing[0], e)
			carriers = append(carriers, changing[0])
		}
		if len(carriers) > 0 { // it was attributed to nothing
			s.Unattributed = slices.DeleteFunc(s.Unattributed, func(e series.Entry) bool {
				return e.Subject == entry.Subject && len(e.CVEs) == 1 && e.CVEs[0] == id && e.Why == entry.Why
			})
		}
	}
}

// updateCVEs lists the CVEs of fixes and of entries that belong to none.
func updateCVEs(s *series.Series) []string {
	out := s.CVEs()
	for _, e := range s.Unattributed {
		out = append(out, e.CVEs...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// carriersOf finds the fixes that carry a CVE, the entry that names it, and
// whether someone has stated where it belongs.
func carriersOf(s *series.Series, id string) (carriers []*series.Fix, entry series.Entry, stated bool) {
	names := func(e series.Entry) bool { return slices.Contains(e.CVEs, id) }
	for _, f := range s.Fixes {
		if !slices.Contains(f.CVEs, id) {
			continue
		}
		carriers = append(carriers, f)
		i := slices.IndexFunc(f.Entries, names)
		stated = stated || i < 0 || f.Entries[i].Confidence == series.Stated
		if i >= 0 && entry.Subject == "" {
			entry = f.Entries[i]
		}
	}
	if i := slices.IndexFunc(s.Unattributed, names); len(carriers) == 0 && i >= 0 {
		entry = s.Unattributed[i]
		stated = entry.Confidence == series.Stated
	}
	return carriers, entry, stated
}

// carry adds an entry to a fix.
func carry(f *series.Fix, e series.Entry) {
	f.Entries = append(f.Entries, e)
	f.CVEs = append(f.CVEs, e.CVEs...)
	slices.Sort(f.CVEs)
	f.CVEs = slices.Compact(f.CVEs)
	f.Diff.CVEs = f.CVEs
	if f.Title == "" {
		f.Title = e.Subject
		f.Diff.Title = f.Title
	}
}
