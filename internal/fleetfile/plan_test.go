// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func tier(name string, rank int) api.Tier { return api.Tier{Name: name, Rank: rank} }

// fresh is what a new server has.
func fresh() *server {
	return &server{have: Have{
		Tiers:    []api.Tier{tier("edge", 1), tier("beta", 2), tier("candidate", 3), tier("stable", 4)},
		Policies: []api.PolicyInfo{{Policy: api.Policy{Name: "default"}}},
	}}
}

func parse(t testing.TB, text string) *File {
	t.Helper()
	f, err := Parse("fleet.yaml", []byte("version: 1\n"+text))
	qt.Assert(t, qt.IsNil(err))
	return f
}

// lines are the steps in words.
func lines(p *Plan) []string {
	out := []string{}
	for _, s := range p.Steps {
		line := fmt.Sprintf("%s %s %s", s.Do, s.Kind, s.Name)
		for _, d := range s.Changes {
			line += fmt.Sprintf(" [%s: %s → %s]", d.What, d.From, d.To)
		}
		out = append(out, line)
	}
	return out
}

func TestPlan(t *testing.T) {
	t.Parallel()
	used := func(s *server) {
		s.have.Policies = append(s.have.Policies, api.PolicyInfo{
			Policy: api.Policy{Name: "web", MinSeverity: "low", Exclusions: []api.Exclusion{
				{CVE: "CVE-2026-0001", Reason: "r", Owner: "o"}, {Fix: "f", Reason: "r", Owner: "o", Expires: 1},
			}},
			Groups: []string{"web", "www"},
		})
		s.have.Tokens = []api.Token{
			{ID: "t1", Name: "web", Tier: "stable", Group: "web", Limit: 5, Uses: 5},
			{ID: "t2", Name: "old", Tier: "beta"},
			{ID: "t3", Name: "gone", Tier: "beta", Revoked: 1},
		}
	}
	for name, c := range map[string]struct {
		have  func(*server)
		file  string
		prune bool
		want  []string
		notes []string
	}{
		"an empty file wants nothing": {have: used, prune: true},
		"what is so already":          {file: "tiers: [edge, beta, candidate, stable]\npolicies: {default: {scope: security}}\ngroups: {db: {policy: default}}\ntokens: {}\n"},
		"tiers come after the one before them": {
			file: "tiers: [canary, edge, early, beta, candidate, stable, last]\n",
			want: []string{
				"create tier canary [place:  → the first]", "create tier early [place:  → after edge]", "create tier last [place:  → after stable]",
			},
		},
		"tiers that are not listed stay": {
			file: "tiers: [edge, stable]\n", notes: []string{"tier beta is not in the file and stays", "tier candidate is not in the file and stays"},
		},
		"tiers go with prune": {file: "tiers: [edge, stable]\n", prune: true, want: []string{"remove tier beta", "remove tier candidate"}},
		"a policy, its groups and a token are made in this order": {
			file: "tokens: {db: {group: db}}\ngroups: {db: {policy: databases}, dbr: {policy: databases}}\npolicies: {databases: {min_severity: high}}\n",
			want: []string{
				"create policy databases [min_severity:  → high]",
				"change groups databases [group db: default → databases] [group dbr: default → databases]",
				"create token db [tier:  → stable] [group:  → db]",
			},
		},
		"a policy says what changes": {
			have: used,
			file: "policies: {web: {min_severity: high, exclusions: [{fix: f, reason: q, owner: o, expires: 2026-12-31T06:00:00Z}, {cve: CVE-2026-0002, reason: r, owner: o}]}}\n",
			want: []string{
				"change policy web [min_severity: low → high] [excludes CVE-2026-0001: for good (r, o) → ] " +
					"[excludes CVE-2026-0002:  → for good (r, o)] [excludes f: until 1970-01-01T00:00:00.001Z (r, o) → until 2026-12-31T06:00:00Z (q, o)]",
			},
		},
		"policies go with prune, their groups first": {
			have: used, file: "policies: {}\ngroups: {}\n", prune: true,
			want: []string{"change groups default [group web: web → default] [group www: web → default]", "remove policy web"},
		},
		"groups that are not listed keep what they have": {
			have: used, file: "policies: {}\ngroups: {web: {policy: default}}\n", want: []string{"change groups default [group web: web → default]"},
			notes: []string{"policy web is not in the file and stays", "group www is not in the file and keeps policy web"},
		},
		"a token that is as it should be stays, used up or not": {
			have: used, file: "tokens: {web: {tier: stable, group: web, limit: 5}}\n",
			notes: []string{"token web is used up: 5 machines came with it", "token old is not in the file and stays"},
		},
		"a token that should be another is replaced": {
			have: used, file: "tokens: {web: {group: web, limit: 6}, gone: {tier: beta}, old: {tier: beta}}\n",
			want: []string{"create token gone [tier:  → beta]", "replace token web [limit: 5 → 6]"},
		},
		"a token goes with prune": {
			have: used, file: "tokens: {web: {tier: stable, group: web, limit: 5}}\n", prune: true,
			want: []string{"remove token old [token: t2 → ]"}, notes: []string{"token web is used up: 5 machines came with it"},
		},
		"a token that is over is nobody's wish": {
			file: "tokens: {a: {expires: 2026-11-22T12:00:00Z}}\n", notes: []string{"token a is over: it was good until 2026-11-22T12:00:00Z"},
		},
		"a token that shall be over is revoked": {
			have: used, file: "tokens: {old: {tier: beta, expires: 2026-11-01}, web: {group: web, limit: 5}}\n",
			want:  []string{"remove token old [token: t2 → ]"},
			notes: []string{"token old is over: it was good until 2026-11-01", "token web is used up: 5 machines came with it"},
		},
		"what a replacement that was interrupted left is revoked": {
			have: func(s *server) {
				s.have.Tokens = []api.Token{{ID: "t1", Name: "a", Tier: "edge"}, {ID: "t2", Name: "a", Tier: "stable"}}
			},
			file: "tokens: {a: {}}\n", want: []string{"remove token a [token: t1 → ]"},
		},
		"two tokens that are as they should be stay": {
			have: func(s *server) {
				s.have.Tokens = []api.Token{{ID: "t1", Name: "a", Tier: "stable", Limit: 1, Uses: 1}, {ID: "t2", Name: "a", Tier: "stable", Limit: 1}}
			},
			file: "tokens: {a: {limit: 1}}\n",
		},
		"a token without a tier enrols into the last one that there will be": {
			file: "tiers: [edge, beta, candidate, stable, last]\ntokens: {a: {}}\n",
			want: []string{"create tier last [place:  → after stable]", "create token a [tier:  → last]"},
		},
		"a tier goes when its tokens do": {
			have: used, file: "tiers: [edge, candidate, stable]\ntokens: {}\n", prune: true,
			want: []string{"remove token old [token: t2 → ]", "remove token web [token: t1 → ]", "remove tier beta"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fresh()
			if c.have != nil {
				c.have(s)
			}
			f := parse(t, c.file)
			p, err := f.Plan(s.have, now, Options{Prune: c.prune})
			qt.Assert(t, qt.IsNil(err))
			if c.want == nil {
				c.want = []string{}
			}
			qt.Check(t, qt.DeepEquals(lines(p), c.want))
			qt.Check(t, qt.DeepEquals(p.Notes, c.notes))
			s.run(t, p, len(p.Steps))
			again, err := f.Plan(s.have, now, Options{Prune: c.prune})
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(lines(again), []string{}), qt.Commentf("the second time"))
		})
	}
}

