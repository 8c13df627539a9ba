// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
)

type cvesInput struct {
	Query     string `query:"q" maxLength:"255" doc:"part of the name or of a fix's title"`
	Policy    string `query:"policy" maxLength:"63" doc:"by whose choice; the default policy's if empty"`
	Target    string `query:"target" maxLength:"255" doc:"only those of which anything is known there, and only this column"`
	State     string `query:"state" enum:"reboot,build,excluded,possible,module,live,not-affected" doc:"only those that stand so on a target"`
	Severity  string `query:"severity" enum:"low,medium,high,critical" doc:"at least this severe"`
	Exploited bool   `query:"exploited" doc:"only those known to be exploited"`
	Open      bool   `query:"open" doc:"only those open on a machine on which somebody should do something"`
	Page
}

type cveInput struct {
	CVE    string `path:"cve" pattern:"^[Cc][Vv][Ee]-[0-9]{4}-[0-9]{4,19}$" maxLength:"40"`
	Policy string `query:"policy" maxLength:"63" doc:"by whose choice; the default policy's if empty"`
}

func (s *Server) cveOperations(o *operations) {
	answer(o, op{id: "list-cves", method: "GET", path: "/v1/cves", summary: "Vulnerabilities by target: live, needs a reboot, excluded, not affected; the gravest first", may: look, scoped: true},
		func(ctx context.Context, who operator, in *cvesInput) (api.CVEList, error) {
			return s.cves(ctx, in, who.limit())
		})
	answer(o, op{id: "get-cve", method: "GET", path: "/v1/cves/{cve}", summary: "One vulnerability: its fixes with their diffs, live patches, and the machines that have it", may: look, scoped: true},
		func(ctx context.Context, who operator, in *cveInput) (api.CVEDetail, error) {
			return s.cve(ctx, in, who.limit())
		})
}

// limit says what of the fleet a caller may see: the machines of the groups that
// it is true for, and all of them if it is nil.
func (o operator) limit() func(group string) bool {
	if o.may.Whole() {
		return nil
	}
	return o.sees
}

// fits says whether a line is asked for, State aside.
func (in *cvesInput) fits(r *matrixRow, words string, work map[string]int) bool {
	switch {
	case words != "" && !strings.Contains(r.words, words):
	case in.Severity != "" && series.Severity(r.Severity).Rank() < series.Severity(in.Severity).Rank():
	case in.Exploited && !r.Exploited:
	case in.Open && work[r.CVE.CVE] == 0:
	case in.Target != "" && !slices.ContainsFunc(r.Targets, func(c api.TargetCVE) bool { return c.Target == in.Target }):
	default:
		return true
	}
	return false
}

// shown are the cells of a line that are asked for.
func (in *cvesInput) shown(r *matrixRow) []api.TargetCVE {
	if in.Target == "" {
		return r.Targets
	}
	i := slices.IndexFunc(r.Targets, func(c api.TargetCVE) bool { return c.Target == in.Target })
	return r.Targets[i : i+1]
}

// cves lists a page of the matrix. sees limits the machines that are counted to
// those of some groups; nil: all.
func (s *Server) cves(ctx context.Context, in *cvesInput, sees func(group string) bool) (api.CVEList, error) {
	m, err := s.matrixOf(ctx, in.Policy)
	if err != nil {
		return api.CVEList{}, err
	}
	counted := s.metrics.fleet.counts(ctx)
	open, work, err := s.opened(ctx, counted, sees)
	if err != nil {
		return api.CVEList{}, err
	}
	out := api.CVEList{
		Items: []api.CVE{}, Targets: m.targets, States: map[api.Coverage]int{}, Policy: m.policy, Counted: counted.at.UnixMilli(),
	}
	if in.Target != "" {
		out.Targets = []string{in.Target}
	} else if out.Targets == nil {
		out.Targets = []string{}
	}
	words := strings.ToLower(strings.TrimSpace(in.Query))
	begun := in.After == ""
	for _, r := range m.rows {
		if !in.fits(r, words, work) {
			continue
		}
		cells := in.shown(r)
		worst := api.CoverNone
		asked := in.State == ""
		for _, c := range cells {
			if graverState(c.State, worst) {
				worst = c.State
			}
			asked = asked || string(c.State) == in.State
		}
		out.States[worst]++
		if !asked {
			continue
		}
		out.Total++
		switch {
		case !begun:
			begun = r.CVE.CVE == in.After
		case len(out.Items) == in.Limit:
			out.Next = out.Items[in.Limit-1].CVE
		default:
			out.Items = append(out.Items, lineOf(r, cells, open, work))
		}
	}
	return out, nil
}

