// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
)

func userPath(id, verb string) string { return path("v1", "users", id) + verb }

// Users lists the people who may sign in.
func (c *Client) Users(ctx context.Context) (*api.List[api.User], error) {
	return get[api.List[api.User]](ctx, c, "/v1/users", nil)
}

// User is one person.
func (c *Client) User(ctx context.Context, id string) (*api.User, error) {
	return get[api.User](ctx, c, userPath(id, ""), nil)
}

// CreateUser makes a user; the link that they come in with is in the answer
// only.
func (c *Client) CreateUser(ctx context.Context, u api.NewUser) (*api.UserMade, error) {
	return post[api.UserMade](ctx, c, http.MethodPost, "/v1/users", u)
}

// ChangeUser changes roles, name or address, disables or enables.
func (c *Client) ChangeUser(ctx context.Context, id string, change api.UserChange) (*api.User, error) {
	return post[api.User](ctx, c, http.MethodPatch, userPath(id, ""), change)
}

// CreateLink makes a link for a user, in the place of those they have.
func (c *Client) CreateLink(ctx context.Context, id, purpose string) (*api.LinkMade, error) {
	return post[api.LinkMade](ctx, c, http.MethodPost, userPath(id, "/link"), api.NewLink{Purpose: purpose})
}

// ResetFactors removes all that a user signs in with, and makes a link.
func (c *Client) ResetFactors(ctx context.Context, id string) (*api.LinkMade, error) {
	return post[api.LinkMade](ctx, c, http.MethodPost, userPath(id, "/reset"), nil)
}

// UnlockUser forgets the wrong attempts to sign in as a user.
func (c *Client) UnlockUser(ctx context.Context, id string) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: userPath(id, "/unlock")})
	return err
}

// Sessions lists everybody's sessions, the last used first.
func (c *Client) Sessions(ctx context.Context) (*api.List[api.Session], error) {
	return get[api.List[api.Session]](ctx, c, "/v1/sessions", nil)
}

// EndSession ends anybody's session.
func (c *Client) EndSession(ctx context.Context, id string) error {
	return c.remove(ctx, path("v1", "sessions", id))
}

// Keys lists everybody's API keys, those of programs too.
func (c *Client) Keys(ctx context.Context) (*api.List[api.Key], error) {
	return get[api.List[api.Key]](ctx, c, "/v1/keys", nil)
}

// RevokeKey ends anybody's API key.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	return c.remove(ctx, path("v1", "keys", id))
}
