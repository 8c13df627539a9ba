// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// CallbackPath is where providers send browsers back to.
const CallbackPath = "/v1/sign-in/oidc/callback"

// BindingName is the cookie that ties a sign-in elsewhere to the browser that
// began it. Without it somebody could have others signed in as themselves.
const BindingName = "__Host-tsugi-oidc"

// NoBinding takes that cookie back.
func NoBinding() *http.Cookie {
	return &http.Cookie{Name: BindingName, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
}

const (
	oidcKind = "oidc"
	oidcTime = 10 * time.Minute
)

// Methods are the ways in.
func (s *Service) Methods() api.SignInMethods {
	m := api.SignInMethods{Passkeys: s.passkeys != nil, Providers: []api.SignInProvider{}}
	for _, p := range s.providers {
		m.Providers = append(m.Providers, api.SignInProvider{ID: p.ID, Name: p.Name})
	}
	return m
}

// OIDCBegun is a sign-in that goes on elsewhere.
type OIDCBegun struct {
	URL     string       // where to send the browser
	Binding *http.Cookie // to set with it
}

type oidcBody struct {
	Provider string `json:"provider"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"` // of PKCE
	Binding  string `json:"binding"`  // hash of the cookie's value
	Session  string `json:"session"`  // of who connects their account; "": nobody
	ReturnTo string `json:"return_to"`
}

// BeginOIDC begins a sign-in at a provider. Who is signed in already has their
// account connected with whom the provider knows them as.
func (s *Service) BeginOIDC(ctx context.Context, who *Caller, id, returnTo string) (OIDCBegun, error) {
	p, err := s.provider(id)
	if err != nil {
		return OIDCBegun{}, err
	}
	person, session := "", ""
	if who != nil {
		if !who.Subject.Fresh {
			return OIDCBegun{}, code.New("TS8206", "", "")
		}
		u, err := s.self(ctx, *who)
		if err != nil {
			return OIDCBegun{}, err
		}
		person, session = u.ID, who.Session
	}
	found, err := s.discover(ctx, p)
	if err != nil {
		return OIDCBegun{}, err
	}
	state, binding := newSecret(), newSecret()
	b := oidcBody{
		Provider: p.ID, Nonce: newSecret(), Verifier: oauth2.GenerateVerifier(), Binding: ceremonyID(binding), Session: session, ReturnTo: localPath(returnTo),
	}
	body, err := jsonText(b)
	if err != nil {
		return OIDCBegun{}, err
	}
	config := s.config(p, found)
	out := OIDCBegun{
		URL: config.AuthCodeURL(state, oidc.Nonce(b.Nonce), oauth2.S256ChallengeOption(b.Verifier)),
		Binding: &http.Cookie{
			Name: BindingName, Value: binding, Path: "/", MaxAge: int(oidcTime / time.Second),
			Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, // Strict would not come back from elsewhere
		},
	}
	return out, s.beginCeremony(ctx, state, oidcKind, person, body, oidcTime)
}

// localPath is a path of the console, or that of its first page: nobody is sent
// elsewhere after signing in.
func localPath(s string) string {
	const home = "/console/"
	u, err := url.Parse(s)
	if err != nil || len(s) > 1000 || !strings.HasPrefix(s, home) || u.Host != "" || u.Scheme != "" || u.Opaque != "" || strings.ContainsAny(s, "\\\r\n\t") ||
		!strings.HasPrefix(u.Path, home) || strings.Contains(u.Path, "..") || strings.Contains(u.Path, "//") || strings.Contains(u.Path, "\\") {
		return home
	}
	return s
}

// OIDCAnswer is what a provider sent a browser back with.
type OIDCAnswer struct {
	State, Code, Issuer string
	Error               string // the provider's word for what went wrong
	Binding             string // of the cookie
}

// claims are what is asked of an ID token.
type claims struct {
	Name     string `json:"name"`
	Username string `json:"preferred_username"`
	Email    string `json:"email"`
	Verified any    `json:"email_verified"` // some write it as text
}

// FinishOIDC ends a sign-in at a provider.
func (s *Service) FinishOIDC(ctx context.Context, in OIDCAnswer, from From) (SignedIn, error) {
	no := func(why string) (SignedIn, error) { return SignedIn{}, code.New("TS8217", "", why) }
	var c store.Ceremony
	err := s.store.Update(ctx, func(tx *store.Tx) (err error) {
		c, err = tx.EndCeremony(ctx, ceremonyID(in.State), oidcKind)
		return err
	})
	if err != nil {
		return SignedIn{}, late(err)
	}
	var b oidcBody
	if err := json.Unmarshal([]byte(c.Body), &b); err != nil {
		return SignedIn{}, err
	}
	if subtle.ConstantTimeCompare([]byte(ceremonyID(in.Binding)), []byte(b.Binding)) != 1 {
		return no("it was begun in another browser")
	}
	p, err := s.provider(b.Provider)
	if err != nil {
		return SignedIn{}, err
	}
	switch {
	case in.Error != "":
		return no(p.Name + " says: " + clean(in.Error))
	case in.Issuer != "" && in.Issuer != p.Issuer: // RFC 9207
		return no("the answer is of another provider")
	}
	token, extra, err := s.token(ctx, p, in.Code, b)
	if err != nil {
		return SignedIn{}, err
	}
	var said claims
	if err := token.Claims(&said); err != nil {
		return SignedIn{}, code.New("TS8217", p.ID, "").With(err)
	}
	var grants []authz.Grant
	if p.Grants != nil {
		if grants = grantsBy(p, extra[p.Claim]); len(grants) == 0 {
			return no(p.Name + " gives you no role here")
		}
	}
	u, err := s.whois(ctx, p, Caller{UserID: c.Person, Session: b.Session}, token.Subject, said, grants)
	if err != nil {
		return SignedIn{}, err
	}
	if u.Disabled != 0 {
		return SignedIn{}, code.New("TS8209", u.Name, "")
	}
	out, err := s.begin(ctx, u, "oidc:"+p.ID, from, nil)
	out.ReturnTo = b.ReturnTo
	return out, err
}

// token gets and verifies the ID token that a code is good for.
func (s *Service) token(ctx context.Context, p *provider, codeText string, b oidcBody) (*oidc.IDToken, map[string]any, error) {
	found, err := s.discover(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	ctx = oidc.ClientContext(ctx, s.client)
	config := s.config(p, found)
	bad := func(why string, err error) (*oidc.IDToken, map[string]any, error) {
		s.log.Warn("sign-in at a provider failed", "provider", p.ID, "what", why, "err", err)
		return nil, nil, code.New("TS8217", p.ID, why)
	}
	t, err := config.Exchange(ctx, codeText, oauth2.VerifierOption(b.Verifier))
	if err != nil {
		return bad("it did not take the code that it gave", err)
	}
	raw, ok := t.Extra("id_token").(string)
	if !ok {
		return bad("it gave no ID token", nil)
	}
	token, err := found.VerifierContext(ctx, &oidc.Config{ClientID: p.ClientID, Now: s.now}).Verify(ctx, raw)
	if err != nil {
		return bad("its ID token does not hold", err)
	}
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(b.Nonce)) != 1 || token.Subject == "" {
		return bad("its ID token is of another sign-in", nil)
	}
	var extra map[string]any
	if err := token.Claims(&extra); err != nil {
		return bad("its ID token is not understood", err)
	}
	// OpenID Connect Core 1.0, 3.1.3.7: it is for us, and not for another who may see it.
	if to, said := extra["azp"]; said && to != p.ClientID || !said && len(token.Audience) > 1 {
		return bad("its ID token was made for another program", nil)
	}
	return token, extra, nil
}

// whois finds, connects or makes the user that a provider knows as subject.
// connect is who began it in a session of theirs, if somebody did.
func (s *Service) whois(ctx context.Context, p *provider, connect Caller, subject string, said claims, grants []authz.Grant) (store.User, error) {
	var u store.User
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
		i, err := tx.Identity(ctx, p.Issuer, subject)
		switch {
		case err == nil && connect.UserID != "" && connect.UserID != i.Person:
			return code.New("TS8217", p.ID, "another account here is connected with that one")
		case err == nil:
			u, err = tx.User(ctx, i.Person)
		case !errors.Is(err, store.ErrNotFound):
		case connect.UserID != "":
			if err = s.held(ctx, tx, connect); err != nil {
				return err
			}
			if u, err = tx.User(ctx, connect.UserID); err == nil {
				err = s.connect(ctx, tx, p, u, subject)
			}
		case p.Create:
			if u, err = s.provision(ctx, tx, p, said, grants); err == nil {
				err = s.connect(ctx, tx, p, u, subject)
			}
		default:
			err = code.New("TS8217", p.ID, "no account here is connected with yours there: sign in otherwise, and connect it on the page of your account")
		}
		if err != nil || p.Grants == nil {
			return err
		}
		text, err := grantsText(grants)
		if err != nil || text == u.Grants {
			return err
		}
		before := u.Grants
		u.Grants = text
		if err := tx.UpdateUser(ctx, u); err != nil {
			return err
		}
		if err := someAdmin(ctx, tx); err != nil {
			return err
		}
		return tx.Audit(ctx, entry("oidc:"+p.ID, "user.change", u.Name, fmt.Sprintf("roles: %s, before: %s", roleText(grants), roleText(grantsOf(before)))))
	})
	return u, err
}

