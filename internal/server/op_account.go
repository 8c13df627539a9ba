// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tsugi-project/tsugi/internal/api"
)

type accountChange struct{ Body api.AccountChange }

type confirmInput struct{ Body api.ConfirmIdentity }

type passwordInput struct{ Body api.ChangePassword }

type confirmTOTPInput struct{ Body api.ConfirmTOTP }

type newKeyInput struct{ Body api.NewKey }

type providerInput struct {
	Provider string `path:"provider" maxLength:"32"`
}

// accountOperations are what people do with their own account.
func (s *Server) accountOperations(o *operations) {
	const tag = "people"
	answer(o, op{id: "get-account", method: "GET", path: "/v1/account", summary: "Who is signed in", may: look, tag: tag},
		func(ctx context.Context, who operator, _ *none) (api.Account, error) {
			return s.people.Account(ctx, who.caller)
		})
	answer(o, op{id: "change-account", method: "PATCH", path: "/v1/account", summary: "Change one's own name and settings", may: look, tag: tag},
		func(ctx context.Context, who operator, in *accountChange) (api.Account, error) {
			if err := s.people.ChangeAccount(ctx, who.caller, in.Body); err != nil {
				return api.Account{}, err
			}
			return s.people.Account(ctx, who.caller)
		})
	quiet(o, op{id: "confirm-identity", method: "POST", path: "/v1/account/confirm", summary: "Prove again who one is, with the password", may: look, tag: tag},
		func(ctx context.Context, who operator, in *confirmInput) error {
			return s.people.Confirm(ctx, who.caller, in.Body)
		})
	quiet(o, op{id: "confirm-passkey", method: "POST", path: "/v1/account/confirm-passkey", summary: "Prove again who one is, with a passkey", may: look, tag: tag, limit: passkeyBody},
		func(ctx context.Context, who operator, in *finishPasskeyInput) error {
			return s.people.ConfirmByPasskey(ctx, who.caller, in.Body)
		})
	quiet(o, op{id: "change-password", method: "PUT", path: "/v1/account/password", summary: "Change one's own password; the other sessions end", may: look, tag: tag},
		func(ctx context.Context, who operator, in *passwordInput) error {
			return s.people.ChangePassword(ctx, who.caller, in.Body)
		})
	s.factorOperations(o, tag)

	answer(o, op{id: "list-own-sessions", method: "GET", path: "/v1/account/sessions", summary: "One's own sessions", may: look, tag: tag},
		func(ctx context.Context, who operator, _ *none) (api.List[api.Session], error) {
			all, err := s.people.OwnSessions(ctx, who.caller)
			return listOf(all, 0, nil), err
		})
	quiet(o, op{id: "end-own-session", method: "DELETE", path: "/v1/account/sessions/{id}", summary: "End one of one's own sessions", may: look, tag: tag},
		func(ctx context.Context, who operator, in *byID) error {
			return missing(s.people.EndOwnSession(ctx, who.caller, in.ID), "session of yours", in.ID)
		})
	answer(o, op{id: "list-own-keys", method: "GET", path: "/v1/account/keys", summary: "One's own API keys", may: look, tag: tag},
		func(ctx context.Context, who operator, _ *none) (api.List[api.Key], error) {
			all, err := s.people.OwnKeys(ctx, who.caller)
			return listOf(all, 0, nil), err
		})
	answer(o, op{id: "create-own-key", method: "POST", path: "/v1/account/keys", summary: "Make an API key of one's own; its secret is told once", may: look, tag: tag, status: http.StatusCreated},
		func(ctx context.Context, who operator, in *newKeyInput) (api.KeyMade, error) {
			return s.people.CreateKey(ctx, who.caller, in.Body)
		})
	quiet(o, op{id: "revoke-own-key", method: "DELETE", path: "/v1/account/keys/{id}", summary: "End an API key of one's own", may: look, tag: tag},
		func(ctx context.Context, who operator, in *byID) error {
			return missing(s.people.RevokeOwnKey(ctx, who.caller, in.ID), "key of yours that is not revoked", in.ID)
		})

	// It is not the GET that begins a sign-in: a page of another site could have
	// a browser follow that, with its own account elsewhere behind it.
	connect := op{id: "connect-identity", method: "POST", path: "/v1/account/identities/{provider}", summary: "Begin to connect one's account with an OpenID provider's; the browser is to go to the address", may: look, tag: tag}
	huma.Register(o.api, connect.operation(), func(ctx context.Context, in *providerInput) (*connecting, error) {
		c := who(ctx).caller
		begun, err := s.people.BeginOIDC(ctx, &c, in.Provider, "/console/account")
		if err != nil {
			return nil, s.fail(ctx, connect, err)
		}
		return &connecting{SetCookie: *begun.Binding, Body: api.GoTo{URL: begun.URL}}, nil
	})
}

type connecting struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
	Body      api.GoTo
}

// factorOperations are those of second factors and passkeys.
func (s *Server) factorOperations(o *operations, tag string) {
	answer(o, op{id: "begin-totp", method: "POST", path: "/v1/account/totp", summary: "Begin to add a second factor", may: look, tag: tag},
		func(ctx context.Context, who operator, _ *none) (api.TOTPBegun, error) {
			return s.people.BeginTOTP(ctx, who.caller)
		})
	answer(o, op{id: "confirm-totp", method: "POST", path: "/v1/account/totp/confirm", summary: "Add it, with its first code; the recovery codes are told once", may: look, tag: tag},
		func(ctx context.Context, who operator, in *confirmTOTPInput) (api.RecoveryCodes, error) {
			return s.people.ConfirmTOTP(ctx, who.caller, in.Body)
		})
	quiet(o, op{id: "remove-totp", method: "DELETE", path: "/v1/account/totp", summary: "Remove the second factor and its recovery codes", may: look, tag: tag},
		func(ctx context.Context, who operator, _ *none) error { return s.people.RemoveTOTP(ctx, who.caller) })
	answer(o, op{id: "list-passkeys", method: "GET", path: "/v1/account/passkeys", summary: "One's own passkeys", may: look, tag: tag},
		func(ctx context.Context, who operator, _ *none) (api.List[api.Passkey], error) {
			all, err := s.people.Passkeys(ctx, who.caller)
			return listOf(all, 0, nil), err
		})
	answer(o, op{id: "begin-passkey", method: "POST", path: "/v1/account/passkeys/begin", summary: "Begin to make a passkey", may: look, tag: tag},
		func(ctx context.Context, who operator, _ *none) (api.PasskeyBegun, error) {
			return s.people.BeginPasskey(ctx, who.caller)
		})
	answer(o, op{id: "finish-passkey", method: "POST", path: "/v1/account/passkeys", summary: "Keep the passkey that the browser made", may: look, tag: tag, status: http.StatusCreated, limit: passkeyBody},
		func(ctx context.Context, who operator, in *finishPasskeyInput) (api.Passkey, error) {
			return s.people.FinishPasskey(ctx, who.caller, in.Body)
		})
	quiet(o, op{id: "remove-passkey", method: "DELETE", path: "/v1/account/passkeys/{id}", summary: "Remove a passkey", may: look, tag: tag},
		func(ctx context.Context, who operator, in *byID) error {
			return missing(s.people.RemovePasskey(ctx, who.caller, in.ID), "passkey of yours", in.ID)
		})
}
