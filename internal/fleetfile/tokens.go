// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/api"
)

// tokens plans the enrolment tokens. One of the right name that is not as it
// should be is replaced: the new one is made first, so that a run which ends
// between the two leaves one that works, and the next run takes the old away.
func (p *planner) tokens() {
	p.tokensAt = map[string]int{}
	alive := map[string][]api.Token{}
	for _, t := range p.have.Tokens {
		if t.Revoked == 0 {
			alive[t.Name] = append(alive[t.Name], t)
			p.tokensAt[t.Tier]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.file.Tokens)) {
		p.token(name, p.file.Tokens[name], alive[name])
	}
	for _, name := range slices.Sorted(maps.Keys(alive)) {
		if _, ok := p.file.Tokens[name]; ok || p.file.Tokens == nil {
			continue
		}
		if p.prune {
			p.revoke(name, alive[name])
		} else {
			p.note("token " + name + " is not in the file and stays")
		}
	}
	for _, tier := range p.leaving {
		if n := p.tokensAt[tier]; n > 0 {
			p.impossible("tier "+tier, "it would be removed and "+count(n, "token")+" would enrol into it")
		}
	}
}

func (p *planner) token(name string, t Token, alive []api.Token) {
	want := api.NewToken{Name: name, Tier: t.Tier, Group: t.Group, Limit: t.Limit}
	if !t.Expires.IsZero() {
		want.Expires = t.Expires.UnixMilli()
	}
	if want.Tier == "" && len(p.order) > 0 {
		want.Tier = p.order[len(p.order)-1]
	}
	if !slices.Contains(p.order, want.Tier) {
		p.unknown("tokens."+name, fmt.Sprintf("no tier %q", want.Tier))
		return
	}
	var same, other []api.Token
	for _, have := range alive {
		if len(tokenDifferences(have, want)) == 0 {
			same = append(same, have)
		} else {
			other = append(other, have)
		}
	}
	over := want.Expires != 0 && want.Expires <= p.now.UnixMilli()
	if over {
		p.note("token " + name + " is over: it was good " + until(want.Expires))
	}
	if over || len(same) > 0 {
		if len(other) > 0 {
			p.revoke(name, other) // the file says what a token of this name is
		}
		if !over && !slices.ContainsFunc(same, func(t api.Token) bool { return t.Limit == 0 || t.Uses < t.Limit }) {
			p.note("token " + name + " is used up: " + count(same[0].Uses, "machine") + " came with it")
		}
		return
	}
	s := Step{Do: Create, Kind: KindToken, Name: name, token: want}
	var old api.Token
	if len(other) > 0 {
		s.Do, old = Replace, other[len(other)-1]
	}
	s.Changes = tokenDifferences(old, want)
	p.tokensAt[want.Tier]++
	for _, t := range other {
		p.tokensAt[t.Tier]--
		s.revoke = append(s.revoke, t.ID)
	}
	p.step(s)
}

// revoke plans the end of tokens of one name.
func (p *planner) revoke(name string, tokens []api.Token) {
	s := Step{Do: Remove, Kind: KindToken, Name: name}
	for _, t := range tokens {
		p.tokensAt[t.Tier]--
		s.revoke = append(s.revoke, t.ID)
		s.Changes = append(s.Changes, Difference{What: "token", From: t.ID})
	}
	p.revoked = append(p.revoked, s)
}

func tokenDifferences(have api.Token, want api.NewToken) []Difference {
	var out []Difference
	note := func(what, from, to string) {
		if from != to {
			out = append(out, Difference{What: what, From: from, To: to})
		}
	}
	note("tier", have.Tier, want.Tier)
	note("group", have.Group, want.Group)
	note("limit", limit(have.Limit), limit(want.Limit))
	note("expires", end(have.Expires), end(want.Expires))
	return out
}

func limit(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func end(ms int64) string {
	if ms == 0 {
		return ""
	}
	return until(ms)
}