func TestPlansThatAreRefused(t *testing.T) {
	t.Parallel()
	s := fresh()
	s.have.Tiers[1].Machines, s.have.Tiers[2].Patches = 3, 1
	s.have.Policies = append(s.have.Policies, api.PolicyInfo{Policy: api.Policy{Name: "web"}, Groups: []string{"web"}})
	s.have.Tokens = []api.Token{{ID: "t", Name: "t", Tier: "edge"}}
	for name, c := range map[string]struct {
		file string
		code code.Code
		says string
	}{
		"tiers that trade places":              {"tiers: [beta, edge]\n", "TS8304", "edge comes before beta"},
		"a tier with machines":                 {"tiers: [edge, candidate, stable]\n", "TS8304", "tier beta: .*3 machines"},
		"a tier with live patches":             {"tiers: [edge, beta, stable]\n", "TS8304", "tier candidate: .*1 live patch$"},
		"a tier with a token":                  {"tiers: [beta, candidate, stable]\n", "TS8304", "tier edge: .*1 token"},
		"a policy that a group keeps":          {"policies: {}\n", "TS8304", "that of group web"},
		"a policy that a group shall have":     {"policies: {}\ngroups: {web: {policy: web}}\n", "TS8304", "that of group web"},
		"a group of a policy that is nowhere":  {"groups: {a: {policy: nobody}}\n", "TS8303", "groups.a: no policy nobody"},
		"a token of a tier that is nowhere":    {"tokens: {a: {tier: nowhere}}\n", "TS8303", `tokens.a: no tier "nowhere"`},
		"a token of a tier that will be gone":  {"tiers: [edge, beta, candidate]\ntokens: {a: {tier: stable}}\n", "TS8303", `no tier "stable"`},
		"several things are told all together": {"groups: {a: {policy: nobody}}\ntokens: {a: {tier: nowhere}}\n", "TS8303", "(?s)nobody.*nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := parse(t, c.file).Plan(s.have, now, Options{Prune: true})
			qt.Assert(t, qt.IsNotNil(err))
			qt.Check(t, qt.IsNil(p))
			qt.Check(t, qt.Equals(code.Of(err), c.code), qt.Commentf("%v", err))
			qt.Check(t, qt.ErrorMatches(err, "(?s).*"+c.says+".*"))
		})
	}
}

