// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"context"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/api"
)

// Server carries steps out; *client.Client is one.
type Server interface {
	CreateTier(context.Context, api.NewTier) (*api.Tier, error)
	DeleteTier(ctx context.Context, name string) error
	SetPolicy(context.Context, api.Policy) (*api.PolicyInfo, error)
	SetPolicyGroups(ctx context.Context, policy string, groups []string) (*api.PolicyInfo, error)
	DeletePolicy(ctx context.Context, name string) error
	CreateToken(context.Context, api.NewToken) (*api.TokenMade, error)
	RevokeToken(ctx context.Context, id string) error
}

// Run does the step. made is the new token of a step that makes one: its word is
// told this once, also when err says that an old token could not be revoked.
func (s *Step) Run(ctx context.Context, srv Server) (made *api.TokenMade, err error) {
	switch s.Kind {
	case KindTier:
		if s.Do == Remove {
			return nil, srv.DeleteTier(ctx, s.Name)
		}
		_, err := srv.CreateTier(ctx, s.tier)
		return nil, err
	case KindPolicy:
		if s.Do == Remove {
			return nil, srv.DeletePolicy(ctx, s.Name)
		}
		_, err := srv.SetPolicy(ctx, s.policy)
		return nil, err
	case KindGroups:
		_, err := srv.SetPolicyGroups(ctx, s.Name, s.groups)
		return nil, err
	case KindToken:
		if s.Do != Remove {
			if made, err = srv.CreateToken(ctx, s.token); err != nil {
				return nil, err
			}
		}
		for _, id := range s.revoke {
			if err := srv.RevokeToken(ctx, id); err != nil {
				return made, fmt.Errorf("old token %s: %w", id, err)
			}
		}
		return made, nil
	}
	return nil, fmt.Errorf("step of kind %q", s.Kind)
}
