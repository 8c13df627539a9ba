// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// windowNotice is how long before its end a coverage window is announced.
const windowNotice = 30 * 24 * time.Hour

type windowInput struct {
	Target string `path:"target" maxLength:"255"`
	Body   api.SetWindow
}

type byTarget struct {
	Target string `path:"target" maxLength:"255"`
}

type historyInput struct {
	Days int `query:"days" minimum:"1" maximum:"366" default:"30"`
}

func (s *Server) targetOperations(o *operations) {
	answer(o, op{id: "list-targets", method: "GET", path: "/v1/targets", summary: "The kernels that machines run, the packages that their processes map, and those that anything is there for, with their coverage windows", may: look, scoped: true},
		func(ctx context.Context, who operator, _ *none) (api.List[api.TargetInfo], error) {
			return s.targets(ctx, who.limit())
		})
	answer(o, op{id: "set-window", method: "PUT", path: "/v1/targets/{target}/window", summary: "Say how long live patches are made for a target", may: change},
		func(ctx context.Context, who operator, in *windowInput) (api.TargetInfo, error) {
			return s.setWindow(ctx, who.name, in)
		})
	quiet(o, op{id: "delete-window", method: "DELETE", path: "/v1/targets/{target}/window", summary: "Take back how long live patches are made for a target", may: change},
		func(ctx context.Context, who operator, in *byTarget) error {
			return s.store.Update(ctx, func(tx *store.Tx) error {
				if err := tx.DeleteWindow(ctx, in.Target); err != nil {
					return missing(err, "coverage window of target", in.Target)
				}
				return tx.Audit(ctx, store.AuditEntry{Actor: who.name, Action: "window.delete", Object: in.Target})
			})
		})
	answer(o, op{id: "get-history", method: "GET", path: "/v1/history", summary: "How the fleet stood over time", may: look},
		func(ctx context.Context, _ operator, in *historyInput) (api.History, error) {
			return s.history(ctx, time.Duration(in.Days)*24*time.Hour)
		})
}

