// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
)

func approvalPath(id, verb string) string { return path("v1", "approvals", id) + verb }

// Approved is the client that says, with what it asks, what another person
// agreed to: the id of an approval, or "" for none. It is for the one request
// that the approval is of.
func (c *Client) Approved(id string) *Client {
	d := *c
	d.approval = id
	return &d
}

// Approvals lists what a second person was asked for, the newest first; all:
// those too that were decided or whose time is over.
func (c *Client) Approvals(ctx context.Context, all bool, after string) (*api.List[api.Approval], error) {
	return get[api.List[api.Approval]](ctx, c, "/v1/approvals", query("all", flag(all), "after", after))
}

// Approval is one of them.
func (c *Client) Approval(ctx context.Context, id string) (*api.Approval, error) {
	return get[api.Approval](ctx, c, approvalPath(id, ""), nil)
}

// AskApproval asks for another person's agreement to one thing.
func (c *Client) AskApproval(ctx context.Context, in api.AskApproval) (*api.Approval, error) {
	return post[api.Approval](ctx, c, http.MethodPost, "/v1/approvals", in)
}

// GiveApproval agrees, as the second person.
func (c *Client) GiveApproval(ctx context.Context, id string) (*api.Approval, error) {
	return post[api.Approval](ctx, c, http.MethodPost, approvalPath(id, "/give"), nil)
}

// RefuseApproval refuses, or takes back what one asked for.
func (c *Client) RefuseApproval(ctx context.Context, id string) (*api.Approval, error) {
	return post[api.Approval](ctx, c, http.MethodPost, approvalPath(id, "/refuse"), nil)
}

// ApprovalActions says what needs a second person.
func (c *Client) ApprovalActions(ctx context.Context) (*api.ApprovalActions, error) {
	return get[api.ApprovalActions](ctx, c, "/v1/approvals/actions", nil)
}

// SetApprovals says what shall need one.
func (c *Client) SetApprovals(ctx context.Context, actions []string) (*api.ApprovalActions, error) {
	return post[api.ApprovalActions](ctx, c, http.MethodPut, "/v1/approvals/actions", api.ApprovalActions{Actions: append([]string{}, actions...)})
}
