// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

// Who has a role for some groups sees their machines and nothing of others:
// these are answered as if they were not there.

// seesMachine refuses the id of a machine of another group as one that nothing has.
func (s *Server) seesMachine(ctx context.Context, who operator, id string) error {
	if who.may.Whole() {
		return nil
	}
	row, err := s.store.Machine(ctx, id)
	if err == nil && !who.sees(row.Group) {
		err = store.ErrNotFound
	}
	return missing(err, "machine", id)
}

// mayMove refuses to change a machine of another group, and to give one away.
func (o operator) mayMove(old store.Machine, c api.MachineChange) error {
	if !o.sees(old.Group) {
		return missing(store.ErrNotFound, "enrolled machine", old.ID)
	}
	if c.Group == nil {
		return nil
	}
	return o.reaches(*c.Group)
}

// seenReports lists a page of reports of machines that somebody may see. Those
// of others are passed over, a bounded number of them: the page may be short,
// and still have a next one.
func (s *Server) seenReports(ctx context.Context, who operator, in *reportsInput) (api.List[api.StoredReport], error) {
	if who.may.Whole() {
		return s.reportList(ctx, in)
	}
	if in.Machine != "" {
		if err := s.seesMachine(ctx, who, in.Machine); err != nil {
			return api.List[api.StoredReport]{}, err
		}
		return s.reportList(ctx, in)
	}
	const mostPages = 20
	out := api.List[api.StoredReport]{Items: []api.StoredReport{}}
	f := store.ReportFilter{Kind: in.Kind, Patch: in.Patch, Before: in.After, Limit: api.MaxPage}
	for range mostPages {
		rows, err := s.store.Reports(ctx, f)
		if err != nil {
			return out, err
		}
		for _, row := range rows {
			f.Before = row.Seq
			m := s.fleet.byID(row.Machine)
			if m == nil || !who.sees(m.groupNow()) {
				continue
			}
			r, err := storedReport(row)
			if err != nil {
				return out, err
			}
			if out.Items = append(out.Items, r); len(out.Items) == in.Limit {
				out.Next = row.Seq
				return out, nil
			}
		}
		if len(rows) < f.Limit {
			return out, nil
		}
	}
	out.Next = f.Before
	return out, nil
}

// groupNow is the group that a machine is in.
func (m *member) groupNow() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.group
}

// seenTokens lists the tokens of the groups that somebody may see.
func (s *Server) seenTokens(ctx context.Context, who operator) (api.List[api.Token], error) {
	l, err := s.tokens(ctx)
	l.Items = slices.DeleteFunc(l.Items, func(t api.Token) bool { return !who.sees(t.Group) })
	return l, err
}

// seenTiers lists all tiers, and of their machines those that somebody may see.
func (s *Server) seenTiers(ctx context.Context, who operator) (api.List[api.Tier], error) {
	l, err := s.tiers(ctx)
	if err != nil || who.may.Whole() {
		return l, err
	}
	machines := map[string]int{}
	s.fleet.each(func(m *member) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.gone && who.sees(m.group) {
			machines[m.tier]++
		}
	})
	for i := range l.Items {
		l.Items[i].Machines = machines[l.Items[i].Name]
	}
	return l, nil
}

// seesToken refuses a token of another group as one that is not there.
func (o operator) seesToken(ctx context.Context, tx *store.Tx, id string) error {
	if o.may.Whole() {
		return nil
	}
	t, err := tx.Token(ctx, id)
	if err == nil && !o.sees(t.Group) {
		err = store.ErrNotFound
	}
	return err
}

// seenCensus are the counts of the groups that somebody may see.
func (s *Server) seenCensus(ctx context.Context, who operator, n *census) *census {
	if who.may.Whole() {
		return n
	}
	out := &census{herds: map[herd]int{}, packages: map[packageHerd]int{}, protections: map[api.Protection]int{}, choices: n.choices, at: n.at}
	for p := range n.protections {
		out.protections[p] = 0
	}
	for h, k := range n.herds {
		if who.sees(h.group) {
			out.herds[h] += k
			out.add(h, k)
		}
	}
	for h, k := range n.packages {
		if who.sees(h.group) {
			out.packages[h] += k
		}
	}
	if n.tally != nil {
		var err error
		if out.tally, err = s.tally(ctx, out.herds); err != nil {
			out.tally = nil
			s.log.Warn("open vulnerabilities of some groups could not be counted", "err", err)
		}
	}
	return out
}
