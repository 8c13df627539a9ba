// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
)

type newUserInput struct{ Body api.NewUser }

type userChangeInput struct {
	ID   string `path:"id" maxLength:"255"`
	Body api.UserChange
}

type newLinkInput struct {
	ID   string `path:"id" maxLength:"255"`
	Body api.NewLink
}

// userOperations are what admins do with people.
func (s *Server) userOperations(o *operations) {
	const tag = "people"
	answer(o, op{id: "list-users", method: "GET", path: "/v1/users", summary: "All people, by name", may: look, tag: tag},
		func(ctx context.Context, _ operator, _ *none) (api.List[api.User], error) {
			all, err := s.people.Users(ctx)
			return listOf(all, 0, nil), err
		})
	answer(o, op{id: "create-user", method: "POST", path: "/v1/users", summary: "Make a user; the link that they come in with is told once", may: change, tag: tag, status: http.StatusCreated},
		func(ctx context.Context, who operator, in *newUserInput) (api.UserMade, error) {
			return s.people.CreateUser(ctx, who.caller, in.Body)
		})
	answer(o, op{id: "get-user", method: "GET", path: "/v1/users/{id}", summary: "One person", may: look, tag: tag},
		func(ctx context.Context, _ operator, in *byID) (api.User, error) { return s.people.User(ctx, in.ID) })
	answer(o, op{id: "change-user", method: "PATCH", path: "/v1/users/{id}", summary: "Change roles, name or address, disable or enable", may: change, tag: tag},
		func(ctx context.Context, who operator, in *userChangeInput) (api.User, error) {
			return s.people.ChangeUser(ctx, who.caller, in.ID, in.Body)
		})
	answer(o, op{id: "create-link", method: "POST", path: "/v1/users/{id}/link", summary: "Make a link for a user, in the place of those they have; it is told once", may: change, tag: tag, status: http.StatusCreated},
		func(ctx context.Context, who operator, in *newLinkInput) (api.LinkMade, error) {
			return s.people.CreateLink(ctx, who.name, in.ID, in.Body.Purpose)
		})
	answer(o, op{id: "reset-user-factors", method: "POST", path: "/v1/users/{id}/reset", summary: "Remove password, second factor, passkeys, accounts elsewhere, sessions and keys of a user, and make a link", may: change, tag: tag},
		func(ctx context.Context, who operator, in *byID) (api.LinkMade, error) {
			return s.people.ResetFactors(ctx, who.caller, in.ID)
		})
	quiet(o, op{id: "unlock-user", method: "POST", path: "/v1/users/{id}/unlock", summary: "Forget the wrong attempts to sign in as a user", may: change, tag: tag},
		func(ctx context.Context, who operator, in *byID) error {
			return s.people.Unlock(ctx, who.caller, in.ID)
		})

	answer(o, op{id: "list-sessions", method: "GET", path: "/v1/sessions", summary: "Everybody's sessions, the last used first", may: look, tag: tag},
		func(ctx context.Context, who operator, _ *none) (api.List[api.Session], error) {
			all, err := s.people.Sessions(ctx, who.caller)
			return listOf(all, 0, nil), err
		})
	quiet(o, op{id: "end-session", method: "DELETE", path: "/v1/sessions/{id}", summary: "End anybody's session", may: change, tag: tag},
		func(ctx context.Context, who operator, in *byID) error {
			return missing(s.people.EndSession(ctx, who.caller, in.ID), "session", in.ID)
		})
	answer(o, op{id: "list-keys", method: "GET", path: "/v1/keys", summary: "Everybody's API keys, those of programs too", may: look, tag: tag},
		func(ctx context.Context, _ operator, _ *none) (api.List[api.Key], error) {
			all, err := s.people.Keys(ctx)
			return listOf(all, 0, nil), err
		})
	quiet(o, op{id: "revoke-key", method: "DELETE", path: "/v1/keys/{id}", summary: "End anybody's API key", may: change, tag: tag},
		func(ctx context.Context, who operator, in *byID) error {
			return missing(s.people.RevokeKey(ctx, who.caller, in.ID), "key that is not revoked", in.ID)
		})
}
