// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// ChangePolicy gives a policy another text, which f makes of the one that is
// there, if it is, and says in a few words what it changed. It may be called
// more than once.
func (s *Service) ChangePolicy(ctx context.Context, name, actor string, f func(old selection.Policy, there bool) (selection.Policy, string, error)) error {
	return s.change(ctx, func(j *job) error {
		if err := j.tx.LockPolicies(ctx); err != nil {
			return err
		}
		all, err := Policies(ctx, j.tx.Reader)
		if err != nil {
			return err
		}
		old, there := all[name]
		p, why, err := f(old, there)
		if err != nil {
			return err
		}
		p.Name = name
		if err := p.Check(); err != nil {
			return err
		}
		if !trust.PolicyName(name) {
			return code.New("TS7908", name, "not a name that paths can have")
		}
		body, err := json.Marshal(p)
		if err != nil {
			return err
		}
		if err := j.tx.SavePolicy(ctx, name, body, actor); err != nil {
			return err
		}
		if err := j.audit(ctx, actor, "policy.set", name, why); err != nil {
			return err
		}
		if !there {
			if err := j.share(ctx, p); err != nil {
				return err
			}
		}
		// What it excludes is offered to nobody from now on. One that was removed
		// and is made anew has its old line, and gets indexes for it again.
		return j.indexesOf(ctx, name)
	})
}

// DeletePolicy removes a policy that no group has.
func (s *Service) DeletePolicy(ctx context.Context, name, actor string) error {
	return s.change(ctx, func(j *job) error {
		if name == trust.DefaultPolicy {
			return code.New("TS7903", name, "it is everybody's who has no other").WithFix("give it another text: tsugictl policy set")
		}
		if err := j.tx.LockPolicies(ctx); err != nil {
			return err
		}
		groups, err := j.tx.PolicyGroups(ctx)
		if err != nil {
			return err
		}
		var in []string
		for g, p := range groups {
			if p == name {
				in = append(in, g)
			}
		}
		if len(in) > 0 {
			slices.Sort(in)
			return code.New("TS7903", name, "it is that of group "+strings.Join(in, ", "))
		}
		if err := j.tx.DeletePolicy(ctx, name); errors.Is(err, store.ErrNotFound) {
			return code.New("TS7902", name, "")
		} else if err != nil {
			return err
		}
		if err := j.indexesOf(ctx, name); err != nil {
			return err
		}
		return j.audit(ctx, actor, "policy.delete", name, "")
	})
}

// indexesOf makes all indexes of a policy anew: where any policy has one, for
// there may be blocks that machines which come to this one have to hear of.
func (j *job) indexesOf(ctx context.Context, policy string) error {
	all, err := j.tx.Indexes(ctx)
	if err != nil {
		return err
	}
	done := map[[2]string]bool{}
	for _, x := range all {
		at := [2]string{x.Tier, x.BuildID}
		if done[at] {
			continue
		}
		done[at] = true
		if err := j.index(ctx, x.Tier, x.BuildID, policy, false); err != nil {
			return err
		}
	}
	return nil
}

// SetGroups gives groups of machines a policy.
func (s *Service) SetGroups(ctx context.Context, policy string, groups []string, actor string) error {
	return s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockPolicies(ctx); err != nil { // or it might go while a group gets it
			return err
		}
		if policy != trust.DefaultPolicy {
			if _, err := tx.Policy(ctx, policy); errors.Is(err, store.ErrNotFound) {
				return code.New("TS7902", policy, "")
			} else if err != nil {
				return err
			}
		}
		for _, g := range groups {
			if err := tx.SetPolicyGroup(ctx, g, trust.PolicyWord(policy)); err != nil {
				return err
			}
			if err := tx.Audit(ctx, store.AuditEntry{Actor: actor, Action: "policy.group", Object: policy, Detail: g}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Selected is what a policy chooses for a target, with all it was chosen from,
// or why that can't be said.
type Selected struct {
	*selection.Chosen
	Target string
	Key    string // selection.Key
	Err    error  // the others are empty then, but for Target
}

// Select says what a policy chooses at a time for each target that anything is
// pushed for. The policy need not be stored.
func (s *Service) Select(ctx context.Context, p selection.Policy, now time.Time) ([]Selected, error) {
	g, err := groundOf(ctx, s.store.Reader)
	if err != nil {
		return nil, err
	}
	key, err := selectionKey(g, p, now)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	had, ok := s.selected[key]
	s.mu.Unlock()
	if ok {
		return slices.Clone(had), nil
	}
	byTarget := g.byTarget()
	var out []Selected
	for _, target := range slices.Sorted(maps.Keys(byTarget)) {
		if c := s.choose(ctx, g, p, target, byTarget[target], now); c != nil {
			out = append(out, Selected{Chosen: c.Chosen, Target: target, Key: c.key, Err: c.err})
		}
	}
	if slices.ContainsFunc(out, func(sel Selected) bool { return sel.Err != nil }) {
		return out, nil // it may be another the next time
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.selected == nil || len(s.selected) >= maxSelected {
		s.selected = map[string][]Selected{}
	}
	s.selected[key] = slices.Clone(out)
	return out, nil
}

// maxSelected bounds how many choices are remembered. Each is as long as the
// updates that it is of; their fixes are shared.
const maxSelected = 32

// selectionKey is equal when a policy chooses the same: it, what it chooses
// from, and which of its exclusions hold.
func selectionKey(g *ground, p selection.Policy, now time.Time) (string, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return "", err
	}
	for _, x := range p.Exclusions {
		b = strconv.AppendBool(append(b, ' '), x.Active(now))
	}
	return digest(append(b, g.print...)), nil
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
