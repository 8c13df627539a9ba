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
	"github.com/tsugi-project/tsugi/internal/store"
)

// Wanted is a selection for which a live patch has to be built.
type Wanted struct {
	Target    string
	Selection string   // selection.Key: what shares it shares the live patch
	Again     int      // how often it was asked for anew, which the key says too
	Policies  []string // who chooses it, ordered
	// Policy is the first of them as it was at At: choosing by it from Updates
	// gives the selection again.
	Policy  selection.Policy
	At      time.Time
	Updates []string // digests of what is pushed, in order
	Pushed  int64    // when the last of it was
	Title   string
}

// origin is what is kept of a choice beside its key: what it was made from.
type origin struct {
	At      int64            `json:"at"`
	Policy  selection.Policy `json:"policy"`
	Updates []string         `json:"updates"`
}

// errMoved is a choice from what somebody has changed meanwhile.
var errMoved = errors.New("policies or updates changed meanwhile")

// moved is what people are told of errMoved.
func moved() error { return code.New("TS7708", "", errMoved.Error()) }

// Choose brings up to date what policies choose of what is pushed, and whose
// live patches are whose. It returns what nobody has built yet, and an error
// for what could not be chosen: one policy or target that can't does not keep
// the others from it. Doing it again changes nothing; every server may.
func (s *Service) Choose(ctx context.Context) ([]Wanted, error) {
	for range maxTries {
		wanted, err := s.chooseOnce(ctx)
		if !errors.Is(err, errMoved) {
			return wanted, err
		}
	}
	return nil, moved()
}

