// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"maps"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

func (s *Server) overviewOperations(o *operations) {
	answer(o, op{id: "get-overview", method: "GET", path: "/v1/overview", summary: "How the fleet stands, in numbers", may: look, scoped: true},
		func(ctx context.Context, who operator, _ *none) (api.Overview, error) { return s.overview(ctx, who) })
}

// overview shares the counts of the metrics, so that many open consoles visit
// the machines no more often than one.
func (s *Server) overview(ctx context.Context, who operator) (api.Overview, error) {
	n := s.seenCensus(ctx, who, s.metrics.fleet.counts(ctx))
	out := api.Overview{Protections: n.protections, Stale: n.stale, Jobs: map[api.JobState]int{}, Counted: n.at.UnixMilli()}
	for _, k := range n.protections {
		out.Machines += k
	}
	if n.tally != nil {
		out.Open = map[api.Need]map[string]int{}
		for k, machines := range n.tally.machines {
			need := api.Need(k[0])
			if out.Open[need] == nil {
				out.Open[need] = map[string]int{}
			}
			out.Open[need][k[1]] = machines
		}
	}
	if n.choices != nil {
		out.Choices, out.Unpromoted, out.Ending = n.choices.states, n.choices.unpromoted, n.choices.ending
	}
	groups := map[string]bool{}
	for h := range n.herds {
		if h.group != "" {
			groups[h.group] = true
		}
	}
	out.Groups = slices.Sorted(maps.Keys(groups))
	if len(out.Groups) > api.MaxGroups {
		out.Groups = out.Groups[:api.MaxGroups]
	}
	jobs, err := s.store.CountJobs(ctx)
	for _, state := range []store.JobState{store.JobQueued, store.JobRunning, store.JobDone, store.JobFailed, store.JobCancelled} {
		out.Jobs[api.JobState(state)] = int(jobs[state])
	}
	return out, err
}
