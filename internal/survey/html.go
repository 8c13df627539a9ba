// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/series"
)

//go:embed report.html
var page string

// HTML is the report as one page that needs nothing else: it can be mailed,
// printed and read years later.
func (r *Report) HTML() ([]byte, error) {
	t, err := template.New("report").Funcs(template.FuncMap{
		"outcome": outcomeWord, "join": strings.Join, "source": func(f Fix) string { return f.source() },
		"name": func(f Fix) string { return f.name() }, "first": firstReason,
	}).Parse(page)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, r.view()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// view is what the page shows.
type view struct {
	*Report
	What                  string // the update, or the series' name
	Main                  Tally  // what the headline is about
	Noun                  string
	Totals, Reasons       template.HTML
	Severities, Subsystem template.HTML
	OpenCVEs, OtherCVEs   []CVE
	OpenFixes, OtherFixes []Fix
}

func (r *Report) view() *view {
	s := r.Summary
	v := &view{Report: r, What: r.Name, Main: s.CVEs, Noun: "vulnerabilities (CVEs)"}
	if r.To != "" {
		v.What = r.From + " → " + r.To
	}
	if s.CVEs.Total() == 0 {
		v.Main, v.Noun = s.Fixes, "fixes"
	}
	var totals []bar
	for _, x := range []struct {
		label string
		tally Tally
	}{{"CVEs", s.CVEs}, {"fixes with a CVE", s.Security}, {"all fixes", s.Fixes}, {"changed files", s.Files}} {
		if x.tally.Total() > 0 {
			totals = append(totals, tallyBar(x.label, x.tally))
		}
	}
	v.Totals = bars("verdicts", totals, true)
	v.Reasons = r.reasonChart()
	v.Severities = r.severityChart()
	v.Subsystem = r.subsystemChart()
	for _, c := range r.CVEs {
		if c.Verdict == Reboot || c.Verdict == Failed {
			v.OpenCVEs = append(v.OpenCVEs, c)
		} else {
			v.OtherCVEs = append(v.OtherCVEs, c)
		}
	}
	slices.SortStableFunc(v.OpenCVEs, func(a, b CVE) int { return cmp.Compare(b.Severity.Rank(), a.Severity.Rank()) })
	for _, f := range r.Fixes {
		if f.Outcome == Reboot || f.Outcome == Failed {
			v.OpenFixes = append(v.OpenFixes, f)
		} else {
			v.OtherFixes = append(v.OtherFixes, f)
		}
	}
	return v
}

// reasonChart shows how often each code was given.
func (r *Report) reasonChart() template.HTML {
	var list []bar
	for _, c := range r.Codes[:min(len(r.Codes), 20)] {
		list = append(list, bar{
			label: string(c.Code) + "  " + clip(c.Title, 27), sub: c.Title,
			parts: []part{{"alone", c.Only, "fixes, the only reason"}, {"among", c.Fixes - c.Only, "fixes, among other reasons"}},
			note:  fmt.Sprintf("%d (%d CVEs)", c.Fixes, c.CVEs),
		})
	}
	return bars("reasons for a reboot", list, false)
}

func (r *Report) severityChart() template.HTML {
	byWord := map[series.Severity]*Tally{}
	for _, c := range r.CVEs {
		if byWord[c.Severity] == nil {
			byWord[c.Severity] = &Tally{}
		}
		byWord[c.Severity].add(c.Verdict, c.Served)
	}
	if len(byWord) < 2 {
		return ""
	}
	var list []bar
	for _, w := range []series.Severity{series.Critical, series.High, series.Medium, series.Low, series.Unknown} {
		if t := byWord[w]; t != nil && t.Built() > 0 {
			list = append(list, tallyBar(string(cmp.Or(w, "not rated")), *t))
		}
	}
	return bars("CVEs by severity", list, false)
}

// subsystemChart shows the parts of the kernel with the most fixes.
func (r *Report) subsystemChart() template.HTML {
	by := map[string]*Tally{}
	for _, f := range r.Fixes {
		s := cmp.Or(f.Subsystem, subsystem(f.Files))
		if by[s] == nil {
			by[s] = &Tally{}
		}
		by[s].add(f.Outcome, f.Served)
	}
	names := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		return cmp.Or(cmp.Compare(by[b].Built(), by[a].Built()), cmp.Compare(a, b))
	})
	var list []bar
	for _, n := range names[:min(len(names), 16)] {
		if by[n].Built() > 0 {
			list = append(list, tallyBar(n, *by[n]))
		}
	}
	return bars("fixes by subsystem", list, false)
}

// subsystem is where most would look for a file: two directories below
// drivers, one elsewhere.
func subsystem(files []string) string {
	if len(files) == 0 {
		return ""
	}
	d := strings.Split(path.Dir(files[0]), "/")
	return strings.Join(d[:min(len(d), 2)], "/")
}

func clip(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return strings.TrimSpace(string(r[:n])) + "…"
}

func outcomeWord(o Outcome, served bool) string {
	switch {
	case o == Reboot && served:
		return "reboot or module"
	case o == NotAffected:
		return "not affected"
	case o == Unknown:
		return "not judged yet"
	}
	return string(o)
}

// name is what people call a fix.
func (f *Fix) name() string {
	if f.Title == "" && len(f.Entries) > 0 {
		return f.Entries[0].Subject
	}
	return f.Title
}

func (f *Fix) source() string {
	if len(f.Reasons) > 0 {
		return cmp.Or(f.Reasons[0].Source, f.Reasons[0].Object)
	}
	return ""
}

// firstReason is the first reason in one line, and how many more there are.
func firstReason(f Fix) string {
	if len(f.Reasons) == 0 {
		return ""
	}
	s := f.Reasons[0].line()
	if n := len(f.Reasons) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}
