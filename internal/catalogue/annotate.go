// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"github.com/tsugi-project/tsugi/internal/cve"
	"github.com/tsugi-project/tsugi/internal/series"
)

// annotate fills in what feeds told of the CVEs of fixes: the worst severity
// with its vector, and whether one is known to be exploited. What a header or
// a correction says stays.
func (c *Catalogue) annotate(s *series.Series) error {
	records, err := c.Records(s.CVEs())
	if err != nil {
		return err
	}
	for _, f := range s.Fixes {
		stated := f.Severity != series.Unknown || f.CVSS != ""
		best := 0.0
		for _, id := range f.CVEs {
			r, ok := records[id]
			if !ok || r.Rejected {
				continue
			}
			f.Exploited = f.Exploited || r.Exploited
			if sev := series.Severity(r.Severity); !stated && (sev.Rank() > f.Severity.Rank() || sev == f.Severity && r.Score > best) {
				f.Severity, f.CVSS, best = sev, r.CVSS, r.Score
			}
		}
		if f.Severity == series.Unknown && f.CVSS != "" { // a vector without its word
			if v, err := cve.ParseVector(f.CVSS); err == nil {
				f.Severity = series.Severity(v.Severity)
			}
		}
	}
	return nil
}