func TestManyGroupsAreGivenInParts(t *testing.T) {
	t.Parallel()
	f := &File{Version: 1, Policies: map[string]selection.Policy{"p": {Name: "p"}}, Groups: map[string]Group{}}
	for i := range 2500 {
		f.Groups[fmt.Sprint("g", i)] = Group{Policy: "p"}
	}
	s := fresh()
	p, err := f.Plan(s.have, now, Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(p.Steps, 4))
	s.run(t, p, 4)
	p, err = f.Plan(s.have, now, Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(p.Steps, 0))
}

func TestThePlanIsJSONWithoutSecrets(t *testing.T) {
	t.Parallel()
	s := fresh()
	p, err := parse(t, "tokens: {a: {}}\n").Plan(s.have, now, Options{})
	qt.Assert(t, qt.IsNil(err))
	b, err := json.Marshal(p)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(b), `{"steps":[{"do":"create","kind":"token","name":"a","changes":[{"what":"tier","to":"stable"}]}]}`))
}

func TestANewTokenIsToldAlsoWhenTheOldOneStays(t *testing.T) {
	t.Parallel()
	s := fresh()
	s.have.Tokens = []api.Token{{ID: "t1", Name: "a", Tier: "edge"}}
	p, err := parse(t, "tokens: {a: {}}\n").Plan(s.have, now, Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(lines(p), []string{"replace token a [tier: edge → stable]"}))
	s.failing = "t1"
	made, err := p.Steps[0].Run(t.Context(), s)
	qt.Check(t, qt.ErrorMatches(err, "old token t1: .*"))
	qt.Assert(t, qt.IsNotNil(made))
	qt.Check(t, qt.Equals(made.Secret, "secret"))
}

