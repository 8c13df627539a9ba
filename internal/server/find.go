// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

// machines lists one page. Which machines it is of is found in memory: what is
// asked about protection and vulnerabilities is computed and not stored, and no
// index of a database finds a part of a name. sees limits them to those of some
// groups; nil: all.
func (s *Server) machines(ctx context.Context, in *machinesInput, sees func(group string) bool) (api.List[api.Machine], error) {
	in.CVE = strings.ToUpper(in.CVE)
	list := api.List[api.Machine]{Items: []api.Machine{}}
	if in.Protection == string(api.Gone) {
		return list, s.goneMachines(ctx, in, sees, &list)
	}
	ids, err := s.find(ctx, in, sees)
	if err != nil {
		return list, err
	}
	rows, err := s.store.MachinesByIDs(ctx, ids)
	if err != nil {
		return list, err
	}
	for _, row := range rows {
		if row.Gone != 0 {
			continue // since it was found
		}
		if err := s.listed(ctx, in, row, &list); err != nil {
			return list, err
		}
	}
	if len(ids) == in.Limit {
		list.Next = ids[len(ids)-1]
	}
	return list, nil
}

// listed adds a machine if it still is one that is asked for.
func (s *Server) listed(ctx context.Context, in *machinesInput, row store.Machine, list *api.List[api.Machine]) error {
	m, open, err := s.machineOf(ctx, row)
	m.Packages = nil // with GET of one machine only
	if m.Stale != nil {
		m.Stale.Files, m.Stale.More = nil, 0
	}
	if err == nil && in.fits(&m, open) {
		list.Items = append(list.Items, m)
	}
	return err
}

// goneMachines lists those that are enrolled no more, which memory has not.
func (s *Server) goneMachines(ctx context.Context, in *machinesInput, sees func(group string) bool, list *api.List[api.Machine]) error {
	f := store.MachineFilter{Tier: in.Tier, Query: in.Query, After: in.After, Limit: api.MaxPage, Gone: true}
	if in.Group != "" {
		f.Group = &in.Group
	}
	for {
		rows, err := s.store.Machines(ctx, f)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.Gone == 0 || sees != nil && !sees(row.Group) {
				continue
			}
			if err := s.listed(ctx, in, row, list); err != nil {
				return err
			}
			if len(list.Items) == in.Limit {
				list.Next = row.ID
				return nil
			}
		}
		if len(rows) < f.Limit {
			return nil
		}
		f.After = rows[len(rows)-1].ID
	}
}

// find lists the ids of a page.
func (s *Server) find(ctx context.Context, in *machinesInput, sees func(group string) bool) ([]string, error) {
	all := s.fleet.byOrder()
	from, there := slices.BinarySearchFunc(all, in.After, func(m *member, id string) int { return strings.Compare(m.id, id) })
	if there {
		from++
	}
	words := strings.ToLower(in.Query)
	judged := in.Protection != "" || in.CVE != "" || in.Need != ""
	j := s.judge()
	has := &holder{server: s, cve: in.CVE, need: in.Need, kernels: map[kernelSituation]bool{}, packages: map[*packageSituations]bool{}}
	ids := []string{}
	for i, m := range all[from:] {
		if i%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !m.named(in, words, sees) {
			continue
		}
		if judged {
			h, here, err := j.of(ctx, m)
			if err != nil {
				return nil, err
			}
			if !here || in.Protection != "" && string(h.word) != in.Protection {
				continue
			}
			if in.CVE != "" || in.Need != "" {
				fits, err := has.of(ctx, h.at)
				if err != nil {
					return nil, err
				}
				if !fits {
					continue
				}
			}
		}
		if ids = append(ids, m.id); len(ids) == in.Limit {
			break
		}
	}
	return ids, nil
}

// named says whether a machine is of a tier, a group and a name that are asked
// for.
func (m *member) named(in *machinesInput, words string, sees func(group string) bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.gone, in.Tier != "" && m.tier != in.Tier, in.Group != "" && m.group != in.Group, sees != nil && !sees(m.group):
		return false
	case in.Stale && m.stale == nil:
		return false
	case words == "":
		return true
	}
	for _, p := range m.packages.each() {
		if strings.Contains(shortOf(p.target), words) {
			return true
		}
	}
	return strings.Contains(m.hostname, words) || strings.Contains(strings.ToLower(m.release), words) || strings.HasPrefix(m.id, words)
}