// targets lists every kernel and package that is of any interest. sees limits the machines
// that are counted; nil: all.
func (s *Server) targets(ctx context.Context, sees func(group string) bool) (api.List[api.TargetInfo], error) {
	found := map[string]*api.TargetInfo{}
	at := func(target, release string) *api.TargetInfo {
		t := found[target]
		if t == nil {
			t = &api.TargetInfo{Target: target, Release: release, Tiers: map[string]int{}, Standing: api.WindowNone}
			found[target] = t
		}
		return t
	}
	none := api.List[api.TargetInfo]{Items: []api.TargetInfo{}}
	patched, err := s.store.PatchedTargets(ctx)
	if err != nil {
		return none, err
	}
	for _, p := range patched {
		t := at(p.Target, p.Release)
		if t.Patches = p.Patches; p.Newest > 0 {
			t.Newest = trust.PatchID(p.Target, p.Newest)
		}
	}
	updates, err := s.store.Updates(ctx, "")
	if err != nil {
		return none, err
	}
	for _, u := range updates {
		var sum publish.Summary
		_ = json.Unmarshal(u.Summary, &sum) // what is not readable is not shown
		t := at(u.Target, releaseOf(u.Target))
		t.Updates, t.To = append(t.Updates, u.Name), cmp.Or(t.To, sum.To)
		t.Fixes, t.CVEs, t.Live, t.Reboot = t.Fixes+sum.Fixes, t.CVEs+sum.CVEs, t.Live+sum.Live, t.Reboot+sum.Reboot
	}
	windows, err := s.store.Windows(ctx)
	if err != nil {
		return none, err
	}
	for _, w := range windows {
		t := at(w.Target, releaseOf(w.Target))
		t.Window = &api.CoverageWindow{From: w.Begins, Until: w.Ends, Note: w.Note, Changed: w.Changed, ChangedBy: w.ChangedBy}
		t.Standing = windowStanding(w, s.now())
	}
	byRelease := map[string]*api.TargetInfo{}
	for _, t := range found {
		byRelease[t.Release] = t
	}
	delete(byRelease, "") // packages
	counted := s.metrics.fleet.counts(ctx)
	for h, n := range counted.packages {
		if sees != nil && !sees(h.group) {
			continue
		}
		t := at(h.target, "")
		t.Machines += n
		t.Tiers[h.tier] += n
		if t.Protections == nil {
			t.Protections = map[api.Protection]int{}
		}
		t.Protections[h.word] += n
		if h.stale {
			t.Stale += n
		}
	}
	for h, n := range counted.herds {
		if sees != nil && !sees(h.group) {
			continue
		}
		t := byRelease[h.at.release]
		if t == nil { // a kernel that nothing is there for
			t = at(h.at.release, h.at.release)
			byRelease[h.at.release] = t
		}
		t.Machines += n
		t.Tiers[h.tier] += n
	}
	tiers, err := s.store.Tiers(ctx)
	if err != nil {
		return none, err
	}
	for _, tier := range tiers {
		c, err := s.shelves.catalogue(ctx, tier.Name)
		if err != nil {
			return none, err
		}
		for name, t := range found {
			if c.names[name] {
				t.ListedIn = append(t.ListedIn, tier.Name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		none.Items = append(none.Items, *found[name])
	}
	return none, nil
}

func windowStanding(w store.Window, now time.Time) api.WindowStanding {
	ms := now.UnixMilli()
	switch {
	case w.Ends != 0 && w.Ends <= ms:
		return api.WindowOver
	case w.Begins > ms:
		return api.WindowAhead
	case w.Ends != 0 && w.Ends-ms <= windowNotice.Milliseconds():
		return api.WindowEnding
	}
	return api.WindowOpen
}

func (s *Server) setWindow(ctx context.Context, who string, in *windowInput) (api.TargetInfo, error) {
	b := in.Body
	if b.Until != 0 && b.Until <= b.From {
		return api.TargetInfo{}, refuse("TS7601", "body.until", "it is not after its beginning")
	}
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.SaveWindow(ctx, store.Window{Target: in.Target, Begins: b.From, Ends: b.Until, Note: b.Note, ChangedBy: who}); err != nil {
			return err
		}
		return tx.Audit(ctx, store.AuditEntry{Actor: who, Action: "window.set", Object: in.Target, Detail: day(b.From) + " – " + day(b.Until)})
	})
	if err != nil {
		return api.TargetInfo{}, err
	}
	all, err := s.targets(ctx, nil)
	if err != nil {
		return api.TargetInfo{}, err
	}
	for _, t := range all.Items {
		if t.Target == in.Target {
			return t, nil
		}
	}
	return api.TargetInfo{}, missing(store.ErrNotFound, "target", in.Target) // taken back in between
}

func day(ms int64) string {
	if ms == 0 {
		return "…"
	}
	return time.UnixMilli(ms).UTC().Format(time.DateOnly)
}

// sampleInterval is how often is looked whether this hour has a sample.
const sampleInterval = 10 * time.Minute

// sample writes down how the fleet stands, once an hour for all servers.
func (s *Server) sample(ctx context.Context) {
	if err := s.takeSample(ctx); err != nil && ctx.Err() == nil {
		s.log.Error("how the fleet stands could not be written down", "err", err)
	}
}

func (s *Server) takeSample(ctx context.Context) error {
	now := s.now()
	had, err := s.store.Samples(ctx, now.Add(-time.Minute).Truncate(time.Hour).UnixMilli(), now.UnixMilli())
	if err != nil {
		return err
	}
	if len(had) > 0 && had[len(had)-1].Taken >= now.Truncate(time.Hour).UnixMilli() {
		return nil
	}
	if s.fleet.size() == 0 {
		return nil // nothing to tell of yet
	}
	c := s.count(ctx)
	x := api.Sample{Protections: c.protections}
	for _, n := range c.protections {
		x.Machines += n
	}
	if c.tally != nil {
		x.Open = c.tally.worst
	}
	body, err := json.Marshal(x)
	if err != nil {
		return err
	}
	_, err = s.store.AddSample(ctx, body)
	return err
}

// history is how the fleet stood until now.
func (s *Server) history(ctx context.Context, ago time.Duration) (api.History, error) {
	now := s.now()
	out := api.History{Samples: []api.Sample{}, From: now.Add(-ago).UnixMilli(), To: now.UnixMilli()}
	rows, err := s.store.Samples(ctx, out.From, out.To)
	if err != nil {
		return out, err
	}
	for _, r := range rows {
		x := api.Sample{}
		if err := json.Unmarshal(r.Body, &x); err != nil {
			return out, fmt.Errorf("sample of %d: %w", r.Taken, err)
		}
		x.At = r.Taken
		out.Samples = append(out.Samples, x)
	}
	return out, nil
}