func (s *Service) connect(ctx context.Context, tx *store.Tx, p *provider, u store.User, subject string) error {
	if err := tx.AddIdentity(ctx, store.Identity{Issuer: p.Issuer, Subject: subject, Person: u.ID}); err != nil {
		return err
	}
	return tx.Audit(ctx, entry(u.Name, "user.connect", u.Name, p.ID+": "+clean(subject)))
}

// provision makes a user of whom the provider knows. A name that somebody has
// is not theirs: it gets the provider's id behind it.
func (s *Service) provision(ctx context.Context, tx *store.Tx, p *provider, said claims, grants []authz.Grant) (store.User, error) {
	name := said.Username
	if name == "" {
		name, _, _ = strings.Cut(said.Email, "@")
	}
	name = strings.TrimLeft(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._-+", r):
			return r
		case r == ' ' || r == '@':
			return '.'
		}
		return -1
	}, userName(name)), "._-+")
	name = name[:min(len(name), 30)]
	if name == "" {
		return store.User{}, code.New("TS8217", p.ID, "it gives no name that could be used here")
	}
	display, err := checkDisplay(said.Name)
	if err != nil {
		display = ""
	}
	email, err := checkEmail(said.Email)
	if err != nil || said.Verified != true && said.Verified != "true" {
		email = ""
	}
	for _, n := range []string{name, name + "@" + p.ID} {
		_, err := tx.UserByName(ctx, n)
		if err == nil {
			continue
		}
		if !errors.Is(err, store.ErrNotFound) {
			return store.User{}, err
		}
		row, err := newUser("oidc:"+p.ID, api.NewUser{Name: n, Display: display, Email: email, Grants: fromGrants(grants)})
		if err != nil {
			return store.User{}, err
		}
		u, err := insertUser(ctx, tx, row)
		if code.Of(err) == "TS8214" { // an operator's token has it
			continue
		}
		return u, err
	}
	return store.User{}, code.New("TS8217", p.ID, "the name "+name+" is another's here")
}

// clean is text of somebody else's for people to read.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s[:min(len(s), 200)])
}
