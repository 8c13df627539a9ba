// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// Rebuild has what a policy chooses built again, for one target or for all
// ("") that anything is pushed for, and with it what shares that choice. It
// returns the targets.
func (s *Service) Rebuild(ctx context.Context, policy, target, actor string) ([]string, error) {
	var targets []string
	for range maxTries {
		g, err := groundOf(ctx, s.store.Reader)
		if err != nil {
			return nil, err
		}
		p, ok := g.policies[policy]
		if !ok {
			return nil, code.New("TS7902", policy, "")
		}
		keys := map[string]string{}
		for t, updates := range g.byTarget() {
			if target != "" && t != target {
				continue
			}
			c := s.choose(ctx, g, p, t, updates, s.now())
			switch {
			case c == nil || c.err == nil && len(c.Selection.Fixes) == 0:
				continue
			case c.err != nil:
				return nil, c.err
			}
			keys[t] = c.Selection.Sharing()
		}
		if targets = slices.Sorted(maps.Keys(keys)); len(targets) == 0 {
			return nil, code.New("TS7909", policy, target)
		}
		err = s.store.Update(ctx, func(tx *store.Tx) error {
			if err := tx.LockPolicies(ctx); err != nil {
				return err
			}
			if now, err := groundOf(ctx, tx.Reader); err != nil {
				return err
			} else if now.print != g.print {
				return errMoved
			}
			for _, t := range targets {
				if _, err := tx.AddRebuild(ctx, t, keys[t]); err != nil {
					return err
				}
			}
			return tx.Audit(ctx, store.AuditEntry{Actor: actor, Action: "policy.rebuild", Object: policy, Detail: strings.Join(targets, " ")})
		})
		if !errors.Is(err, errMoved) {
			return targets, err
		}
	}
	return nil, moved()
}
