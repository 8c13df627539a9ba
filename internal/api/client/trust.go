// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
)

// RotateTierKey gives a tier a new key and signs everything in it anew.
func (c *Client) RotateTierKey(ctx context.Context, tier string) (*api.Trust, error) {
	return post[api.Trust](ctx, c, http.MethodPost, path("v1", "tiers", tier, "key"), struct{}{})
}

// TUFRoot fetches a version of the TUF root, as machines do.
func (c *Client) TUFRoot(ctx context.Context, version int64) ([]byte, error) {
	return c.bytes(ctx, fmt.Sprintf("/tuf/metadata/%d.root.json", version), nil, api.MaxBody)
}
