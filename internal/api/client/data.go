// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/api"
)

// CVEFilter chooses vulnerabilities.
type CVEFilter struct {
	Query, Policy, Target, Severity string
	State                           api.Coverage
	Exploited, Open                 bool
	After                           string
	Limit                           int
}

// CVEs lists vulnerabilities by target, a page at a time.
func (c *Client) CVEs(ctx context.Context, f CVEFilter) (*api.CVEList, error) {
	return get[api.CVEList](ctx, c, "/v1/cves", query(
		"q", f.Query, "policy", f.Policy, "target", f.Target, "severity", f.Severity, "state", string(f.State),
		"exploited", flag(f.Exploited), "open", flag(f.Open), "after", f.After, "limit", number(f.Limit)))
}

// CVE is all that is known of a vulnerability.
func (c *Client) CVE(ctx context.Context, name, policy string) (*api.CVEDetail, error) {
	return get[api.CVEDetail](ctx, c, path("v1", "cves", name), query("policy", policy))
}

// LivePatchContents is what a live patch is made of.
func (c *Client) LivePatchContents(ctx context.Context, id string) (*api.LivePatchContents, error) {
	return get[api.LivePatchContents](ctx, c, patchPath(id, "/contents"), nil)
}

// Targets lists the kernels of the fleet with their coverage windows.
func (c *Client) Targets(ctx context.Context) (*api.List[api.TargetInfo], error) {
	return get[api.List[api.TargetInfo]](ctx, c, "/v1/targets", nil)
}

// SetWindow says how long live patches are made for a target.
func (c *Client) SetWindow(ctx context.Context, target string, w api.SetWindow) (*api.TargetInfo, error) {
	return post[api.TargetInfo](ctx, c, http.MethodPut, path("v1", "targets", target, "window"), w)
}

// DeleteWindow takes that back.
func (c *Client) DeleteWindow(ctx context.Context, target string) error {
	return c.remove(ctx, path("v1", "targets", target, "window"))
}

// History is how the fleet stood over some days.
func (c *Client) History(ctx context.Context, days int) (*api.History, error) {
	return get[api.History](ctx, c, "/v1/history", query("days", strconv.Itoa(days)))
}

// System is how the service itself stands.
func (c *Client) System(ctx context.Context) (*api.SystemReport, error) {
	return get[api.SystemReport](ctx, c, "/v1/system", nil)
}