// TestAnyServerBecomesWhatAnyFileSays is the property that the whole package
// is for: from any state, interrupted anywhere, runs end in what the file says,
// no step is refused by a server that keeps its rules, and then nothing is left
// to do. Without prune nothing is taken away that the file does not name.
func TestAnyServerBecomesWhatAnyFileSays(t *testing.T) {
	t.Parallel()
	tiers := []string{"a", "b", "c", "d", "e"}
	policies := []string{"default", "p", "q", "r"}
	groups := []string{"g", "h", "i"}
	tokens := []string{"t", "u", "v"}
	rapid.Check(t, func(rt *rapid.T) {
		some := func(label string, from []string) []string {
			var out []string
			for _, s := range from {
				if rapid.Bool().Draw(rt, label+" "+s) {
					out = append(out, s)
				}
			}
			return out
		}
		text := func(label, name string) selection.Policy {
			p := selection.Policy{Name: name, MinSeverity: rapid.SampledFrom([]series.Severity{"", "low", "high"}).Draw(rt, label)}
			if rapid.Bool().Draw(rt, label+" excludes") {
				p.Exclusions = []selection.Exclusion{{CVE: "CVE-2026-0001", Reason: "r", Owner: "o", Expires: now.AddDate(0, 0, rapid.IntRange(-1, 1).Draw(rt, label+" days"))}}
			}
			return p
		}
		expiry := func(label string) time.Time {
			if d := rapid.IntRange(-1, 2).Draw(rt, label); d != 2 {
				return now.AddDate(0, 0, d)
			}
			return time.Time{}
		}

		s := &server{have: Have{Policies: []api.PolicyInfo{{Policy: api.Policy{Name: "default"}}}}}
		for _, name := range some("tier", tiers[1:]) {
			s.have.Tiers = append(s.have.Tiers, tier(name, len(s.have.Tiers)+1))
		}
		if len(s.have.Tiers) == 0 {
			s.have.Tiers = []api.Tier{tier("z", 1)}
		}
		for _, name := range some("policy", policies[1:]) {
			s.have.Policies = append(s.have.Policies, api.PolicyInfo{Policy: Wire(text("has "+name, name))})
		}
		for _, g := range some("group", groups) {
			i := rapid.IntRange(0, len(s.have.Policies)-1).Draw(rt, "policy of "+g)
			s.have.Policies[i].Groups = append(s.have.Policies[i].Groups, g)
		}
		for i := range rapid.IntRange(0, 5).Draw(rt, "tokens") {
			made := api.NewToken{
				Name: rapid.SampledFrom(tokens).Draw(rt, "token"), Tier: rapid.SampledFrom(s.have.Tiers).Draw(rt, "its tier").Name,
				Limit: rapid.IntRange(0, 1).Draw(rt, "its limit"),
			}
			if e := expiry("its end"); !e.IsZero() {
				made.Expires = e.UnixMilli()
			}
			_, _ = s.make(made)
			if rapid.IntRange(0, 3).Draw(rt, "revoked") == 0 {
				s.have.Tokens[i].Revoked = 1
			}
		}

		f := &File{Version: 1}
		if rapid.Bool().Draw(rt, "tiers") {
			f.Tiers = some("wants tier", tiers)
			if len(f.Tiers) == 0 {
				f.Tiers = nil
			}
		}
		if rapid.Bool().Draw(rt, "policies") {
			f.Policies = map[string]selection.Policy{}
			for _, name := range some("wants policy", policies) {
				f.Policies[name] = text("wants "+name, name)
			}
		}
		if rapid.Bool().Draw(rt, "groups") {
			f.Groups = map[string]Group{}
			for _, g := range some("wants group", groups) {
				f.Groups[g] = Group{Policy: rapid.SampledFrom(policies).Draw(rt, "wanted policy of "+g)}
			}
		}
		if rapid.Bool().Draw(rt, "wants tokens") {
			f.Tokens = map[string]Token{}
			for _, name := range some("wants token", tokens) {
				f.Tokens[name] = Token{
					Tier: rapid.SampledFrom(append([]string{""}, tiers...)).Draw(rt, "wanted tier"), Limit: rapid.IntRange(0, 1).Draw(rt, "wanted limit"),
					Expires: expiry("wanted end"),
				}
			}
		}
		o := Options{Prune: rapid.Bool().Draw(rt, "prune")}

		for round := 0; ; round++ {
			before := s.copy()
			p, err := f.Plan(s.have, now, o)
			if err != nil {
				if round > 0 {
					rt.Fatalf("a plan that was begun can't be ended: %v", err)
				}
				if c := code.Of(err); c != "TS8303" && c != "TS8304" {
					rt.Fatalf("code %q: %v", c, err)
				}
				return
			}
			if len(p.Steps) == 0 {
				break
			}
			if round > 8 {
				rt.Fatalf("no end: %q", lines(p))
			}
			n := len(p.Steps)
			if round < 6 {
				n = rapid.IntRange(0, n).Draw(rt, "steps before the interrupt")
			}
			s.run(rt, p, n)
			if !o.Prune {
				s.keeps(rt, before, f)
			}
		}
		s.is(rt, f)
	})
}

