// SPDX-License-Identifier: Apache-2.0

package people

import (
	"context"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
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
