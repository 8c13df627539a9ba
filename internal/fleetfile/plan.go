// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"errors"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Have is what a server has, in the words of its API.
type Have struct {
	Tiers    []api.Tier
	Policies []api.PolicyInfo // the default one among them
	Tokens   []api.Token      // revoked ones too
	Channels []api.Channel
	Rollouts api.RolloutSettings
}

// Options are wishes about a plan.
type Options struct {
	// Prune takes away what a section of the file does not list. Sections that
	// the file does not have are left alone.
	Prune bool
}

// Verb is what a step does.
type Verb string

// The verbs.
const (
	Create  Verb = "create"
	Change  Verb = "change"
	Replace Verb = "replace" // a new token, and then the end of the old ones
	Remove  Verb = "remove"
)

// Kind is what a step does it to.
type Kind string

// The kinds.
const (
	KindTier   Kind = "tier"
	KindPolicy Kind = "policy"
	KindGroups Kind = "groups" // Name is the policy that they get
	KindToken  Kind = "token"

	KindChannel Kind = "channel"

	KindRollouts Kind = "rollout" // all settings of rollouts
)

// Step is one thing that has to be done. Its words are for people and scripts;
// what Run needs is inside.
type Step struct {
	Do   Verb   `json:"do"`
	Kind Kind   `json:"kind"`
	Name string `json:"name"`
	// Changes says what will be another: a line for each.
	Changes []Difference `json:"changes,omitempty"`

	tier   api.NewTier
	policy api.Policy
	groups []string
	token  api.NewToken
	revoke []string // ids

	channel api.ChannelSettings
	id      string // of the channel that is there

	rollouts api.RolloutSettings
}

// Difference is one thing that will be another. From is empty where there was
// nothing, To where there will be nothing.
type Difference struct {
	What string `json:"what"`
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Plan is what brings a server to a file, in the order in which it can be done.
type Plan struct {
	Steps []Step `json:"steps"`
	// Notes tell what is as the file says and might surprise, and what the file
	// does not list.
	Notes []string `json:"notes,omitempty"`
}

// Plan compares the file with what a server has. The same server afterwards
// gives an empty plan. Errors: TS8303 for each thing that the file names and
// nobody has, TS8304 for each that can't be as the file wants it.
func (f *File) Plan(have Have, now time.Time, o Options) (*Plan, error) {
	p := &planner{file: f, have: have, now: now, prune: o.Prune, plan: &Plan{Steps: []Step{}}}
	p.tiers()
	p.policies()
	p.groups()
	p.tokens()
	p.channels()
	p.rollouts()
	p.end()
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return p.plan, nil
}

// planner collects what has to be done. What is taken away comes last, the
// users of a thing before the thing.
type planner struct {
	file  *File
	have  Have
	now   time.Time
	prune bool
	plan  *Plan
	errs  []error

	order    []string          // of the tiers, as they will be
	given    map[string]string // group → policy, as it will be
	leaving  []string          // tiers that will be taken away
	goneFrom map[string]bool   // policies that will be taken away
	tokensAt map[string]int    // tier → tokens that are not revoked, as they will be
	groupsTo []Step            // groups that get the default policy back
	revoked  []Step
}

func (p *planner) step(s Step) { p.plan.Steps = append(p.plan.Steps, s) }
func (p *planner) note(s string) {
	p.plan.Notes = append(p.plan.Notes, s)
}

func (p *planner) unknown(where, why string) {
	p.errs = append(p.errs, code.New("TS8303", where, why))
}

func (p *planner) impossible(where, why string) *code.Problem {
	problem := code.New("TS8304", where, why)
	p.errs = append(p.errs, problem)
	return problem
}

// end is all that is taken away.
func (p *planner) end() {
	p.plan.Steps = append(p.plan.Steps, p.groupsTo...)
	for _, info := range p.have.Policies {
		if !p.goneFrom[info.Name] {
			continue
		}
		if users := p.usersOf(info.Name); len(users) > 0 {
			p.impossible("policy "+info.Name, "it would be removed and is that of "+listed("group", users))
			continue
		}
		p.step(Step{Do: Remove, Kind: KindPolicy, Name: info.Name})
	}
	p.plan.Steps = append(p.plan.Steps, p.revoked...)
	for _, name := range p.leaving {
		p.step(Step{Do: Remove, Kind: KindTier, Name: name})
	}
}

func (p *planner) usersOf(policy string) []string {
	var users []string
	for g, has := range p.given {
		if has == policy {
			users = append(users, g)
		}
	}
	slices.Sort(users)
	return users
}

// isDefault tells whether a policy is everybody's who has no other.
func isDefault(name string) bool { return name == trust.DefaultPolicy }
