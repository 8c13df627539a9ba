// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"cmp"
	"maps"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/series"
)

// schema is the version of a report's JSON.
const schema = 1

// Report is what a survey found.
type Report struct {
	Schema  int                 `json:"schema"`
	Target  livepatch.TargetRef `json:"target"`
	Name    string              `json:"name,omitempty"` // of the series
	From    string              `json:"from,omitempty"`
	To      string              `json:"to,omitempty"`
	Engine  string              `json:"engine"`
	Made    string              `json:"made,omitempty"` // date, 2026-11-22
	Summary Summary             `json:"summary"`
	CVEs    []CVE               `json:"cves"`
	Fixes   []Fix               `json:"fixes"`
	Codes   []CodeCount         `json:"codes"`
	// Unattributed are entries of the changelog that no fix was found for.
	Unattributed []series.Entry `json:"unattributed,omitempty"`
}

// Fix is one fix with its verdict.
type Fix struct {
	series.Meta
	Files []string `json:"files"`
	*Verdict
	Before Outcome `json:"before,omitempty"` // what an earlier engine said
	Known  bool    `json:"known"`            // found by an earlier survey
	// Engine found the verdict, when it was another one than the report's.
	Engine string `json:"engine,omitempty"`
}

// CVE is what the update means for one CVE on the target.
type CVE struct {
	ID       string          `json:"id"`
	Severity series.Severity `json:"severity,omitempty"`
	// Exploited: the CVE is known to be exploited.
	Exploited bool    `json:"exploited,omitempty"`
	Verdict   Outcome `json:"verdict"`
	// Served: what of it is not live is served by modules that are put in place.
	Served  bool        `json:"served_by_module,omitempty"`
	Fixes   []string    `json:"fixes"`
	Codes   []code.Code `json:"codes,omitempty"` // why it is not live
	Subject string      `json:"subject,omitempty"`
	// Confidence is how sure it is that these fixes are those of the CVE.
	Confidence series.Confidence `json:"confidence,omitempty"`
}

// Tally counts verdicts.
type Tally struct {
	Live        int `json:"live"`
	Served      int `json:"served_by_module"` // of those that need a reboot
	Reboot      int `json:"reboot"`
	Failed      int `json:"error"`
	NotAffected int `json:"not_affected"`
	Unknown     int `json:"unknown,omitempty"` // not judged yet
}

// Total is all that was counted.
func (t Tally) Total() int { return t.Built() + t.NotAffected + t.Unknown }

// Built is what the target has.
func (t Tally) Built() int { return t.Live + t.Reboot + t.Failed }

// Share is how much of what is built is live, in percent; 100 of nothing.
func (t Tally) Share() float64 {
	if t.Built() == 0 {
		return 100
	}
	return 100 * float64(t.Live) / float64(t.Built())
}

func (t *Tally) add(o Outcome, served bool) {
	switch o {
	case Live:
		t.Live++
	case Reboot:
		t.Reboot++
		if served {
			t.Served++
		}
	case NotAffected:
		t.NotAffected++
	case Unknown:
		t.Unknown++
	default:
		t.Failed++
	}
}

// Summary is the survey in numbers.
type Summary struct {
	Fixes    Tally `json:"fixes"`
	Security Tally `json:"security_fixes"` // fixes that carry a CVE
	CVEs     Tally `json:"cves"`
	Files    Tally `json:"files"` // changed files, by the verdict of their fix
	Changed  int   `json:"changed_by_engine"`
}

// CodeCount is how often one reason was given. A fix or CVE counts once for
// each code that it has.
type CodeCount struct {
	Code  code.Code `json:"code"`
	Title string    `json:"title"`
	Fixes int       `json:"fixes"`
	CVEs  int       `json:"cves"`
	// Only counts the fixes that this code alone keeps from being live.
	Only int `json:"only"`
	// OnlyCVEs counts the same for fixes that carry a CVE.
	OnlyCVEs int `json:"only_security_fixes"`
}

func (w *walk) report() *Report {
	s, t := w.req.Series, w.req.Target
	r := &Report{
		Schema: schema, Name: s.Name, From: s.From, To: s.To, Engine: w.req.Engine, Made: w.req.Made, Unattributed: s.Unattributed,
		Target: livepatch.TargetRef{
			Name: t.Name, Release: t.Release, PackageVersion: t.PackageVersion, Arch: t.Arch, BuildID: t.BuildID, ConfigDigest: t.ConfigDigest,
		},
	}
	for i, f := range s.Fixes {
		x := Fix{Meta: f.Meta, Verdict: w.found[i].Verdict, Before: w.found[i].Before, Known: !w.fresh[i] && w.found[i].Verdict.Outcome != Unknown}
		if e := w.found[i].Engine; e != w.req.Engine {
			x.Engine = e
		}
		for _, d := range f.Diff.Files {
			x.Files = append(x.Files, d.Path)
		}
		r.Fixes = append(r.Fixes, x)
	}
	r.count()
	return r
}

