// SPDX-License-Identifier: Apache-2.0

// Package policy decides what a machine should have: facts and a signed index
// in, one decision with its reason out. It is pure, and the same function runs
// on the machine, which acts by it, and on the server, which shows by it what
// the machine will do.
package policy

import "github.com/tsugi-project/tsugi/internal/trust"

// Facts are what a decision is made of.
type Facts struct {
	BuildID string       // of the running kernel, or a package's livepatch.TargetRef.ID
	Package bool         // it is about a package
	Index   *trust.Index // nil: there is none for it in its tier
	Current int          // version that is applied now; 0: none
	// Floor is the highest version that this machine has ever had applied and
	// confirmed under this kernel: below it only a signed revert leads.
	Floor int
	// Moved is set when what is applied now was taken from the index of another
	// policy than Index. Floor is then that of Index's policy: each policy has
	// its own, for the versions of two policies are two ways through the same
	// numbers.
	Moved       bool
	Quarantined []string // ids of live patches that this machine will not load again
	Reverted    []string // ids that a person on this machine took out by hand
	// Waiting are the ids of offers whose turn has not come on this machine: a
	// rollout takes them through the fleet, and the server gives no key for them.
	Waiting  []string
	Hold     bool // by the operator of the machine or of the server
	Off      bool // tsugi=off on the kernel's command line
	InWindow bool // now is inside a maintenance window, or there are none
}

// Action is what to do.
type Action string

// The actions.
const (
	Keep   Action = "keep"   // what is there is what should be there
	Apply  Action = "apply"  // load Offer; it replaces what is there
	Revert Action = "revert" // take out what is there
	Wait   Action = "wait"   // there is something to do, and not now
)

// Decision is an action with its reason.
type Decision struct {
	Action Action
	Offer  *trust.Offer // of Apply, and what Wait waits for
	// Reason is one short sentence for a person: "version 3 is blocked: oopses
	// on nfs servers".
	Reason string
}
