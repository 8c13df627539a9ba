// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Wanted is a selection for which a live patch has to be built.
type Wanted struct {
	Target    string
	Selection string   // digest
	Policies  []string // who chooses it, ordered
	// Policy is the first of them as it was at At: choosing by it from Updates
	// gives the selection again.
	Policy  selection.Policy
	At      time.Time
	Updates []string // digests of what is pushed, in order
	Pushed  int64    // when the last of it was
	Title   string
}

// Chosen is what is kept of a choice beside its digest: what it was made from.
type Chosen struct {
	At      int64            `json:"at"`
	Policy  selection.Policy `json:"policy"`
	Updates []string         `json:"updates"`
	Fixes   int              `json:"fixes"`
	CVEs    int              `json:"cves"`
	Left    int              `json:"left"`
}

// Choose brings up to date what policies choose of what is pushed, and whose
// live patches are whose. It returns what nobody has built yet. Doing it again
// changes nothing; every server may.
func (s *Service) Choose(ctx context.Context) ([]Wanted, error) {
	now := s.now()
	made, err := s.choices(ctx, now)
	if err != nil {
		return nil, err
	}
	if len(made) == 0 {
		if kept, err := s.store.Choices(ctx); err != nil || len(kept) == 0 {
			return nil, err
		}
	}
	var wanted []Wanted
	err = s.change(ctx, func(j *job) error {
		wanted = nil
		if err := j.saveChoices(ctx, made); err != nil {
			return err
		}
		by := map[[2]string]int{}
		for _, c := range made {
			want, err := j.extend(ctx, c)
			if err != nil {
				return err
			}
			if !want {
				continue
			}
			key := [2]string{c.target, c.sel.Digest}
			i, ok := by[key]
			if !ok {
				i = len(wanted)
				by[key] = i
				wanted = append(wanted, Wanted{
					Target: c.target, Selection: c.sel.Digest, Policy: c.policy, At: c.at, Updates: c.updates, Pushed: c.pushed,
					Title: title(len(c.sel.Fixes), c.policy.Name),
				})
			}
			wanted[i].Policies = append(wanted[i].Policies, c.policy.Name)
		}
		return nil
	})
	return wanted, err
}

func title(fixes int, policy string) string {
	if fixes == 1 {
		return "1 fix for policy " + policy
	}
	return fmt.Sprintf("%d fixes for policy %s", fixes, policy)
}

// choice is what a policy chooses for a target.
type choice struct {
	policy  selection.Policy
	target  string
	updates []string
	pushed  int64
	series  *series.Series
	facts   map[string]selection.Fact
	sel     *selection.Selection
	at      time.Time
}

// choices computes what each policy chooses for each target now.
func (s *Service) choices(ctx context.Context, now time.Time) ([]choice, error) {
	policies, err := Policies(ctx, s.store.Reader)
	if err != nil {
		return nil, err
	}
	updates, err := s.store.Updates(ctx, "")
	if err != nil {
		return nil, err
	}
	byTarget := map[string][]store.Update{}
	for _, u := range updates {
		byTarget[u.Target] = append(byTarget[u.Target], u)
	}
	var out []choice
	for _, target := range slices.Sorted(maps.Keys(byTarget)) {
		for _, name := range slices.Sorted(maps.Keys(policies)) {
			c, err := s.choose(ctx, policies[name], target, byTarget[target], now)
			if err != nil {
				return nil, err
			}
			if c != nil {
				out = append(out, *c)
			}
		}
	}
	return out, nil
}

// choose computes what a policy chooses of what is pushed for a target; nil
// when nothing of that is for it.
func (s *Service) choose(ctx context.Context, p selection.Policy, target string, updates []store.Update, now time.Time) (*choice, error) {
	c := &choice{policy: p, target: target, facts: map[string]selection.Fact{}, at: now}
	var parts []*series.Series
	for _, u := range ordered(updates, p.Extra) {
		got, err := s.pushed(ctx, u.Digest)
		if err != nil {
			return nil, fmt.Errorf("update %s of %s: %w", u.Name, target, err)
		}
		c.updates, c.pushed = append(c.updates, u.Digest), max(c.pushed, u.Created)
		parts = append(parts, got.series)
		maps.Copy(c.facts, got.facts)
	}
	if len(parts) == 0 {
		return nil, nil
	}
	var err error
	if c.series, err = selection.Join(parts...); err != nil {
		return nil, err
	}
	c.sel = selection.Choose(c.series, p, c.facts, now)
	return c, nil
}

// ordered are the updates that a policy chooses from: what is for everybody,
// then the extra ones that it names, in its order.
func ordered(updates []store.Update, extra []string) []store.Update {
	var out []store.Update
	for _, u := range updates {
		if !u.Extra {
			out = append(out, u)
		}
	}
	for _, name := range extra {
		for _, u := range updates {
			if u.Extra && u.Name == name {
				out = append(out, u)
			}
		}
	}
	return out
}

