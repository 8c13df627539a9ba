// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
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

// Summary is what lists show of what was pushed.
type Summary struct {
	Title  string `json:"title,omitempty"`
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	Fixes  int    `json:"fixes"`
	CVEs   int    `json:"cves"`
	Known  int    `json:"known"` // fixes with a verdict
	Live   int    `json:"live"`
	Reboot int    `json:"reboot"`
}

// PushUpdate takes the fixes for a target in, in the place of what was there
// under the name.
func (s *Service) PushUpdate(ctx context.Context, name string, extra bool, b []byte, actor string) (store.Update, error) {
	if !trust.PolicyName(name) {
		return store.Update{}, code.New("TS7901", name, "not a name of a series: 1 to 63 of a-z, 0-9, dot, dash and underscore")
	}
	p, own, facts, err := selection.ReadPushed(b)
	if err != nil {
		return store.Update{}, err
	}
	// As every server would write it: equal fixes have equal digests.
	if b, err = p.Bytes(); err != nil {
		return store.Update{}, err
	}
	sum := Summary{Title: p.Name, From: p.From, To: p.To, Fixes: len(p.Fixes), CVEs: len(own.CVEs()), Known: len(facts)}
	for _, f := range facts {
		switch f.Verdict {
		case selection.IsLive:
			sum.Live++
		case selection.NeedsReboot:
			sum.Reboot++
		}
	}
	u := store.Update{Target: p.Target, Name: name, Extra: extra, Digest: digest(b), Size: int64(len(b)), CreatedBy: actor}
	if u.Summary, err = json.Marshal(sum); err != nil {
		return u, err
	}
	if err := s.put(ctx, pushedName(u.Digest), b); err != nil {
		return u, err
	}
	for range maxTries {
		checked, err := s.joins(ctx, u, own)
		if err != nil {
			return u, err
		}
		err = s.store.Update(ctx, func(tx *store.Tx) error {
			if err := tx.LockPolicies(ctx); err != nil {
				return err
			}
			now, err := tx.Updates(ctx, p.Target)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(now, func(o store.Update) bool { return o.Name != name && !checked[o.Digest] }) {
				return errMoved
			}
			if err := tx.SaveUpdate(ctx, u); err != nil {
				return err
			}
			detail := fmt.Sprintf("%s: %d fixes, %d CVEs, %.12s", name, sum.Fixes, sum.CVEs, u.Digest)
			return tx.Audit(ctx, store.AuditEntry{Actor: actor, Action: "update.push", Object: p.Target, Detail: detail})
		})
		if !errors.Is(err, errMoved) {
			return u, err
		}
	}
	return u, moved()
}

// joins refuses what has a fix of another series of the target, and says by
// digest with which it goes.
func (s *Service) joins(ctx context.Context, u store.Update, own *series.Series) (map[string]bool, error) {
	others, err := s.store.Updates(ctx, u.Target)
	if err != nil {
		return nil, err
	}
	checked := map[string]bool{}
	for _, o := range others {
		if o.Name == u.Name {
			continue
		}
		checked[o.Digest] = true
		theirs, err := s.pushed(ctx, o.Digest)
		if err != nil { // no reason to take nothing in any more; Choose tells of it
			s.log.Error("update can't be read", "target", o.Target, "name", o.Name, "err", err)
			continue
		}
		if _, err := selection.Join(own, theirs.Series); err != nil {
			return nil, err
		}
	}
	return checked, nil
}

// DeleteUpdate takes back what was pushed. Live patches that were built from
// it stay.
func (s *Service) DeleteUpdate(ctx context.Context, target, name, actor string) error {
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockPolicies(ctx); err != nil {
			return err
		}
		if err := tx.DeleteUpdate(ctx, target, name); err != nil {
			return err
		}
		return tx.Audit(ctx, store.AuditEntry{Actor: actor, Action: "update.delete", Object: target, Detail: name})
	})
	if errors.Is(err, store.ErrNotFound) {
		return code.New("TS7904", target, name)
	}
	return err
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
	byTarget := g.byTarget()
	var out []Selected
	for _, target := range slices.Sorted(maps.Keys(byTarget)) {
		if c := s.choose(ctx, g, p, target, byTarget[target], now); c != nil {
			out = append(out, Selected{Chosen: c.Chosen, Target: target, Key: c.key, Err: c.err})
		}
	}
	return out, nil
}