func (s *Service) chooseOnce(ctx context.Context) ([]Wanted, error) {
	now := s.now()
	ground, err := groundOf(ctx, s.store.Reader)
	if err != nil {
		return nil, err
	}
	made := s.choices(ctx, ground, now)
	due := s.due(ctx, ground, now)
	if len(made) == 0 && len(due) == 0 {
		if kept, err := s.store.Choices(ctx); err != nil || len(kept) == 0 {
			return nil, err
		}
	}
	var wanted []Wanted
	err = s.change(ctx, func(j *job) error {
		wanted = nil
		if err := j.tx.LockPolicies(ctx); err != nil {
			return err
		}
		if now, err := groundOf(ctx, j.tx.Reader); err != nil {
			return err
		} else if now.print != ground.print {
			return errMoved
		}
		for name := range due {
			if err := j.indexesOf(ctx, name); err != nil {
				return err
			}
		}
		if err := j.saveChoices(ctx, made); err != nil {
			return err
		}
		wanted, err = j.extendAll(ctx, made)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.remember(due)
	for _, c := range made {
		if c.err != nil {
			err = errors.Join(err, fmt.Errorf("policy %s for %s: %w", c.policy.Name, c.target, c.err))
		}
	}
	return wanted, err
}

// ground is what choices are made from.
type ground struct {
	policies map[string]selection.Policy
	updates  []store.Update
	rebuilds map[[2]string]int // by target and selection.Sharing
	print    string            // equal when all of it is
}

func groundOf(ctx context.Context, r store.Reader) (*ground, error) {
	g := &ground{}
	var err error
	if g.policies, err = Policies(ctx, r); err != nil {
		return nil, err
	}
	if g.updates, err = r.Updates(ctx, ""); err != nil {
		return nil, err
	}
	if g.rebuilds, err = r.Rebuilds(ctx); err != nil {
		return nil, err
	}
	var rebuilds []string
	for k, n := range g.rebuilds {
		rebuilds = append(rebuilds, fmt.Sprintf("%s %s %d", k[0], k[1], n))
	}
	slices.Sort(rebuilds)
	b, err := json.Marshal([]any{g.policies, g.updates, rebuilds})
	g.print = string(b)
	return g, err
}

// byTarget are the updates of each target, in their order.
func (g *ground) byTarget() map[string][]store.Update {
	out := map[string][]store.Update{}
	for _, u := range g.updates {
		out[u.Target] = append(out[u.Target], u)
	}
	return out
}

// due are the policies of which other exclusions are in force than when their
// indexes were looked at last, with a word for those that are. Time ends
// exclusions, and what they kept out of an index may be in it again; a
// corrected attribution lets them mean other fixes.
func (s *Service) due(ctx context.Context, g *ground, now time.Time) map[string]string {
	active := map[string]string{}
	for name, p := range g.policies {
		more, err := s.attributed(ctx, g.updates, p)
		if err != nil {
			continue // the choice has the same error, and it is looked at again
		}
		word := ""
		for _, x := range slices.Concat(p.Exclusions, more) {
			if x.Active(now) {
				word += x.Name() + " " + x.Fix + "\n"
			}
		}
		active[name] = word
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]string{}
	for name, word := range active {
		// What ended while this server was not there is due as well.
		if was, known := s.active[name]; was != word || !known && len(g.policies[name].Exclusions) > 0 {
			out[name] = word
		}
	}
	return out
}

func (s *Service) remember(active map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active == nil {
		s.active = map[string]string{}
	}
	maps.Copy(s.active, active)
}

func title(fixes int, policy string) string {
	if fixes == 1 {
		return "1 fix for policy " + policy
	}
	return fmt.Sprintf("%d fixes for policy %s", fixes, policy)
}

// choice is what a policy chooses for a target, or why it can't.
type choice struct {
	*selection.Chosen
	current selection.Policy // its text of today
	policy  selection.Policy // the text by which this was chosen first
	now, at time.Time        // of today, and when it was chosen first
	target  string
	updates []string
	pushed  int64
	again   int
	key     string
	err     error
}

// choices computes what each policy chooses for each target now.
func (s *Service) choices(ctx context.Context, g *ground, now time.Time) []choice {
	var out []choice
	byTarget := g.byTarget()
	for _, target := range slices.Sorted(maps.Keys(byTarget)) {
		for _, name := range slices.Sorted(maps.Keys(g.policies)) {
			if c := s.choose(ctx, g, g.policies[name], target, byTarget[target], now); c != nil {
				out = append(out, *c)
			}
		}
	}
	return out
}

// choose computes what a policy chooses of what is pushed for a target; nil
// when nothing of that is for it.
func (s *Service) choose(ctx context.Context, g *ground, p selection.Policy, target string, updates []store.Update, now time.Time) *choice {
	c := &choice{policy: p, current: p, target: target, now: now, at: now}
	var sources []selection.Source
	for _, u := range ordered(updates, p.Extra) {
		c.updates, c.pushed = append(c.updates, u.Digest), max(c.pushed, u.Created)
		got, err := s.pushed(ctx, u.Digest)
		if err != nil {
			c.err = fmt.Errorf("update %s of %s: %w", u.Name, target, err)
			return c
		}
		sources = append(sources, *got)
	}
	if len(sources) == 0 {
		return nil
	}
	if c.Chosen, c.err = selection.From(sources, p, now); c.err != nil {
		return c
	}
	sharing := c.Selection.Sharing()
	c.again = g.rebuilds[[2]string{target, sharing}]
	c.key = selection.Key(sharing, c.again)
	return c
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
// difference to it. What could not be chosen now stays as it is stored.
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
		key := [2]string{c.current.Name, c.target}
		was, ok := old[key]
		delete(old, key)
		if c.err != nil {
			continue
		}
		c.policy, c.at = c.current, c.now // this may be done twice
		if ok && was.Selection == c.key {
			var said origin
			if json.Unmarshal(was.Body, &said) == nil && slices.Equal(said.Updates, c.updates) {
				c.at, c.policy = time.UnixMilli(said.At), said.Policy
				continue
			}
		}
		body, err := json.Marshal(origin{At: c.at.UnixMilli(), Policy: c.policy, Updates: c.updates})
		if err != nil {
			return err
		}
		if err := j.tx.SaveChoice(ctx, store.Choice{Policy: c.policy.Name, Target: c.target, Selection: c.key, Body: body, Changed: c.at.UnixMilli()}); err != nil {
			return err
		}
		if was.Selection == c.key {
			continue
		}
		detail := fmt.Sprintf("%s: %d fixes of %d, selection %.12s", c.target, len(c.Selection.Fixes), len(c.Series.Fixes), c.key)
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

// extendAll lets the machines of all policies have what their policies choose,
// and lists what has to be built for that.
func (j *job) extendAll(ctx context.Context, made []choice) ([]Wanted, error) {
	var wanted []Wanted
	by := map[[2]string]int{}
	for _, c := range made {
		if c.err != nil {
			continue
		}
		want, err := j.extend(ctx, c)
		if err != nil {
			return nil, err
		}
		if !want {
			continue
		}
		key := [2]string{c.target, c.key}
		i, ok := by[key]
		if !ok {
			i = len(wanted)
			by[key] = i
			wanted = append(wanted, Wanted{
				Target: c.target, Selection: c.key, Again: c.again, Policy: c.policy, At: c.at, Updates: c.updates, Pushed: c.pushed,
				Title: title(len(c.Selection.Fixes), c.policy.Name),
			})
		}
		wanted[i].Policies = append(wanted[i].Policies, c.policy.Name)
	}
	return wanted, nil
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
	if len(c.Selection.Fixes) == 0 {
		return false, nil
	}
	end, err := j.tx.EndOfLine(ctx, c.policy.Name, c.target)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	if end.Selection == c.key {
		return false, nil
	}
	there, err := j.tx.NewestOf(ctx, c.target, c.key)
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
	p, err := j.tx.LivePatch(ctx, there.ID)
	if err != nil {
		return false, err
	}
	if x, err := j.holds(ctx, p, c.current); err != nil || x != "" {
		if x != "" { // equal selections rule this out; machines must not depend on that
			j.s.log.Error("live patch holds what a policy that chose it excludes", "patch", p.ID, "policy", c.policy.Name, "excluded", x)
		}
		return false, err
	}
	if _, err := j.tx.AddToLine(ctx, there.ID, c.policy.Name); err != nil {
		return false, err
	}
	if err := j.audit(ctx, "server", "policy.share", c.policy.Name, there.ID); err != nil {
		return false, err
	}
	return false, j.indexes(ctx, p)
}