// saveChoices stores what changed, and forgets what is no more. A choice that
// stays keeps its time: exclusions that ended or began since have made no
// difference to it.
func (j *job) saveChoices(ctx context.Context, made []choice) error {
	stored, err := j.tx.Choices(ctx)
	if err != nil {
		return err
	}
	old := map[[2]string]store.Choice{}
	for _, c := range stored {
		old[[2]string{c.Policy, c.Target}] = c
	}
	for i := range made {
		c := &made[i]
		key := [2]string{c.policy.Name, c.target}
		was, ok := old[key]
		delete(old, key)
		body, err := c.body()
		if err != nil {
			return err
		}
		if ok && was.Selection == c.sel.Digest {
			var said Chosen
			if json.Unmarshal(was.Body, &said) == nil && slices.Equal(said.Updates, c.updates) {
				c.at, c.policy = time.UnixMilli(said.At), said.Policy
				continue
			}
		}
		if err := j.tx.SaveChoice(ctx, store.Choice{Policy: c.policy.Name, Target: c.target, Selection: c.sel.Digest, Body: body, Changed: c.at.UnixMilli()}); err != nil {
			return err
		}
		if was.Selection == c.sel.Digest {
			continue
		}
		detail := fmt.Sprintf("%s: %d fixes of %d, selection %.12s", c.target, len(c.sel.Fixes), len(c.series.Fixes), c.sel.Digest)
		if err := j.audit(ctx, "server", "policy.choose", c.policy.Name, detail); err != nil {
			return err
		}
	}
	for key := range old {
		if err := j.tx.DeleteChoice(ctx, key[0], key[1]); err != nil {
			return err
		}
	}
	return nil
}

func (c *choice) body() ([]byte, error) {
	cves := map[string]bool{}
	for _, f := range c.sel.Fixes {
		for _, id := range f.CVEs {
			cves[id] = true
		}
	}
	return json.Marshal(Chosen{
		At: c.at.UnixMilli(), Policy: c.policy, Updates: c.updates, Fixes: len(c.sel.Fixes), CVEs: len(cves), Left: len(c.sel.Left),
	})
}

// extend lets the machines of a policy have the live patch of what it chooses,
// if there is one, and says whether one has to be built.
//
// Versions of a target are numbered together, so that a live patch can serve
// many policies, and the machines of each policy only go up. One that is older
// than what a policy's machines have had is therefore no use to it, be it of
// the right selection: it is built again under a new number, which is quick,
// because all objects are there.
func (j *job) extend(ctx context.Context, c choice) (build bool, err error) {
	if len(c.sel.Fixes) == 0 {
		return false, nil
	}
	end, err := j.tx.EndOfLine(ctx, c.policy.Name, c.target)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	if end.Selection == c.sel.Digest {
		return false, nil
	}
	there, err := j.tx.NewestOf(ctx, c.target, c.sel.Digest)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	case there.Blocked: // by a person: the same again would be the same again
		return false, nil
	case there.Version < end.Version:
		return true, nil
	}
	if _, err := j.tx.AddToLine(ctx, there.ID, c.policy.Name); err != nil {
		return false, err
	}
	p, err := j.tx.LivePatch(ctx, there.ID)
	if err != nil {
		return false, err
	}
	if err := j.audit(ctx, "server", "policy.share", c.policy.Name, there.ID); err != nil {
		return false, err
	}
	return false, j.indexes(ctx, p)
}

// Policies are all policies by name, the default one among them.
func Policies(ctx context.Context, r store.Reader) (map[string]selection.Policy, error) {
	rows, err := r.Policies(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]selection.Policy{trust.DefaultPolicy: {Name: trust.DefaultPolicy}}
	for _, row := range rows {
		var p selection.Policy
		if err := json.Unmarshal(row.Body, &p); err != nil {
			return nil, fmt.Errorf("policy %s: %w", row.Name, err)
		}
		p.Name = row.Name
		out[row.Name] = p
	}
	return out, nil
}

// pushedSeries is what was pushed, read.
type pushedSeries struct {
	series *series.Series
	facts  map[string]selection.Fact
}

// keepPushed is how many of them are kept in memory.
const keepPushed = 16

// pushed reads what was pushed. Nobody changes what it returns.
func (s *Service) pushed(ctx context.Context, digest string) (*pushedSeries, error) {
	s.mu.Lock()
	got := s.read[digest]
	s.mu.Unlock()
	if got != nil {
		return got, nil
	}
	b, err := s.Pushed(ctx, digest)
	if err != nil {
		return nil, err
	}
	_, all, facts, err := selection.ReadPushed(b)
	if err != nil {
		return nil, err
	}
	got = &pushedSeries{series: all, facts: facts}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read == nil || len(s.read) >= keepPushed {
		s.read = map[string]*pushedSeries{}
	}
	s.read[digest] = got
	return got, nil
}

// Pushed is what was pushed, as it came.
func (s *Service) Pushed(ctx context.Context, name string) ([]byte, error) {
	b, err := s.get(ctx, pushedName(name), selection.MaxPushed)
	if err == nil && digest(b) != name {
		err = code.New("TS7713", pushedName(name), "")
	}
	return b, err
}

func pushedName(digest string) string { return updateDir + digest + ".json" }
