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
	"path"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

// Provider is an OpenID provider at which people may sign in.
type Provider struct {
	ID           string // a-z, 0-9 and -
	Name         string // for people
	Issuer       string // URL
	ClientID     string
	ClientSecret string
	Scopes       []string // beside openid, profile and email
	// Grants are roles by the values of a claim; then the provider decides who
	// is what, at each sign-in. nil: roles are given on this server.
	Claim  string // "": groups
	Grants map[string][]authz.Grant
	Create bool // make a user of whom it knows and this server does not
}

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

// provider is one with what it says about itself, once it was asked.
type provider struct {
	Provider
	asking chan struct{} // held by who asks it, and over what follows
	found  *oidc.Provider
	failed error // of the last time that it was asked
	again  time.Time
}

// askAgain is how long one that did not answer is not asked again: everybody
// who wants to sign in would wait for it, one after the other.
const askAgain = 5 * time.Second

func newProviders(all []Provider) ([]*provider, error) {
	var out []*provider
	seen := map[string]bool{}
	for _, p := range all {
		bad := func(why string) error { return code.New("TS8218", p.ID, why) }
		u, err := url.Parse(p.Issuer)
		switch {
		case p.ID == "" || len(p.ID) > 32 || strings.Trim(p.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			return nil, bad("its id is of a-z, 0-9 and -")
		case p.ID == path.Base(CallbackPath):
			return nil, bad("the address of this id is where providers send browsers back to")
		case seen[p.ID]:
			return nil, bad("there are two of this id")
		case err != nil || u.Host == "" || u.Scheme != "https" && u.Hostname() != "localhost" && u.Hostname() != "127.0.0.1":
			return nil, bad("its issuer is no https address")
		case p.ClientID == "":
			return nil, bad("it has no client id")
		case p.Create && p.Grants == nil:
			return nil, bad("whom it makes would have no role: say which claim gives which")
		}
		for value, grants := range p.Grants {
			if err := authz.CheckGrants(grants); err != nil {
				return nil, fmt.Errorf("provider %s: %s: %w", p.ID, value, err)
			}
		}
		if p.Claim == "" {
			p.Claim = "groups"
		}
		if p.Name == "" {
			p.Name = p.ID
		}
		seen[p.ID] = true
		out = append(out, &provider{Provider: p, asking: make(chan struct{}, 1)})
	}
	return out, nil
}

// discover asks a provider about itself, until it answers once.
func (s *Service) discover(ctx context.Context, p *provider) (*oidc.Provider, error) {
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch {
	case p.found != nil:
		return p.found, nil
	case p.failed != nil && s.now().Before(p.again):
		return nil, p.failed
	}
	// What is found keeps the context's client, for its keys; the request
	// itself ends with the client's own time limit.
	found, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), s.client), p.Issuer)
	if err != nil {
		p.failed, p.again = code.New("TS8218", p.ID, "").With(err), s.now().Add(askAgain)
		return nil, p.failed
	}
	p.found = found
	return found, nil
}

func (s *Service) config(p *provider, found *oidc.Provider) oauth2.Config {
	return oauth2.Config{
		ClientID: p.ClientID, ClientSecret: p.ClientSecret, Endpoint: found.Endpoint(),
		RedirectURL: s.url.Scheme + "://" + s.url.Host + CallbackPath,
		Scopes:      append([]string{oidc.ScopeOpenID, "profile", "email"}, p.Scopes...),
	}
}

func (s *Service) provider(id string) (*provider, error) {
	i := slices.IndexFunc(s.providers, func(p *provider) bool { return p.ID == id })
	if i < 0 {
		return nil, code.New("TS8217", id, "this server has no such place to sign in")
	}
	return s.providers[i], nil
}

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
	ReturnTo string `json:"return_to"`
}

// BeginOIDC begins a sign-in at a provider. Who is signed in already has their
// account connected with whom the provider knows them as.
func (s *Service) BeginOIDC(ctx context.Context, who *Caller, id, returnTo string) (OIDCBegun, error) {
	p, err := s.provider(id)
	if err != nil {
		return OIDCBegun{}, err
	}
	person := ""
	if who != nil {
		if !who.Subject.Fresh {
			return OIDCBegun{}, code.New("TS8206", "", "")
		}
		u, err := s.self(ctx, *who)
		if err != nil {
			return OIDCBegun{}, err
		}
		person = u.ID
	}
	found, err := s.discover(ctx, p)
	if err != nil {
		return OIDCBegun{}, err
	}
	state, binding := newSecret(), newSecret()
	b := oidcBody{Provider: p.ID, Nonce: newSecret(), Verifier: oauth2.GenerateVerifier(), Binding: ceremonyID(binding), ReturnTo: localPath(returnTo)}
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
	u, err := s.whois(ctx, p, c.Person, token.Subject, said, grants)
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
	return token, extra, nil
}

// grantsBy are the roles that the values of a claim give.
func grantsBy(p *provider, claim any) []authz.Grant {
	var values []string
	switch v := claim.(type) {
	case string:
		values = []string{v}
	case []any:
		for _, e := range v {
			if text, ok := e.(string); ok {
				values = append(values, text)
			}
		}
	}
	slices.Sort(values)
	var all []authz.Grant
	for _, v := range slices.Compact(values) {
		for _, g := range p.Grants[v] {
			if !slices.ContainsFunc(all, func(o authz.Grant) bool { return o.Role == g.Role && slices.Equal(o.Groups, g.Groups) }) {
				all = append(all, g)
			}
		}
	}
	return all
}

// whois finds, connects or makes the user that a provider knows as subject.
func (s *Service) whois(ctx context.Context, p *provider, connect, subject string, said claims, grants []authz.Grant) (store.User, error) {
	var u store.User
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockPeople(ctx); err != nil {
			return err
		}
		i, err := tx.Identity(ctx, p.Issuer, subject)
		switch {
		case err == nil && connect != "" && connect != i.Person:
			return code.New("TS8217", p.ID, "another account here is connected with that one")
		case err == nil:
			u, err = tx.User(ctx, i.Person)
		case !errors.Is(err, store.ErrNotFound):
		case connect != "":
			if u, err = tx.User(ctx, connect); err == nil {
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
