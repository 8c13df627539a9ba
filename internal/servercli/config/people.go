// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
)

// SignIn says how people sign in, and for how long.
type SignIn struct {
	Idle  time.Duration `koanf:"idle"`  // a session that is not used for it ends
	Life  time.Duration `koanf:"life"`  // every session ends after it
	Fresh time.Duration `koanf:"fresh"` // who proved who they are needn't again for it
	Link  time.Duration `koanf:"link"`  // a link for a new user is good for it
	// Failures are how often sign-ins from one address may fail at once; then one
	// in each Every.
	Failures int           `koanf:"failures"`
	Every    time.Duration `koanf:"every"`
}

// OIDC is an OpenID provider at which people may sign in.
type OIDC struct {
	ID           string `koanf:"id"`
	Name         string `koanf:"name"`   // on the button
	Issuer       string `koanf:"issuer"` // URL; "": there is none
	ClientID     string `koanf:"client_id"`
	ClientSecret Secret `koanf:"client_secret"`
	// ClientSecretFile is read when ClientSecret is empty.
	ClientSecretFile string   `koanf:"client_secret_file"`
	Scopes           []string `koanf:"scopes"` // beside openid, profile and email
	// Claim is that whose values Roles name: VALUE=ROLE or VALUE=ROLE:GROUP,GROUP.
	// With any, the provider decides at each sign-in who is what.
	Claim  string   `koanf:"claim"`
	Roles  []string `koanf:"roles"`
	Create string   `koanf:"create"` // yes: make a user of whom it knows and this server does not
}

func (c *Config) checkPeople(bad complain) error {
	s := c.SignIn
	for key, d := range map[string]time.Duration{"idle": s.Idle, "life": s.Life, "fresh": s.Fresh, "link": s.Link} {
		if d < time.Minute || d > 90*day {
			return bad("sign_in."+key, "%s is not from 1m to 90d", d)
		}
	}
	switch {
	case s.Idle > s.Life:
		return bad("sign_in.idle", "%s is longer than sign_in.life, %s", s.Idle, s.Life)
	case s.Failures < 1 || s.Failures > 10_000:
		return bad("sign_in.failures", "%d is not from 1 to 10000", s.Failures)
	case s.Every < 100*time.Millisecond || s.Every > time.Hour:
		return bad("sign_in.every", "%s is not from 100ms to 1h", s.Every)
	}
	o := c.OIDC
	if o.Create != "yes" && o.Create != "no" {
		return bad("oidc.create", "%q is neither yes nor no", o.Create)
	}
	if _, err := c.OIDCRoles(); err != nil {
		return err
	}
	if o.Issuer == "" {
		if o.ClientID != "" {
			return bad("oidc.issuer", "it is empty and a client id is given")
		}
		return nil
	}
	u, err := url.Parse(o.Issuer)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return bad("oidc.issuer", "%q is not of the form https://HOST", o.Issuer)
	case o.ClientID == "":
		return bad("oidc.client_id", "it is empty")
	case o.Create == "yes" && len(o.Roles) == 0:
		return bad("oidc.create", "whom it makes would have no role: say in oidc.roles who is what")
	}
	return nil
}

// OIDCRoles are the roles by the values of the claim; nil: there are none.
func (c *Config) OIDCRoles() (map[string][]authz.Grant, error) {
	if len(c.OIDC.Roles) == 0 {
		return nil, nil
	}
	all := map[string][]authz.Grant{}
	for i, text := range c.OIDC.Roles {
		key := fmt.Sprintf("oidc.roles[%d]", i)
		value, role, ok := strings.Cut(text, "=")
		if !ok || value == "" {
			return nil, code.New("TS7803", key, fmt.Sprintf("%q is not of the form VALUE=ROLE", text))
		}
		g, err := authz.ParseGrant(role)
		if err != nil {
			return nil, code.New("TS7803", key, "").With(err)
		}
		all[value] = append(all[value], g)
	}
	return all, nil
}

// OIDCSecret is the client's secret, from the file if one is named.
func (c *Config) OIDCSecret() (string, error) {
	if c.OIDC.ClientSecret != "" || c.OIDC.ClientSecretFile == "" {
		return string(c.OIDC.ClientSecret), nil
	}
	b, err := os.ReadFile(c.Path(c.OIDC.ClientSecretFile))
	if err != nil {
		return "", code.New("TS7803", "oidc.client_secret_file", "").With(err)
	}
	return strings.TrimSpace(string(b)), nil
}