// server behaves as the real one does, rules included.
type server struct {
	have    Have
	made    int
	failing string // id of a token that can't be revoked
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func (s *server) run(t fataler, p *Plan, n int) {
	t.Helper()
	for _, step := range p.Steps[:n] {
		if _, err := step.Run(context.Background(), s); err != nil {
			t.Fatalf("%s %s %s: %v", step.Do, step.Kind, step.Name, err)
		}
	}
}

func (s *server) copy() Have {
	out := Have{Tiers: slices.Clone(s.have.Tiers), Tokens: slices.Clone(s.have.Tokens), Channels: slices.Clone(s.have.Channels), Rollouts: s.have.Rollouts}
	for _, p := range s.have.Policies {
		p.Groups = slices.Clone(p.Groups)
		out.Policies = append(out.Policies, p)
	}
	return out
}

// keeps finds what was taken away though the file does not name it.
func (s *server) keeps(t fataler, before Have, f *File) {
	t.Helper()
	for _, was := range before.Tiers {
		if !slices.ContainsFunc(s.have.Tiers, func(t api.Tier) bool { return t.Name == was.Name }) {
			t.Fatalf("tier %s is gone", was.Name)
		}
	}
	for _, was := range before.Policies {
		if s.policy(was.Name) < 0 {
			t.Fatalf("policy %s is gone", was.Name)
		}
	}
	for i, was := range before.Tokens {
		if _, named := f.Tokens[was.Name]; !named && s.have.Tokens[i].Revoked != was.Revoked {
			t.Fatalf("token %s is revoked", was.Name)
		}
	}
}

// is compares with the file, by other means than the planner's.
func (s *server) is(t fataler, f *File) {
	t.Helper()
	var order []string
	for _, tier := range s.have.Tiers {
		if slices.Contains(f.Tiers, tier.Name) {
			order = append(order, tier.Name)
		}
	}
	if f.Tiers != nil && !slices.Equal(order, f.Tiers) {
		t.Fatalf("tiers %q, want %q", order, f.Tiers)
	}
	for name, want := range f.Policies {
		i := s.policy(name)
		if i < 0 {
			t.Fatalf("no policy %s", name)
		}
		if got, _ := json.Marshal(s.have.Policies[i].Policy); string(got) != mustJSON(Wire(want)) {
			t.Fatalf("policy %s is %s", name, got)
		}
	}
	for g, want := range f.Groups {
		has := "default"
		for _, p := range s.have.Policies {
			if slices.Contains(p.Groups, g) {
				has = p.Name
			}
		}
		if has != want.Policy {
			t.Fatalf("group %s has %s and not %s", g, has, want.Policy)
		}
	}
	for name, want := range f.Tokens {
		alive := 0
		for _, tok := range s.have.Tokens {
			if tok.Name != name || tok.Revoked != 0 {
				continue
			}
			alive++
			ends := time.Time{}
			if tok.Expires != 0 {
				ends = time.UnixMilli(tok.Expires)
			}
			if tok.Limit != want.Limit || want.Tier != "" && tok.Tier != want.Tier || !ends.Equal(want.Expires) {
				t.Fatalf("token %+v, want %+v", tok, want)
			}
		}
		if over := !want.Expires.IsZero() && !want.Expires.After(now); alive == 0 && !over {
			t.Fatalf("no token %s", name)
		}
	}
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (s *server) policy(name string) int {
	return slices.IndexFunc(s.have.Policies, func(p api.PolicyInfo) bool { return p.Name == name })
}

func (s *server) rank() {
	for i := range s.have.Tiers {
		s.have.Tiers[i].Rank = i + 1
	}
}

func (s *server) CreateTier(_ context.Context, in api.NewTier) (*api.Tier, error) {
	at := 0
	for i, t := range s.have.Tiers {
		if t.Name == in.Name {
			return nil, errors.New("it is there already")
		}
		if t.Name == in.After {
			at = i + 1
		}
	}
	if in.After != "" && at == 0 {
		return nil, errors.New("no such tier")
	}
	s.have.Tiers = slices.Insert(s.have.Tiers, at, api.Tier{Name: in.Name})
	s.rank()
	return &s.have.Tiers[at], nil
}

func (s *server) DeleteTier(_ context.Context, name string) error {
	i := slices.IndexFunc(s.have.Tiers, func(t api.Tier) bool { return t.Name == name })
	if i < 0 || len(s.have.Tiers) == 1 || s.have.Tiers[i].Machines+s.have.Tiers[i].Patches > 0 {
		return errors.New("conflict")
	}
	for _, t := range s.have.Tokens {
		if t.Tier == name && t.Revoked == 0 {
			return fmt.Errorf("token %s enrols into it", t.Name)
		}
	}
	s.have.Tiers = slices.Delete(s.have.Tiers, i, i+1)
	s.rank()
	return nil
}

func (s *server) SetPolicy(_ context.Context, p api.Policy) (*api.PolicyInfo, error) {
	if i := s.policy(p.Name); i >= 0 {
		s.have.Policies[i].Policy = p
		return &s.have.Policies[i], nil
	}
	s.have.Policies = append(s.have.Policies, api.PolicyInfo{Policy: p})
	return &s.have.Policies[len(s.have.Policies)-1], nil
}

func (s *server) SetPolicyGroups(_ context.Context, policy string, groups []string) (*api.PolicyInfo, error) {
	at := s.policy(policy)
	if at < 0 || len(groups) == 0 || len(groups) > 1000 {
		return nil, errors.New("no such policy, or too many groups")
	}
	for i := range s.have.Policies {
		s.have.Policies[i].Groups = slices.DeleteFunc(s.have.Policies[i].Groups, func(g string) bool { return slices.Contains(groups, g) })
	}
	if policy != "default" {
		s.have.Policies[at].Groups = append(s.have.Policies[at].Groups, groups...)
	}
	return &s.have.Policies[at], nil
}

func (s *server) DeletePolicy(_ context.Context, name string) error {
	i := s.policy(name)
	if i < 0 || name == "default" || len(s.have.Policies[i].Groups) > 0 {
		return errors.New("in use")
	}
	s.have.Policies = slices.Delete(s.have.Policies, i, i+1)
	return nil
}

func (s *server) make(in api.NewToken) (*api.TokenMade, error) {
	s.made++
	t := api.Token{
		ID: fmt.Sprint("made", s.made), Name: in.Name, Tier: in.Tier, Group: in.Group, Limit: in.Limit, Expires: in.Expires, Created: int64(s.made),
	}
	s.have.Tokens = append(s.have.Tokens, t)
	return &api.TokenMade{Token: t, Secret: "secret", Enroll: "tsugi1." + strings.ToLower(t.ID)}, nil
}

func (s *server) CreateToken(_ context.Context, in api.NewToken) (*api.TokenMade, error) {
	if in.Expires != 0 && in.Expires <= now.UnixMilli() {
		return nil, errors.New("this time is over")
	}
	if !slices.ContainsFunc(s.have.Tiers, func(t api.Tier) bool { return t.Name == in.Tier }) {
		return nil, errors.New("no such tier")
	}
	return s.make(in)
}

func (s *server) RevokeToken(_ context.Context, id string) error {
	if id == s.failing {
		return errors.New("the server is away")
	}
	for i, t := range s.have.Tokens {
		if t.ID == id && t.Revoked == 0 {
			s.have.Tokens[i].Revoked = 1
			return nil
		}
	}
	return errors.New("token that is not revoked")
}

func (s *server) CreateChannel(_ context.Context, n api.NewChannel) (*api.ChannelMade, error) {
	s.made++
	c := api.Channel{ID: fmt.Sprint("channel", s.made), ChannelSettings: n.ChannelSettings}
	s.have.Channels = append(s.have.Channels, c)
	return &api.ChannelMade{Channel: c, Secret: "whsec_x"}, nil
}

func (s *server) SetChannel(_ context.Context, id string, to api.ChannelSettings) (*api.Channel, error) {
	for i := range s.have.Channels {
		if s.have.Channels[i].ID == id {
			s.have.Channels[i].ChannelSettings = to
			return &s.have.Channels[i], nil
		}
	}
	return nil, fmt.Errorf("no channel %s", id)
}

func (s *server) DeleteChannel(_ context.Context, id string) error {
	n := len(s.have.Channels)
	s.have.Channels = slices.DeleteFunc(s.have.Channels, func(c api.Channel) bool { return c.ID == id })
	if len(s.have.Channels) == n {
		return fmt.Errorf("no channel %s", id)
	}
	return nil
}

func (s *server) SetRolloutSettings(_ context.Context, set api.RolloutSettings) (*api.RolloutSettings, error) {
	s.have.Rollouts = set
	return &set, nil
}
