// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
)

func policyPath(name, verb string) string { return path("v1", "policies", name) + verb }

// Policies lists policies with what they choose.
func (c *Client) Policies(ctx context.Context) (*api.List[api.PolicyInfo], error) {
	return get[api.List[api.PolicyInfo]](ctx, c, "/v1/policies", nil)
}

// Policy is one policy.
func (c *Client) Policy(ctx context.Context, name string) (*api.PolicyInfo, error) {
	return get[api.PolicyInfo](ctx, c, policyPath(name, ""), nil)
}

// SetPolicy makes a policy, or gives it another text.
func (c *Client) SetPolicy(ctx context.Context, p api.Policy) (*api.PolicyInfo, error) {
	return post[api.PolicyInfo](ctx, c, http.MethodPut, policyPath(p.Name, ""), p)
}

// DeletePolicy removes a policy that no group has.
func (c *Client) DeletePolicy(ctx context.Context, name string) error {
	return c.remove(ctx, policyPath(name, ""))
}

// Exclude adds exclusions to a policy.
func (c *Client) Exclude(ctx context.Context, policy string, e api.Exclude) (*api.PolicyInfo, error) {
	return post[api.PolicyInfo](ctx, c, http.MethodPost, policyPath(policy, "/exclude"), e)
}

// Include takes exclusions out of a policy.
func (c *Client) Include(ctx context.Context, policy string, names []string) (*api.PolicyInfo, error) {
	return post[api.PolicyInfo](ctx, c, http.MethodPost, policyPath(policy, "/include"), api.Include{Names: names})
}

// SetPolicyGroups gives groups of machines a policy.
func (c *Client) SetPolicyGroups(ctx context.Context, policy string, groups []string) (*api.PolicyInfo, error) {
	return post[api.PolicyInfo](ctx, c, http.MethodPost, policyPath(policy, "/groups"), api.PolicyGroups{Groups: groups})
}

// RebuildPolicy has what a policy chooses built again, for a target or ("") all.
func (c *Client) RebuildPolicy(ctx context.Context, policy, target string) (*api.Rebuilt, error) {
	return post[api.Rebuilt](ctx, c, http.MethodPost, policyPath(policy, "/rebuild"), api.Rebuild{Target: target})
}

// PreviewPolicy says what would change for whom.
func (c *Client) PreviewPolicy(ctx context.Context, policy string, q api.PolicyQuestion) (*api.PolicyPreview, error) {
	return post[api.PolicyPreview](ctx, c, http.MethodPost, policyPath(policy, "/preview"), q)
}

// Updates lists what is pushed.
func (c *Client) Updates(ctx context.Context) (*api.List[api.Update], error) {
	return get[api.List[api.Update]](ctx, c, "/v1/updates", nil)
}

// PushUpdate pushes the fixes for a target, as package selection writes them.
func (c *Client) PushUpdate(ctx context.Context, name string, extra bool, b []byte) (*api.Update, error) {
	q := query("name", name)
	if extra {
		q.Set("extra", "true")
	}
	return upload[api.Update](ctx, c, "/v1/updates", q, b, "application/json")
}

// DeleteUpdate takes back what was pushed.
func (c *Client) DeleteUpdate(ctx context.Context, target, name string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: "/v1/updates", query: query("target", target, "name", name)})
	return err
}
