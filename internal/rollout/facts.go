// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
)

// Facts are what is known at a moment. All times are of the server: the clocks
// of machines prove nothing.
type Facts struct {
	// Machines are all of the rollout's tier, policy and kernel, and those that
	// have a record, each once. One that has a record and is missing here is
	// taken for decommissioned.
	Machines []Machine
	// Listening is since when the server hears machines without a break, and
	// Silence for how long a machine that lives may say nothing. A machine is
	// silent when both are longer ago than that.
	Listening time.Time
	Silence   time.Duration
	// Blocked is why the live patch must not be loaded any more, "" if it may.
	Blocked string
	// Recalled is set when the signed index tells machines to take it out.
	Recalled bool
	// Superseded names the newer live patch that took its place in the tier.
	Superseded string
}

// Machine is what a rollout knows of a machine.
type Machine struct {
	ID string
	// Out says why it is not in scope any more: "it is in tier beta now".
	// Unable says why it can't take the live patch now, and Other names a
	// rollout under which it is on its way: it is in scope, and not its turn.
	Out, Unable, Other string
	Gone               bool // decommissioned
	Held               bool // by an operator of the machine or of the server
	// Has is set when it runs this live patch or a newer one: it needs no offer.
	Has bool
	// State is that of this very live patch there; "" if it says nothing of it.
	State api.State
	// Begun is when the server heard that it loads this live patch, and
	// BegunBoot in which boot that was, by the reports of this rollout's time.
	Begun     time.Time
	BegunBoot string
	Boot      string    // boot id of now
	Booted    time.Time // when it was
	// Orderly is set when the agent said that it was told to go down before
	// that boot: nothing crashed.
	Orderly bool
	Seen    time.Time // last heard of
	// Events are the reports about this live patch, the oldest first.
	Events []Event
	// Usual is how often a day such a machine boots or falls silent anyway:
	// Usual.
	Usual float64
}

// Event is something that a machine reported.
type Event struct {
	At   time.Time
	Kind Failure
}

// Failure is what went wrong on a machine.
type Failure string

// The failures, the mildest first. Of the first three the machine is as it was.
const (
	Refused     Failure = "refused"     // it would not load it
	Stalled     Failure = "stalled"     // the transition did not end and was reversed
	TakenOut    Failure = "taken-out"   // by a person on the machine
	Silent      Failure = "silent"      // it was not heard of any more
	Rebooted    Failure = "rebooted"    // it came back with another boot id
	Warned      Failure = "warned"      // the kernel complained
	Quarantined Failure = "quarantined" // its health watch failed
	Crashed     Failure = "crashed"     // it went down while the live patch was not yet confirmed
)

// rank orders failures by gravity; 0 is none or unknown.
func (f Failure) rank() int { return slices.Index(failures(), f) + 1 }

// failures are all of them, the mildest first.
func failures() []Failure {
	return []Failure{Refused, Stalled, TakenOut, Silent, Rebooted, Warned, Quarantined, Crashed}
}

// grave reports whether it is of Budget.Crashes, and usual whether machines do
// that without any live patch too.
func (f Failure) grave() bool { return f.rank() >= Silent.rank() }
func (f Failure) usual() bool { return f == Silent || f == Rebooted }

// words say in the plural what happened.
func (f Failure) words() string {
	switch f {
	case Refused:
		return "refused it"
	case Stalled:
		return "did not end the transition"
	case TakenOut:
		return "had it taken out by hand"
	case Silent:
		return "fell silent"
	case Rebooted:
		return "came back with a new boot"
	case Warned:
		return "had a kernel warning"
	case Quarantined:
		return "put it into quarantine"
	case Crashed:
		return "crashed"
	}
	return string(f)
}

// Usual is how often a day a machine boots or falls silent, from what it did in
// so many days. Of one without a history it is supposed that it does so once
// in two months.
func Usual(events int, days float64) float64 {
	return (float64(max(events, 0)) + 0.5) / (max(days, 0) + 30)
}

// silent reports whether nothing is heard of a machine that should be heard.
func (f *Facts) silent(m *Machine, now time.Time) bool {
	heard := m.Seen
	if f.Listening.After(heard) {
		heard = f.Listening
	}
	return now.Sub(heard) > f.Silence
}

// has reports whether a machine runs it now, as far as it says.
func has(s api.State) bool {
	switch s {
	case api.Transitioning, api.Applied, api.Healthy, api.Reverting:
		return true
	}
	return false
}

// loads reports whether it has begun to load it at some time.
func loads(s api.State) bool {
	switch s {
	case api.Loading, api.Reverted, api.Quarantined:
		return true
	}
	return has(s)
}