// lineOf is a line of the matrix with the machines.
func lineOf(r *matrixRow, cells []api.TargetCVE, open map[openKey]int, work map[string]int) api.CVE {
	line := r.CVE
	line.Machines = work[line.CVE]
	line.Targets = slices.Clone(cells)
	for i := range line.Targets {
		c := &line.Targets[i]
		for _, need := range api.Needs() {
			if n := open[openKey{line.CVE, shortOf(c.Target), need}]; n > 0 {
				if c.Open == nil {
					c.Open = map[api.Need]int{}
				}
				c.Open[need] = n
			}
		}
	}
	return line
}

// cve says all that is known of one.
func (s *Server) cve(ctx context.Context, in *cveInput, sees func(group string) bool) (api.CVEDetail, error) {
	m, err := s.matrixOf(ctx, in.Policy)
	if err != nil {
		return api.CVEDetail{}, err
	}
	counted := s.metrics.fleet.counts(ctx)
	open, work, err := s.opened(ctx, counted, sees)
	if err != nil {
		return api.CVEDetail{}, err
	}
	name := strings.ToUpper(in.CVE)
	out := api.CVEDetail{Policy: m.policy, Open: map[api.Need]int{}, Fixes: []api.CVEFix{}, Patches: []api.LivePatch{}, Counted: counted.at.UnixMilli()}
	r := m.byCVE[name]
	if r == nil { // nothing is known of it: an answer, too
		r = &matrixRow{CVE: api.CVE{CVE: name}}
	}
	out.CVE = lineOf(r, r.Targets, open, work)
	if out.Targets == nil {
		out.Targets = []api.TargetCVE{}
	}
	if err := s.stillOpen(ctx, counted, m, sees, name, &out); err != nil {
		return out, err
	}
	for _, target := range m.targets {
		if chosen := m.series[target]; chosen != nil {
			for _, f := range chosen.Series.Fixes {
				if slices.Contains(f.CVEs, name) {
					out.Fixes = append(out.Fixes, fixOfCVE(target, name, f, chosen.Facts[f.ID].Verdict, chosen.Facts[f.ID].Code, chosen.Facts[f.ID].Why))
				}
			}
		}
	}
	rows, err := s.store.LivePatches(ctx, store.LivePatchFilter{CVE: name, Bare: true, Limit: 50})
	for _, p := range rows {
		out.Patches = append(out.Patches, livePatchOf(p))
	}
	return out, err
}

// placeOfCVE says how a vulnerability stands in a kernel or a package.
type placeOfCVE int

const (
	placeUnaffected placeOfCVE = iota // nothing that is there is changed by its fix
	placeUnknown
	placeFixed
	placeOpen
)

// knownCVE is what is known of a vulnerability and targets.
type knownCVE struct {
	name     string
	targets  map[string]bool // releases of which anything is known at all
	fixable  map[string]bool // releases that have it as long as no live patch is there
	packages bool            // some of them are packages
}

func (m *matrix) knownOf(name string, cells []api.TargetCVE) knownCVE {
	k := knownCVE{name: name, targets: map[string]bool{}, fixable: map[string]bool{}}
	for _, t := range m.targets {
		k.targets[shortOf(t)] = true
	}
	for _, t := range cells { // it is known there that it has it
		if t.State != api.CoverNone {
			k.fixable[shortOf(t.Target)] = true
			k.packages = k.packages || releaseOf(t.Target) == ""
		}
	}
	return k
}

