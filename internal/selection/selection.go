// SPDX-License-Identifier: Apache-2.0

// Package selection decides which fixes of a series a group of machines gets,
// by its policy, and what leaving one out drags along. It is pure: the clock
// is a value, and what only a build can tell is asked of the caller.
package selection

import (
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/series"
)

// Policy is what a group of machines wants.
type Policy struct {
	Name        string      `yaml:"name" json:"name"` // "default" is everybody's who has no other
	Description string      `yaml:"description,omitempty" json:"description,omitempty"`
	Exclusions  []Exclusion `yaml:"exclusions,omitempty" json:"exclusions,omitempty"`
	// MinSeverity leaves out what is known to be less severe. A fix whose
	// severity nobody knows is not left out.
	MinSeverity series.Severity `yaml:"min_severity,omitempty" json:"min_severity,omitempty"`
	// Scope: "all" takes every fix that can be live, "security" those with a CVE
	// or an advisory, and what they require. "" is security.
	Scope Scope `yaml:"scope,omitempty" json:"scope,omitempty"`
	// Extra names series of one's own that this policy takes after the update's:
	// those that were pushed to the server under these names and marked extra.
	Extra []string `yaml:"extra,omitempty" json:"extra,omitempty"`
	// SwapUnused lets the agent replace a module that is loaded but not in use.
	SwapUnused bool `yaml:"swap_unused,omitempty" json:"swap_unused,omitempty"`
}

// Scope is which kinds of fixes a policy takes.
type Scope string

const (
	Security Scope = "security"
	All      Scope = "all"
)

// Exclusion leaves one CVE (or one fix, by its id) out.
type Exclusion struct {
	CVE    string `yaml:"cve,omitempty" json:"cve,omitempty"`
	Fix    string `yaml:"fix,omitempty" json:"fix,omitempty"`
	Reason string `yaml:"reason" json:"reason"`
	Owner  string `yaml:"owner" json:"owner"`
	// Expires ends the exclusion by itself; the zero time never does.
	Expires time.Time `yaml:"expires,omitempty" json:"expires,omitzero"`
}

// Selection is the fixes chosen, and what became of the others.
type Selection struct {
	Policy string        `json:"policy"`
	Fixes  []*series.Fix `json:"-"`              // in the order of the series
	Left   []Left        `json:"left,omitempty"` // in the order of the series
	// Replaced are fixes that fixed modules serve, not the live patch.
	Replaced []*series.Fix `json:"-"`
	// Digest names the chosen fixes; Sharing names what a build makes of them.
	Digest string `json:"digest"`
	// Idle are exclusions that no fix of the series answers to.
	Idle []Exclusion `json:"idle,omitempty"`
	// Overlaps are chosen fixes that work, in functions that a fix left out
	// by the policy changes as well: nobody has tried the one without the other.
	Overlaps []Overlap `json:"overlaps,omitempty"`
}

// Left is a fix that was not taken.
type Left struct {
	Fix  *series.Fix `json:"-"`
	ID   string      `json:"id"`
	Kind LeftKind    `json:"kind"`
	Why  string      `json:"why"`
	// Code is the refusal's, when there is one.
	Code code.Code `json:"code,omitempty"`
	// By is the CVE or id that the policy names for an excluded fix, and the
	// fix without which a dragged one does not work.
	By string `json:"by,omitempty"`
	// Needs is the smallest set of fixes left out with which a dragged one
	// would work.
	Needs []string `json:"needs,omitempty"`
}

// Overlap is a fix in whose functions a fix that is left out has changes too.
type Overlap struct {
	Fix       string   `json:"fix"`
	With      string   `json:"with"`
	Functions []string `json:"functions"`
}

// LeftKind is why a fix was not taken.
type LeftKind string

const (
	Excluded LeftKind = "excluded" // the policy names it
	Dragged  LeftKind = "dragged"  // it needs one that is left out
	Lesser   LeftKind = "lesser"   // below the policy's severity
	OutOf    LeftKind = "out-of-scope"
	Reboot   LeftKind = "reboot"       // it can't be live on this target
	NotHere  LeftKind = "not-affected" // it changes nothing that runs on this target
	Failed   LeftKind = "error"        // it could not be judged: it does not compile, say
)

// Fact is what is known of one fix on the target before anything is built: the
// verdict on the fix alone, with what it requires.
type Fact struct {
	Verdict Verdict   `json:"verdict"`
	Code    code.Code `json:"code,omitempty"` // the first refusal's
	Why     string    `json:"why,omitempty"`
	// With are the fixes that it was judged together with, because it does not
	// compile alone. The verdict may be theirs.
	With []string `json:"with,omitempty"`
}

// Verdict is the outcome for one fix, worded as builds word it.
type Verdict string

const (
	IsLive        Verdict = "live"
	NeedsReboot   Verdict = "reboot"
	IsNotAffected Verdict = "not-affected"
	IsError       Verdict = "error"
)
