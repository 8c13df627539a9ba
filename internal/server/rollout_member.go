// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// forRollout is a machine as a rollout sees it, and whether it is in scope.
func (m *member) forRollout(sc *scope, book *book, rec *rollout.Record, now time.Time) (rollout.Machine, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	word := book.of(m.group).word
	x := rollout.Machine{ID: m.id}
	on, here := m.on(sc.patch.BuildID)
	why := m.outside(sc, here, word)
	if why != inside && rec == nil {
		return x, false // of most machines of a fleet; nobody asks why
	}
	x.Gone, x.Out = why == gone, m.sentence(sc, why)
	x.Held = m.hold || m.held
	switch {
	case m.cloned:
		x.Unable = "two machines use its identity"
	case !m.able && sc.patch.Release != "":
		x.Unable = "it can't take live patches: see its problems"
	case m.packages != nil && m.packages.unkept && sc.patch.Release == "":
		x.Unable = "what keeps live patches in its processes does not run: see its problems"
	case m.boot == "":
		x.Unable = "it has not checked in yet"
	}
	if on.patch == sc.patch.ID {
		x.State = on.state
	}
	switch on.state {
	case api.Transitioning, api.Applied, api.Healthy:
		// A number of another policy says nothing, unless its index has it too.
		at := sc.indexes[word]
		same := on.policy == word || at != nil && slices.ContainsFunc(at.Patches, func(o trust.Offer) bool { return o.ID == on.patch })
		x.Has = on.patch == sc.patch.ID || same && int(on.version) > sc.patch.Version
	}
	x.Boot, x.Booted, x.Orderly = m.boot, time.UnixMilli(m.booted), m.orderly
	x.Seen = time.UnixMilli(m.seen)
	events := int(m.boots) + int(m.silences)
	if rec != nil && rec.Break != "" {
		events-- // what may be the live patch's doing is no habit of the machine
	}
	x.Usual = rollout.Usual(events, now.Sub(time.UnixMilli(m.enrolled)).Hours()/24)
	return x, why == inside
}

// outside is why a machine is no part of a rollout.
type outside int

const (
	inside outside = iota
	gone
	inOtherTier
	withoutTarget // it runs another kernel, or maps nothing of the package
	withoutPatch  // its policy does not have the live patch
)

// outside compares a machine with what a rollout is about. here: it has to do with
// its target; word: of its policy. The caller holds the member's lock.
func (m *member) outside(sc *scope, here bool, word string) outside {
	switch {
	case m.gone:
		return gone
	case m.tier != sc.tier:
		return inOtherTier
	case !here:
		return withoutTarget
	case !sc.policies[word]:
		return withoutPatch
	}
	return inside
}

// sentence says why a machine is out; "" where it is not, or is gone. The caller
// holds the member's lock.
func (m *member) sentence(sc *scope, why outside) string {
	switch why {
	case inOtherTier:
		return "it is in tier " + m.tier
	case withoutTarget:
		if sc.patch.Release != "" {
			return "it runs another kernel: " + m.release
		}
		return "no process of it maps a file of " + sc.patch.Target
	case withoutPatch:
		return "its policy does not have this live patch"
	}
	return ""
}
