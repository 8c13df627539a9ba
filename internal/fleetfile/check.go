// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// The server's bounds (package api), checked before the first request, so that
// a file is carried out whole or not begun.
const (
	maxGroup, maxToken, maxText, maxExclusions, maxExtra, maxFix, maxOwner = 100, 100, 1000, 1000, 20, 200, 200
	maxPolicies, maxGroups, maxTokens, maxTiers, maxChannels               = 1000, 10_000, 1000, 32, 100
)

// checker collects all that is wrong with a file: who corrects it wants to know
// everything at once.
type checker struct {
	name string
	errs []error
}

func (c *checker) bad(where, format string, args ...any) {
	if len(c.errs) < 50 { // nobody reads more
		c.errs = append(c.errs, code.New("TS8302", c.name+": "+printable(where), printable(fmt.Sprintf(format, args...))))
	}
}

// check holds whatever the server has.
func (f *File) check(name string) error {
	c := &checker{name: name}
	c.count("tiers", len(f.Tiers), maxTiers)
	c.count("policies", len(f.Policies), maxPolicies)
	c.count("groups", len(f.Groups), maxGroups)
	c.count("tokens", len(f.Tokens), maxTokens)
	c.count("channels", len(f.Channels), maxChannels)
	if f.Tiers != nil && len(f.Tiers) == 0 {
		c.bad("tiers", "there is at least one")
	}
	for i, t := range f.Tiers {
		switch {
		case !trust.TierName(t):
			c.bad("tiers", "%.60q: not 1 to 32 of a-z, 0-9 and dash, beginning with a letter", t)
		case slices.Contains(f.Tiers[:i], t):
			c.bad("tiers", "%s is there twice", t)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(f.Policies)) {
		c.policy(key, f.Policies[key])
	}
	for _, key := range slices.Sorted(maps.Keys(f.Groups)) {
		where := "groups." + key
		c.word(where, key, maxGroup)
		if g := f.Groups[key]; !trust.PolicyName(g.Policy) {
			c.bad(where, "policy %.80q: not the name of one", g.Policy)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(f.Tokens)) {
		c.token("tokens."+key, key, f.Tokens[key])
	}
	for _, key := range slices.Sorted(maps.Keys(f.Channels)) {
		c.channel("channels."+key, key, f.Channels[key])
	}
	c.rollouts(f.Rollouts)
	return errors.Join(c.errs...)
}

func (c *checker) count(what string, n, limit int) {
	if n > limit {
		c.bad(what, "%d, and %d at most", n, limit)
	}
}

// word is a name that the server keeps as it is, and that a line can hold.
func (c *checker) word(where, s string, limit int) {
	if s == "" || len(s) > limit || s != printable(s) || s != strings.TrimSpace(s) {
		c.bad(where, "a name has 1 to %d characters, none of them invisible", limit)
	}
}

func (c *checker) text(where, s string, limit int) {
	if len(s) > limit {
		c.bad(where, "longer than %d bytes", limit)
	}
}

func (c *checker) policy(key string, p selection.Policy) {
	where := "policies." + key
	if p.Name != key {
		c.bad(where, "name %.80q is another one", p.Name)
		return
	}
	if err := p.Check(); err != nil {
		if problem, ok := errors.AsType[*code.Problem](err); ok {
			c.bad(where, "%s", problem.Why)
		} else {
			c.bad(where, "%v", err)
		}
	}
	c.text(where+".description", p.Description, maxText)
	c.count(where+".extra", len(p.Extra), maxExtra)
	c.count(where+".exclusions", len(p.Exclusions), maxExclusions)
	for _, x := range p.Exclusions {
		at := where + ".exclusions: " + x.Name()
		c.text(at, x.Fix, maxFix)
		c.text(at+": reason", x.Reason, maxText)
		c.text(at+": owner", x.Owner, maxOwner)
		c.moment(at, x.Expires)
	}
}

func (c *checker) token(where, name string, t Token) {
	c.word(where, name, maxToken)
	if t.Tier != "" && !trust.TierName(t.Tier) {
		c.bad(where, "tier %.60q: not the name of one", t.Tier)
	}
	if t.Group != "" {
		c.word(where+".group", t.Group, maxGroup)
	}
	if t.Limit < 0 {
		c.bad(where, "limit %d: 0 is none", t.Limit)
	}
	c.moment(where, t.Expires)
}

// moment keeps out what would mean never to the server, which counts from 1970.
func (c *checker) moment(where string, t time.Time) {
	if !t.IsZero() && (t.UnixMilli() <= 0 || t.Year() > 9999) {
		c.bad(where, "expires %s: no time of this service", t.Format(time.DateOnly))
	}
}
