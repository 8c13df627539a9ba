// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// missed is how many check-ins a machine may miss before it is silent.
const missed = 3

// standing is what is known of a machine that its protection depends on.
type standing struct {
	buildID, patch  string // buildID is a package's id, with isPackage
	isPackage       bool
	group           string
	state           api.State
	version         int
	able, hold      bool
	seen            int64
	gone            bool
	moved           bool     // what it has is of another policy than it has now
	partly          bool     // some processes of the package run the old code
	waiting         []string // live patches that a rollout has not come to it with
	packages        *packageSet
	stale           bool   // processes run what the disk has no more
	problem, unable string // why, in a sentence; "" where it is not known
}

// protection says in one word and one sentence how a machine stands, and which
// live patch it should have.
func protection(m standing, x *trust.Index, now time.Time, interval int64) (word api.Protection, target, reason string) {
	word, target, reason = stands(m, x)
	if quiet := now.Sub(time.UnixMilli(m.seen)); !m.gone && quiet > patience(interval) {
		return api.Silent, target, "it was last heard of " + quiet.Round(time.Minute).String() + " ago"
	}
	return word, target, reason
}

// patience is how long nothing is heard of a machine before it is silent.
func patience(interval int64) time.Duration {
	return missed*time.Duration(interval)*time.Second + time.Minute
}

// stands is protection without the clock: the same for all machines that are
// alike. It asks the same function that the machine asks.
func stands(m standing, x *trust.Index) (word api.Protection, target, reason string) {
	current := 0
	switch m.state {
	case api.Transitioning, api.Applied, api.Healthy, api.Reverting:
		current = m.version
	}
	f := policy.Facts{BuildID: m.buildID, Package: m.isPackage, Index: x, Current: current, Moved: m.moved, Hold: m.hold, InWindow: true, Waiting: m.waiting}
	switch m.state {
	case api.Quarantined:
		f.Quarantined = []string{m.patch}
	case api.Reverted:
		f.Reverted = []string{m.patch}
	}
	d := policy.Decide(f)
	if d.Offer != nil {
		target = d.Offer.ID
	} else if current > 0 && d.Action == policy.Keep {
		target = m.patch
	}
	switch {
	case m.gone:
		return api.Gone, "", "it is not enrolled any more"
	case m.state == api.Quarantined || m.state == api.Blocked:
		return api.Failing, target, either(m.problem, fmt.Sprintf("version %d is %s", m.version, m.state))
	case d.Action == policy.Revert:
		return api.Failing, target, d.Reason
	case current > 0 && m.isPackage && !m.able:
		return api.Failing, target, either(m.unable, "what keeps it in processes does not run")
	case current > 0 && d.Action == policy.Keep && m.partly:
		return api.Partly, target, d.Reason
	case current > 0 && d.Action == policy.Keep:
		return api.Protected, target, d.Reason
	case current > 0:
		return api.Outdated, target, d.Reason
	case d.Action != policy.Keep && !m.able && m.unable != "":
		return api.Unprotected, target, m.unable
	case d.Action != policy.Keep:
		return api.Unprotected, target, d.Reason
	case m.state == api.Reverted && x != nil && len(x.Patches) > 0:
		return api.Unprotected, target, d.Reason
	}
	return api.NotCovered, target, d.Reason
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// look is how a machine stands at a moment, its tier, and its situation but for
// the live patch that it should have.
func (m *member) look(book *book) (st standing, tier string, at situation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	st = standing{
		buildID: m.buildID, patch: m.patch, group: m.group, state: m.state, version: int(m.version), able: m.able,
		hold: m.hold || m.held, seen: m.seen, gone: m.gone,
		packages: m.packages, stale: m.stale != nil,
	}
	at.kernelSituation = kernelSituation{release: m.release, policy: book.of(m.group).word, runs: runsNow(m.patch, m.state), modules: m.modules}
	st.moved = m.policy != at.policy
	return st, m.tier, at
}

// ofPackage is how a machine stands with a package, but for what rollouts keep
// from it. That a host can't take live patches for its kernel says nothing of its
// processes, and what keeps them in processes may not run on one that can.
func ofPackage(p *packageState, machine *standing, policy string) standing {
	return standing{
		buildID: p.id, isPackage: true, group: machine.group, patch: p.patch, state: p.state, version: int(p.version), able: !machine.packages.unkept, hold: machine.hold,
		seen: machine.seen, gone: machine.gone, moved: p.policy != policy, partly: p.partly,
	}
}