// count fills in all that follows from the fixes.
func (r *Report) count() {
	for _, f := range r.Fixes {
		r.Summary.Fixes.add(f.Outcome, f.Served)
		if len(f.CVEs) > 0 {
			r.Summary.Security.add(f.Outcome, f.Served)
		}
		r.countFiles(f)
		if f.Before != "" {
			r.Summary.Changed++
		}
	}
	r.CVEs = group(r.Fixes)
	for _, c := range r.CVEs {
		r.Summary.CVEs.add(c.Verdict, c.Served)
	}
	r.Codes = r.countCodes()
}

// countFiles counts a fix's files; those that this target does not build have
// a verdict of their own.
func (r *Report) countFiles(f Fix) {
	unbuilt := map[string]bool{}
	for _, u := range f.Unbuilt {
		unbuilt[u.Path] = true
	}
	for _, p := range f.Files {
		if unbuilt[p] {
			r.Summary.Files.add(NotAffected, false)
		} else {
			r.Summary.Files.add(f.Outcome, f.Served)
		}
	}
}

// group says what the fixes mean for each CVE: it is live when all of its
// fixes that the target has are.
func group(fixes []Fix) []CVE {
	byID := map[string]*CVE{}
	for _, f := range fixes {
		for _, id := range f.CVEs {
			c := byID[id]
			if c == nil {
				c = &CVE{ID: id, Verdict: NotAffected, Served: true}
				byID[id] = c
			}
			c.Fixes = append(c.Fixes, f.ID)
			c.Exploited = c.Exploited || f.Exploited
			if f.Severity.Rank() > c.Severity.Rank() {
				c.Severity = f.Severity
			}
			c.entry(f, id)
			c.judge(f)
		}
	}
	var out []CVE
	for _, id := range slices.SortedFunc(maps.Keys(byID), compareCVEs) {
		c := byID[id]
		c.Served = c.Served && c.Verdict == Reboot
		slices.Sort(c.Codes)
		c.Codes = slices.Compact(c.Codes)
		out = append(out, *c)
	}
	return out
}

// Doubts lists the CVEs of which it is not sure that these fixes are theirs,
// the most severe first.
func (r *Report) Doubts() []series.Doubt {
	metas := make([]*series.Meta, len(r.Fixes))
	for i := range r.Fixes {
		metas[i] = &r.Fixes[i].Meta
	}
	return series.Doubts(metas)
}

// entry takes the subject and the confidence of the changelog's entry; of
// several confidences the least.
func (c *CVE) entry(f Fix, id string) {
	order := []series.Confidence{series.Stated, series.Certain, series.Likely, series.Possible}
	for _, e := range f.Entries {
		if slices.Contains(e.CVEs, id) {
			c.Subject = cmp.Or(c.Subject, e.Subject)
			if slices.Index(order, e.Confidence) > slices.Index(order, c.Confidence) {
				c.Confidence = e.Confidence
			}
		}
	}
}

func (c *CVE) judge(f Fix) {
	rank := []Outcome{NotAffected, Live, Unknown, Reboot, Failed}
	if slices.Index(rank, f.Outcome) > slices.Index(rank, c.Verdict) {
		c.Verdict = f.Outcome
	}
	if f.Outcome == Reboot || f.Outcome == Failed {
		c.Served = c.Served && f.Served
		for _, x := range f.Reasons {
			c.Codes = append(c.Codes, x.Code)
		}
	}
}

// compareCVEs orders by year and number, not by letters: CVE-2026-9999 is
// before CVE-2026-10000.
func compareCVEs(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func (r *Report) countCodes() []CodeCount {
	byCode := map[code.Code]*CodeCount{}
	get := func(x code.Code) *CodeCount {
		if byCode[x] == nil {
			e, _ := code.Lookup(x)
			byCode[x] = &CodeCount{Code: x, Title: e.Title}
		}
		return byCode[x]
	}
	for _, f := range r.Fixes {
		codes := f.codes()
		for _, x := range codes {
			n := get(x)
			n.Fixes++
			if len(codes) == 1 {
				n.Only++
				if len(f.CVEs) > 0 {
					n.OnlyCVEs++
				}
			}
		}
	}
	for _, c := range r.CVEs {
		for _, x := range c.Codes {
			get(x).CVEs++
		}
	}
	var out []CodeCount
	for _, c := range byCode {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b CodeCount) int {
		return cmp.Or(cmp.Compare(b.Fixes, a.Fixes), cmp.Compare(a.Code, b.Code))
	})
	return out
}

// codes are the different codes of the reasons against a fix.
func (f *Fix) codes() []code.Code {
	var out []code.Code
	if f.Outcome == Reboot || f.Outcome == Failed {
		for _, x := range f.Reasons {
			out = append(out, x.Code)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
