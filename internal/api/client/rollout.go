// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
)

// RolloutQuery chooses rollouts; zero fields choose all.
type RolloutQuery struct {
	LivePatch, Tier string
	Open            bool // only those that are not over
	After           string
	Limit           int
}

// Rollouts lists rollouts, the newest first.
func (c *Client) Rollouts(ctx context.Context, q RolloutQuery) (*api.List[api.Rollout], error) {
	return get[api.List[api.Rollout]](ctx, c, "/v1/rollouts",
		query("livepatch", q.LivePatch, "tier", q.Tier, "open", flag(q.Open), "after", q.After, "limit", number(q.Limit)))
}

func rolloutPath(id, rest string) string { return path("v1", "rollouts", id) + rest }

// Rollout returns a rollout.
func (c *Client) Rollout(ctx context.Context, id string) (*api.Rollout, error) {
	return get[api.Rollout](ctx, c, rolloutPath(id, ""), nil)
}

// CreateRollout takes a live patch through a tier.
func (c *Client) CreateRollout(ctx context.Context, n api.NewRollout) (*api.Rollout, error) {
	return post[api.Rollout](ctx, c, http.MethodPost, "/v1/rollouts", n)
}

// PreviewRollout says what a plan would mean.
func (c *Client) PreviewRollout(ctx context.Context, n api.NewRollout) (*api.RolloutPreview, error) {
	return post[api.RolloutPreview](ctx, c, http.MethodPost, "/v1/rollouts/preview", n)
}

// TellRollout does what a person asks: halt, resume, skip, abort, revert, hurry
// or approve.
func (c *Client) TellRollout(ctx context.Context, id, verb, reason string) (*api.Rollout, error) {
	return post[api.Rollout](ctx, c, http.MethodPost, rolloutPath(id, "/"+verb), api.RolloutAction{Reason: reason})
}

// RolloutSteps lists what a rollout decided, the newest first.
func (c *Client) RolloutSteps(ctx context.Context, id, after string) (*api.List[api.RolloutStep], error) {
	return get[api.List[api.RolloutStep]](ctx, c, rolloutPath(id, "/steps"), query("after", after))
}

// RolloutMachines lists the machines that were offered it; status "" and wave 0
// are any.
func (c *Client) RolloutMachines(ctx context.Context, id, status string, wave int, after string) (*api.List[api.RolloutMachine], error) {
	return get[api.List[api.RolloutMachine]](ctx, c, rolloutPath(id, "/machines"),
		query("limit", number(api.MaxPage), "status", status, "wave", number(wave), "after", after))
}

// ExplainRollout says how a machine stands in a rollout.
func (c *Client) ExplainRollout(ctx context.Context, id, machine string) (*api.RolloutWord, error) {
	return get[api.RolloutWord](ctx, c, rolloutPath(id, path("machines", machine)), nil)
}

// RolloutSettings returns how live patches come to tiers.
func (c *Client) RolloutSettings(ctx context.Context) (*api.RolloutSettings, error) {
	return get[api.RolloutSettings](ctx, c, "/v1/rollout-settings", nil)
}

// SetRolloutSettings changes that.
func (c *Client) SetRolloutSettings(ctx context.Context, set api.RolloutSettings) (*api.RolloutSettings, error) {
	if set.Tiers == nil {
		set.Tiers = map[string]api.RolloutTier{}
	}
	if set.Ladder.Rungs == nil {
		set.Ladder.Rungs = []api.RolloutRung{}
	}
	return post[api.RolloutSettings](ctx, c, http.MethodPut, "/v1/rollout-settings", set)
}

// Promotions lists live patches on the ladder.
func (c *Client) Promotions(ctx context.Context) (*api.List[api.Promotion], error) {
	return get[api.List[api.Promotion]](ctx, c, "/v1/promotions", nil)
}
