// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// matrix is how every known vulnerability stands on every target, for a policy.
// Nobody changes one.
type matrix struct {
	policy  string
	targets []string
	rows    []*matrixRow // the gravest first, of these the newest
	byCVE   map[string]*matrixRow
	series  map[string]*selection.Chosen // by target, what is pushed
	made    time.Time
}

// matrixRow is a line of it, without the machines.
type matrixRow struct {
	api.CVE
	words string // what a search looks into
}

// matrixFor is how long a matrix holds although nothing has changed: time ends
// exclusions.
const matrixFor = time.Minute

// matrixOf makes the matrix of a policy, or has it still.
func (s *Server) matrixOf(ctx context.Context, policy string) (*matrix, error) {
	policy = cmp.Or(policy, trust.DefaultPolicy)
	s.matrices.mu.Lock()
	defer s.matrices.mu.Unlock()
	if m := s.matrices.of[policy]; m != nil && s.now().Sub(m.made) < matrixFor {
		return m, nil
	}
	m, err := s.newMatrix(ctx, policy)
	if err != nil {
		return nil, err
	}
	if s.matrices.of == nil || len(s.matrices.of) >= maxMatrices {
		s.matrices.of = map[string]*matrix{}
	}
	s.matrices.of[policy] = m
	return m, nil
}

const maxMatrices = 50

func (s *Server) newMatrix(ctx context.Context, policy string) (*matrix, error) {
	policies, err := publish.Policies(ctx, s.store.Reader)
	if err != nil {
		return nil, err
	}
	p, ok := policies[policy]
	if !ok {
		return nil, code.New("TS7902", policy, "")
	}
	selected, err := s.publish.Select(ctx, p, s.now())
	if err != nil {
		return nil, err
	}
	patched, err := s.store.PatchedTargets(ctx)
	if err != nil {
		return nil, err
	}
	m := &matrix{policy: policy, byCVE: map[string]*matrixRow{}, series: map[string]*selection.Chosen{}, made: s.now()}
	for _, sel := range selected {
		m.targets = append(m.targets, sel.Target)
		if sel.Err == nil {
			m.series[sel.Target] = sel.Chosen
		}
	}
	for _, t := range patched {
		m.targets = append(m.targets, t.Target)
	}
	slices.Sort(m.targets)
	m.targets = slices.Compact(m.targets)
	for _, target := range m.targets {
		if err := s.addTarget(ctx, m, target, policies); err != nil {
			return nil, err
		}
	}
	for _, r := range m.byCVE {
		r.words = strings.ToLower(r.CVE.CVE + "\n" + r.Title)
		m.rows = append(m.rows, r)
	}
	slices.SortFunc(m.rows, func(a, b *matrixRow) int {
		return cmp.Or(cmp.Compare(gravityOf(b), gravityOf(a)), -compareCVEs(a.CVE.CVE, b.CVE.CVE))
	})
	return m, nil
}

func gravityOf(r *matrixRow) int {
	return gravity(api.LeftFix{Severity: r.Severity, Exploited: r.Exploited})
}

// compareCVEs orders by year and number: CVE-2026-9999 before CVE-2026-10000.
func compareCVEs(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) }

// cell is a vulnerability on a target while it is found out.
type cell struct {
	api.TargetCVE
	severity, title string
	exploited       bool
}

// addTarget adds a column.
func (s *Server) addTarget(ctx context.Context, m *matrix, target string, policies map[string]selection.Policy) error {
	cells := map[string]*cell{}
	if chosen := m.series[target]; chosen != nil {
		chosenCells(cells, chosen.Selection)
		for name, p := range policies {
			leavesOf(cells, name, p, chosen.Series.Fixes, s.now())
		}
	}
	end, err := s.store.EndOfLine(ctx, m.policy, target)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil {
		if err := s.coverCells(ctx, cells, end.ID); err != nil {
			return err
		}
	}
	for cve, c := range cells {
		r := m.byCVE[cve]
		if r == nil {
			r = &matrixRow{CVE: api.CVE{CVE: cve}}
			m.byCVE[cve] = r
		}
		if series.Severity(c.severity).Rank() > series.Severity(r.Severity).Rank() {
			r.Severity = c.severity
		}
		r.Exploited = r.Exploited || c.exploited
		r.Title = cmp.Or(r.Title, c.title)
		c.Target = target
		slices.SortFunc(c.Excluded, func(a, b api.Leaves) int { return cmp.Compare(a.Policy, b.Policy) })
		r.Targets = append(r.Targets, c.TargetCVE)
	}
	return nil
}

