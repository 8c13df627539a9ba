// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// begin sends what begins a session. It returns its secret: see
// Options.Session.
func (c *Client) begin(ctx context.Context, path string, in any) (*api.Account, string, error) {
	var out api.Account
	q := call{method: http.MethodPost, path: path, in: in, out: &out}
	res, err := c.do(ctx, q)
	if err != nil {
		return nil, "", err
	}
	for _, k := range res.Cookies() {
		if k.Name == api.SessionCookie && k.Value != "" {
			return &out, k.Value, nil
		}
	}
	return nil, "", code.New("TS7614", c.where(q), "the answer has no session")
}

// SignIn signs a person in with a password. TS8210: the code of the second
// factor is needed too.
func (c *Client) SignIn(ctx context.Context, in api.SignIn) (*api.Account, string, error) {
	return c.begin(ctx, "/v1/sign-in", in)
}

// LookAtLink says what a link is for; it stays good.
func (c *Client) LookAtLink(ctx context.Context, secret string) (*api.LinkShown, error) {
	return post[api.LinkShown](ctx, c, http.MethodPost, "/v1/links/look", api.LookAtLink{Secret: secret})
}

// RedeemLink uses a link up and signs in.
func (c *Client) RedeemLink(ctx context.Context, in api.RedeemLink) (*api.Account, string, error) {
	return c.begin(ctx, "/v1/links/redeem", in)
}

// SignOut ends the session.
func (c *Client) SignOut(ctx context.Context) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/sign-out"})
	return err
}

// ConfirmIdentity proves again who one is: for what answered TS8206.
func (c *Client) ConfirmIdentity(ctx context.Context, in api.ConfirmIdentity) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/account/confirm", in: in})
	return err
}

// Account is who is signed in.
func (c *Client) Account(ctx context.Context) (*api.Account, error) {
	return get[api.Account](ctx, c, "/v1/account", nil)
}

// ChangeAccount changes one's own name and settings.
func (c *Client) ChangeAccount(ctx context.Context, change api.AccountChange) (*api.Account, error) {
	return post[api.Account](ctx, c, http.MethodPatch, "/v1/account", change)
}

// ChangePassword sets one's own password; the other sessions end.
func (c *Client) ChangePassword(ctx context.Context, password string) error {
	_, err := c.do(ctx, call{method: http.MethodPut, path: "/v1/account/password", in: api.ChangePassword{Password: password}})
	return err
}

// BeginTOTP begins to add a second factor.
func (c *Client) BeginTOTP(ctx context.Context) (*api.TOTPBegun, error) {
	return post[api.TOTPBegun](ctx, c, http.MethodPost, "/v1/account/totp", nil)
}

// ConfirmTOTP adds it, with its first code.
func (c *Client) ConfirmTOTP(ctx context.Context, in api.ConfirmTOTP) (*api.RecoveryCodes, error) {
	return post[api.RecoveryCodes](ctx, c, http.MethodPost, "/v1/account/totp/confirm", in)
}

// RemoveTOTP removes the second factor.
func (c *Client) RemoveTOTP(ctx context.Context) error { return c.remove(ctx, "/v1/account/totp") }

// Passkeys are one's own.
func (c *Client) Passkeys(ctx context.Context) (*api.List[api.Passkey], error) {
	return get[api.List[api.Passkey]](ctx, c, "/v1/account/passkeys", nil)
}

// RemovePasskey removes one of them.
func (c *Client) RemovePasskey(ctx context.Context, id string) error {
	return c.remove(ctx, path("v1", "account", "passkeys", id))
}

// OwnSessions are one's own.
func (c *Client) OwnSessions(ctx context.Context) (*api.List[api.Session], error) {
	return get[api.List[api.Session]](ctx, c, "/v1/account/sessions", nil)
}

// EndOwnSession ends one of them.
func (c *Client) EndOwnSession(ctx context.Context, id string) error {
	return c.remove(ctx, path("v1", "account", "sessions", id))
}

// OwnKeys are one's own API keys.
func (c *Client) OwnKeys(ctx context.Context) (*api.List[api.Key], error) {
	return get[api.List[api.Key]](ctx, c, "/v1/account/keys", nil)
}

// CreateOwnKey makes one; its secret is in the answer only.
func (c *Client) CreateOwnKey(ctx context.Context, k api.NewKey) (*api.KeyMade, error) {
	return post[api.KeyMade](ctx, c, http.MethodPost, "/v1/account/keys", k)
}

// RevokeOwnKey ends one of them.
func (c *Client) RevokeOwnKey(ctx context.Context, id string) error {
	return c.remove(ctx, path("v1", "account", "keys", id))
}
