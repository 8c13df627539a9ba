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
	CreateChannel(context.Context, api.NewChannel) (*api.ChannelMade, error)
	SetChannel(ctx context.Context, id string, s api.ChannelSettings) (*api.Channel, error)
	DeleteChannel(ctx context.Context, id string) error
	SetRolloutSettings(context.Context, api.RolloutSettings) (*api.RolloutSettings, error)
}

// Made is what a step has made and is told this once.
type Made struct {
	ID     string
	Enroll string // of a token: the enrolment word
	Secret string // of a token, or of a webhook
}

// Run does the step. made is of a step that makes a token or a channel: it is
// there also when err says that an old token could not be revoked.
func (s *Step) Run(ctx context.Context, srv Server) (made *Made, err error) {
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
	case KindRollouts:
		_, err := srv.SetRolloutSettings(ctx, s.rollouts)
		return nil, err
	case KindToken:
		if s.Do != Remove {
			t, err := srv.CreateToken(ctx, s.token)
			if err != nil {
				return nil, err
			}
			made = &Made{ID: t.ID, Enroll: t.Enroll, Secret: t.Secret}
		}
		for _, id := range s.revoke {
			if err := srv.RevokeToken(ctx, id); err != nil {
				return made, fmt.Errorf("old token %s: %w", id, err)
			}
		}
		return made, nil
	case KindChannel:
		switch s.Do {
		case Change:
			_, err := srv.SetChannel(ctx, s.id, s.channel)
			return nil, err
		case Remove, Replace:
			if err := srv.DeleteChannel(ctx, s.id); err != nil || s.Do == Remove {
				return nil, err
			}
		case Create:
		}
		c, err := srv.CreateChannel(ctx, api.NewChannel{ChannelSettings: s.channel})
		if err != nil {
			return nil, err
		}
		return &Made{ID: c.ID, Secret: c.Secret}, nil
	}
	return nil, fmt.Errorf("step of kind %q", s.Kind)
}
