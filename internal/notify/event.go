// SPDX-License-Identifier: Apache-2.0

// Package notify decides whom to tell what, and when: at once, in a digest, or
// not at all because it was told already. It makes the messages, signs
// webhooks, and says when an attempt that failed is repeated.
//
// Everything in it is a function of values: channels as people set them up,
// what is remembered of each (State), an event, a time. Package courier takes
// messages out into the world; keeping channels, states and deliveries is the
// business of whoever calls.
//
// Webhooks are signed as the Standard Webhooks specification has it
// (webhook-id, webhook-timestamp and webhook-signature over all three of id,
// time and body), so that receivers can use the libraries that there are;
// docs/notifications.md shows it without one.
package notify

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Severity is how much an event wants a person.
type Severity string

// The severities, the least first.
const (
	Info    Severity = "info"    // good to know
	Warning Severity = "warning" // somebody should look
	Urgent  Severity = "urgent"  // somebody should look now: never kept for a digest
)

// Rank orders severities; it is negative for what is none.
func (s Severity) Rank() int { return slices.Index([]Severity{Info, Warning, Urgent}, s) }

// Kind is what sort of thing happened, as AREA.WHAT.
type Kind string

// The kinds of events.
const (
	RolloutStarted  Kind = "rollout.started"
	RolloutHalted   Kind = "rollout.halted"
	RolloutReverted Kind = "rollout.reverted"
	RolloutDone     Kind = "rollout.done"
	ApprovalNeeded  Kind = "approval.needed"
	PatchPublished  Kind = "livepatch.published"
	PatchPromoted   Kind = "livepatch.promoted"
	PatchBlocked    Kind = "livepatch.blocked"
	BuildFailed     Kind = "build.failed"
	ExclusionEnding Kind = "exclusion.ending"
	MachineCrashed  Kind = "machine.crashed"
	MachinesFailing Kind = "machines.failing"
	MachinesSilent  Kind = "machines.silent"
	CVEOpen         Kind = "cve.open"
	KeyExpiring     Kind = "key.expiring"
	PersonLocked    Kind = "person.locked"
	ServerTrouble   Kind = "server.trouble"
	Test            Kind = "test"
)

// KindInfo is what is known of a kind.
type KindInfo struct {
	Kind     Kind     `json:"kind"`
	Severity Severity `json:"severity"` // of events that do not say
	Title    string   `json:"title"`    // for those who choose kinds
}

// Kinds lists all kinds, in the order in which people are shown them.
func Kinds() []KindInfo {
	return []KindInfo{
		{RolloutStarted, Info, "a rollout began"},
		{RolloutHalted, Urgent, "a rollout was halted"},
		{RolloutReverted, Warning, "a rollout was taken back"},
		{RolloutDone, Info, "a rollout is through"},
		{ApprovalNeeded, Warning, "something waits for a second person"},
		{PatchPublished, Info, "a live patch was published"},
		{PatchPromoted, Info, "a live patch came to the next tier"},
		{PatchBlocked, Urgent, "a live patch was blocked"},
		{BuildFailed, Warning, "a build ended without a live patch"},
		{ExclusionEnding, Info, "an exclusion ends soon"},
		{MachineCrashed, Urgent, "a machine went down with a live patch"},
		{MachinesFailing, Warning, "machines can't take their live patch"},
		{MachinesSilent, Warning, "machines are silent"},
		{CVEOpen, Warning, "a vulnerability that is exploited is open"},
		{KeyExpiring, Warning, "signatures or certificates run out"},
		{PersonLocked, Warning, "somebody was locked out"},
		{ServerTrouble, Urgent, "the service itself is in trouble"},
		{Test, Info, "somebody tries a channel"},
	}
}

// Lookup finds a kind.
func Lookup(k Kind) (KindInfo, bool) {
	all := Kinds()
	i := slices.IndexFunc(all, func(i KindInfo) bool { return i.Kind == k })
	if i < 0 {
		return KindInfo{}, false
	}
	return all[i], true
}

// Fact is one line of an event.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Event is something that people may want to be told.
type Event struct {
	ID   string `json:"id"` // of this event and no other: receivers know repeats by it
	Kind Kind   `json:"kind"`
	// Severity is that of the kind if it is empty.
	Severity Severity  `json:"severity"`
	Time     time.Time `json:"time"`
	// Subject is what it is about, the same word for all events about one thing:
	// "rollout/42". Events of one kind, severity and subject are repeats of each
	// other.
	Subject string `json:"subject"`
	Title   string `json:"title"` // one sentence
	Facts   []Fact `json:"facts,omitempty"`
	// Groups are the groups of machines that it concerns; none is all.
	Groups []string `json:"groups,omitempty"`
	Path   string   `json:"path,omitempty"` // in the console, as /rollouts/42
	// Ends says that what earlier events of this kind and subject told is over.
	Ends bool `json:"ends,omitempty"`
}

// Level is the event's severity, or that of its kind.
func (e Event) Level() Severity {
	if e.Severity.Rank() >= 0 {
		return e.Severity
	}
	k, _ := Lookup(e.Kind)
	return cmp.Or(k.Severity, Info)
}

// about is what the event is of, whatever its severity.
func (e Event) about() string { return string(e.Kind) + " " + e.Subject }

// key is by what events are repeats of each other. What becomes more severe is
// news.
func (e Event) key() string { return keyOf(e.about(), e.Level()) }

func keyOf(about string, s Severity) string { return about + " " + string(s) }

// Matches tells whether a kind is among some: names of kinds, or AREA.* for all
// of an area. None is all.
func Matches(patterns []string, k Kind) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		if area, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(string(k), area)
		}
		return p == string(k)
	})
}