// standsAt says how a vulnerability stands where a live patch runs, or none.
func (s *Server) standsAt(ctx context.Context, k *knownCVE, release, runs string) (placeOfCVE, error) {
	c, err := s.coverOf(ctx, runs)
	switch {
	case err != nil:
		return placeUnknown, err
	case c != nil && len(c.held[k.name]) > 0:
		return placeFixed, nil
	case !k.targets[release] || k.fixable[release]: // a live patch for it has it, and it is given none
		return placeUnknown, nil
	}
	return placeUnaffected, nil
}

// standsOn says how a vulnerability stands on machines, and what is open of it: the
// gravest of their kernel and packages. A machine names only the packages that
// its tier has live patches for: that it names none of those that the
// vulnerability is known of does not tell that it has none.
func (s *Server) standsOn(ctx context.Context, k *knownCVE, at situation) (placeOfCVE, *api.OpenCVE, error) {
	all, err := s.exposed(ctx, at)
	if err != nil {
		return placeUnknown, nil, err
	}
	if worst := all.of(k.name); worst != nil {
		return placeOpen, worst, nil
	}
	found, err := s.standsAt(ctx, k, at.release, at.runs)
	if err != nil {
		return placeUnknown, nil, err
	}
	concerned := false
	for _, p := range at.packages.each() {
		if !k.fixable[shortOf(p.target)] {
			continue
		}
		concerned = true
		here, err := s.standsAt(ctx, k, shortOf(p.target), p.runs)
		if err != nil {
			return placeUnknown, nil, err
		}
		found = max(found, here)
	}
	if k.packages && !concerned {
		found = max(found, placeUnknown)
	}
	return found, nil, nil
}

// stillOpen counts the machines.
func (s *Server) stillOpen(ctx context.Context, c *census, m *matrix, sees func(group string) bool, name string, out *api.CVEDetail) error {
	k := m.knownOf(name, out.Targets)
	type answer struct {
		place placeOfCVE
		open  *api.OpenCVE
	}
	has := map[situation]answer{}
	for h, n := range c.herds {
		if sees != nil && !sees(h.group) {
			continue
		}
		out.Fleet += n
		a, looked := has[h.at]
		if !looked {
			var err error
			if a.place, a.open, err = s.standsOn(ctx, &k, h.at); err != nil {
				return err
			}
			has[h.at] = a
		}
		switch a.place {
		case placeUnaffected:
			out.NotAffected += n
		case placeUnknown:
			out.Unknown += n
		case placeFixed:
			out.Protected += n
		case placeOpen:
			o := a.open
			out.Open[o.Need] += n
			if h.word == api.Silent {
				out.Silent += n
			}
			// What machines show and the matrix of this policy does not: of another one.
			out.Severity = cmp.Or(out.Severity, o.Severity)
			out.Title = cmp.Or(out.Title, o.Title)
			out.Exploited = out.Exploited || o.Exploited
		}
	}
	return nil
}

func fixOfCVE[V ~string](target, cve string, f *series.Fix, verdict V, c code.Code, why string) api.CVEFix {
	out := api.CVEFix{
		Target: target, ID: f.ID, Title: f.Title, CVEs: f.CVEs, Severity: string(f.Severity), CVSS: f.CVSS, Exploited: f.Exploited,
		Origin: cmp.Or(f.Origin, f.Commit), Update: f.Update, FirstSeen: f.FirstSeen, Subsystem: f.Subsystem, Requires: f.Requires,
		Files: f.Paths(), Functions: f.Functions(), Verdict: string(verdict), Code: string(c), Why: why, Confidence: string(series.Stated),
	}
	for _, e := range f.Entries {
		if slices.Contains(e.CVEs, cve) {
			out.Confidence, out.Entry = string(e.Confidence), e.Subject
			break
		}
	}
	out.Diff, out.Cut = cutText(f.Diff.Raw)
	return out
}

// cutText is the beginning of a diff, whole if it is not too long.
func cutText(b []byte) (string, bool) {
	if len(b) <= api.MaxDiff {
		return strings.ToValidUTF8(string(b), "\uFFFD"), false
	}
	return strings.ToValidUTF8(string(b[:api.MaxDiff]), "\uFFFD"), true
}

// since is how long ago a time was, in milliseconds.
func since(now, then time.Time) int64 { return now.Sub(then).Milliseconds() }
