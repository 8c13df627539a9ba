// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
)

// outfit is all that the packages of machines are judged by, where no rollout
// tells one machine from another.
type outfit struct {
	set          *packageSet
	tier, policy string
	hold         bool
}

// packagesAt is how the packages of machines stand.
type packagesAt struct {
	at    *packageSituations
	marks []packageHerd  // by package, without the group
	worst api.Protection // of them; "": there is none that counts
}

// ofPackages is how a machine's packages stand. machine is how it stands itself.
func (j *judge) ofPackages(ctx context.Context, id string, machine *standing, tier, policy string) (*packagesAt, error) {
	key := outfit{set: machine.packages, tier: tier, policy: policy, hold: machine.hold}
	at := j.outfits[key]
	if at == nil {
		var gated bool
		var err error
		if at, gated, err = j.packagesAt(ctx, id, key, machine); err != nil {
			return nil, err
		}
		if !gated {
			j.outfits[key] = at
		}
	}
	if j.packages != nil {
		for _, mark := range at.marks {
			mark.group = machine.group
			j.packages[mark]++
		}
	}
	return at, nil
}

// packagesAt judges packages; gated: as a rollout has it for this machine.
func (j *judge) packagesAt(ctx context.Context, id string, of outfit, machine *standing) (at *packagesAt, gated bool, err error) {
	at = &packagesAt{}
	var b strings.Builder
	all := make([]packageSituation, 0, len(of.set.each()))
	for i := range of.set.each() {
		p := &of.set.all[i]
		shelf, err := j.server.shelves.ofPackage(ctx, of.tier, p.id, of.policy)
		if err != nil {
			return nil, false, err
		}
		gated = gated || shelf.gates != nil
		st := ofPackage(p, machine, of.policy)
		var names digest
		_, names, st.waiting = shelf.admitted(id)
		v := j.stands(alike{
			names: names, shelf: shelf, buildID: p.id, patch: p.patch, state: p.state, version: st.version, able: st.able, hold: st.hold,
			moved: st.moved, partly: p.partly,
		}, st, shelf)
		s := packageSituation{target: shelf.named(p.target), policy: of.policy, runs: runsNow(p.patch, p.state), should: shouldHave(v.target, p.patch, p.state), partly: p.partly}
		s.words(&b)
		all = append(all, s)
		if shelf.index != nil { // else the machine may have made it up
			at.marks = append(at.marks, packageHerd{tier: of.tier, target: s.target, word: v.word, stale: p.stale})
			at.worst = at.worst.Worse(v.word)
		}
	}
	words := b.String()
	if at.at = j.alike[words]; at.at == nil {
		at.at = &packageSituations{all}
		j.alike[words] = at.at
	}
	return at, gated, nil
}