// noteCell gives a vulnerability a state unless it has a graver one.
func noteCell(cells map[string]*cell, f *series.Fix, cve string, state api.TargetCVE) {
	c := cells[cve]
	if c == nil {
		c = &cell{TargetCVE: state, title: f.Title}
		cells[cve] = c
	} else if graverState(state.State, c.State) {
		state.Excluded = c.Excluded
		c.TargetCVE = state
	}
	if f.Severity.Rank() > series.Severity(c.severity).Rank() {
		c.severity = string(f.Severity)
	}
	c.exploited = c.exploited || f.Exploited
}

func graverState(a, b api.Coverage) bool {
	return slices.Index(api.Coverages(), a) < slices.Index(api.Coverages(), b)
}

// chosenCells are what a choice of what is pushed says.
func chosenCells(cells map[string]*cell, sel *selection.Selection) {
	for _, f := range sel.Fixes {
		for _, cve := range f.CVEs {
			noteCell(cells, f, cve, api.TargetCVE{State: api.CoverBuild})
		}
	}
	by := map[string]selection.Left{}
	for _, l := range sel.Left {
		by[l.ID] = l
	}
	for _, l := range sel.Left {
		state := api.TargetCVE{Why: l.Why, Code: string(l.Code)}
		switch root := l.Root(by); {
		case l.Kind == selection.NotHere:
			state.State = api.CoverNone
		case root.Kind == selection.Reboot || root.Kind == selection.Failed:
			state.State, state.Code = api.CoverReboot, string(root.Code)
		default:
			state.State = api.CoverExcluded
		}
		for _, cve := range l.Fix.CVEs {
			noteCell(cells, l.Fix, cve, state)
		}
	}
}

// leavesOf are the exclusions of a policy that hold.
func leavesOf(cells map[string]*cell, name string, p selection.Policy, fixes []*series.Fix, now time.Time) {
	for _, x := range p.Exclusions {
		if !x.Active(now) {
			continue
		}
		cves := []string{x.CVE}
		if x.CVE == "" {
			i := slices.IndexFunc(fixes, func(f *series.Fix) bool { return f.ID == x.Fix })
			if i < 0 {
				continue
			}
			cves = fixes[i].CVEs
		}
		for _, cve := range cves {
			if c := cells[cve]; c != nil {
				c.Excluded = append(c.Excluded, api.Leaves{Policy: name, Exclusion: jobs.ExclusionWire(x)})
			}
		}
	}
}

// coverCells are what the newest live patch of the policy says. It has the
// first word on what it knows, but for an exclusion that has ended since.
func (s *Server) coverCells(ctx context.Context, cells map[string]*cell, id string) error {
	cover, err := s.coverOf(ctx, id)
	if err != nil || cover == nil {
		return err
	}
	row, err := s.store.LivePatch(ctx, id)
	if err != nil {
		return err
	}
	cover.lists(func(cve string) {
		state := api.TargetCVE{Patch: id, Tiers: row.Tiers}
		var o api.OpenCVE
		if open := cover.open[cve]; len(open) > 0 {
			o = *cover.offering(cve)
			state.State, state.Code, state.Why = api.CoverReboot, o.Code, o.Why
			if o.Need == api.NeedPolicy {
				state.State = api.CoverExcluded
			}
		} else {
			held := cover.held[cve]
			o = api.OpenCVE{Severity: held[0].Severity, Title: held[0].Title}
			state.State = api.CoverLive
			for _, f := range held {
				o.Exploited = o.Exploited || f.Exploited
				if len(f.Modules) > 0 {
					state.State = api.CoverModule
					state.Why = "fixed modules: " + strings.Join(f.Modules, ", ")
				}
			}
			if cover.doubtful[cve] {
				state.State, state.Why = api.CoverPossible, "that this is its fix is only possible"
			}
		}
		c := cells[cve]
		switch {
		case c == nil:
			c = &cell{title: o.Title}
			cells[cve] = c
		case c.State == api.CoverBuild && state.State == api.CoverExcluded:
			return
		}
		state.Excluded = c.Excluded
		c.TargetCVE = state
		c.title = cmp.Or(c.title, o.Title)
		c.exploited = c.exploited || o.Exploited
		if series.Severity(o.Severity).Rank() > series.Severity(c.severity).Rank() {
			c.severity = o.Severity
		}
	})
	return nil
}
