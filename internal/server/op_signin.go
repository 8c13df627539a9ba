// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"
	"net/url"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/people"
)

type signInInput struct{ Body api.SignIn }

type finishPasskeyInput struct{ Body api.FinishPasskey }

type linkInput struct{ Body api.LookAtLink }

type redeemInput struct{ Body api.RedeemLink }

// signedIn is the answer of what begins a session: its cookie, and whose it is.
type signedIn struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
	Body      api.Account
}

// signInOperations are what leads to a session, and out of it. Those of OpenID
// providers are plain handlers: browsers are sent to and fro.
func (s *Server) signInOperations(o *operations) {
	answer(o, op{id: "sign-in-methods", method: "GET", path: "/v1/sign-in", summary: "The ways in", may: look, tag: "public"},
		func(context.Context, operator, *none) (api.SignInMethods, error) { return s.people.Methods(), nil })
	begins(o, op{id: "sign-in", method: "POST", path: "/v1/sign-in", summary: "Sign in with a password; TS8210: a second factor is needed"},
		func(ctx context.Context, who operator, in *signInInput) (people.SignedIn, error) {
			return s.people.SignIn(ctx, in.Body, who.from)
		})
	answer(o, op{id: "sign-in-passkey-begin", method: "POST", path: "/v1/sign-in/passkey", summary: "Begin to sign in with a passkey, or to prove with one again who one is", may: look, tag: "public"},
		func(ctx context.Context, who operator, _ *none) (api.PasskeyBegun, error) {
			s.strangers.failed(who.from.Address, s.now()) // no failure, but few can be open at a time
			return s.people.BeginPasskeySignIn(ctx)
		})
	begins(o, op{id: "sign-in-passkey-finish", method: "POST", path: "/v1/sign-in/passkey/finish", summary: "Sign in with what the passkey gave", limit: passkeyBody},
		func(ctx context.Context, who operator, in *finishPasskeyInput) (people.SignedIn, error) {
			return s.people.FinishPasskeySignIn(ctx, in.Body, who.from)
		})
	answer(o, op{id: "look-at-link", method: "POST", path: "/v1/links/look", summary: "What a link is for; it stays good", may: look, tag: "public"},
		func(ctx context.Context, _ operator, in *linkInput) (api.LinkShown, error) {
			return s.people.LookAtLink(ctx, in.Body.Secret)
		})
	begins(o, op{id: "redeem-link", method: "POST", path: "/v1/links/redeem", summary: "Use a link up: set a password if it is for that, and sign in"},
		func(ctx context.Context, who operator, in *redeemInput) (people.SignedIn, error) {
			return s.people.RedeemLink(ctx, in.Body, who.from)
		})

	out := op{id: "sign-out", method: "POST", path: "/v1/sign-out", summary: "End the session", may: look, tag: "people", status: http.StatusNoContent}
	huma.Register(o.api, out.operation(), func(ctx context.Context, _ *none) (*signedOut, error) {
		if err := s.people.SignOut(ctx, who(ctx).caller); err != nil {
			return nil, s.fail(ctx, out, err)
		}
		return &signedOut{SetCookie: *people.NoCookie()}, nil
	})
}

// passkeyBody bounds what a browser sends of a passkey.
const passkeyBody = 64 << 10

type signedOut struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}

// begins registers an operation that begins a session.
func begins[I any](o *operations, line op, h func(context.Context, operator, *I) (people.SignedIn, error)) {
	s := o.server
	line.may, line.tag = look, "public"
	huma.Register(o.api, line.operation(), func(ctx context.Context, in *I) (*signedIn, error) {
		made, err := h(ctx, who(ctx), in)
		if err != nil {
			return nil, s.fail(ctx, line, err)
		}
		c, err := s.people.BySession(ctx, made.Secret, who(ctx).from)
		if err != nil {
			return nil, s.fail(ctx, line, err)
		}
		out := &signedIn{SetCookie: *s.people.Cookie(made.Secret)}
		if out.Body, err = s.people.Account(ctx, c); err != nil {
			return nil, s.fail(ctx, line, err)
		}
		return out, nil
	})
}

// beginOIDC answers GET /v1/sign-in/oidc/{provider}: it sends the browser there.
func (s *Server) beginOIDC(w http.ResponseWriter, r *http.Request, who operator) error {
	s.strangers.failed(who.from.Address, s.now()) // as with passkeys
	begun, err := s.people.BeginOIDC(r.Context(), nil, r.PathValue("provider"), r.URL.Query().Get("return_to"))
	if err != nil {
		s.signInPage(w, r, err)
		return nil
	}
	http.SetCookie(w, begun.Binding)
	see(w, begun.URL)
	return nil
}

// finishOIDC answers the provider's sending the browser back.
func (s *Server) finishOIDC(w http.ResponseWriter, r *http.Request, who operator) error {
	q := r.URL.Query()
	in := people.OIDCAnswer{State: q.Get("state"), Code: q.Get("code"), Issuer: q.Get("iss"), Error: q.Get("error")}
	if c, err := r.Cookie(people.BindingName); err == nil {
		in.Binding = c.Value
	}
	http.SetCookie(w, people.NoBinding())
	made, err := s.people.FinishOIDC(r.Context(), in, who.from)
	if err != nil {
		s.countStranger(who, err)
		s.signInPage(w, r, err)
		return nil
	}
	http.SetCookie(w, s.people.Cookie(made.Secret))
	see(w, made.ReturnTo)
	return nil
}

// signInPage sends a browser to the page that says what went wrong.
func (s *Server) signInPage(w http.ResponseWriter, r *http.Request, err error) {
	f := toFault(err)
	s.logFault(r.Context(), r.Method, r.URL.Path, f)
	q := url.Values{"error": {string(f.body.Code)}}
	if code.Of(err) != "" && f.body.Detail != "" {
		q.Set("why", f.body.Detail)
	}
	see(w, "/console/sign-in?"+q.Encode())
}

// see answers 303. What it says beside it is nothing, for an address in a body
// is what http.Redirect would have to escape.
func see(w http.ResponseWriter, address string) {
	w.Header().Set("Location", address)
	w.WriteHeader(http.StatusSeeOther)
}
