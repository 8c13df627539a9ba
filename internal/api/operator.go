// SPDX-License-Identifier: Apache-2.0

package api

import "slices"

// Token is an enrolment token as operators see it; its secret is told once.
type Token struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Tier     string `json:"tier"`
	Group    string `json:"group,omitempty"`
	Limit    int    `json:"limit"` // machines; 0: only the plan's
	Uses     int    `json:"uses"`  // machines enrolled with it so far
	Created  int64  `json:"created"`
	Expires  int64  `json:"expires,omitempty"` // 0: never
	Revoked  int64  `json:"revoked,omitempty"` // 0: it is not
	LastUsed int64  `json:"last_used,omitempty"`
}

// NewToken asks for a token.
type NewToken struct {
	Name    string `json:"name" minLength:"1" maxLength:"100"`
	Tier    string `json:"tier,omitempty" maxLength:"64"` // "" is the last one (stable)
	Group   string `json:"group,omitempty" maxLength:"100"`
	Limit   int    `json:"limit,omitempty" minimum:"0"`
	Expires int64  `json:"expires,omitempty"`
}

// TokenMade is a new token with its secret.
type TokenMade struct {
	Token
	Secret string `json:"secret"`
	// Enroll is everything that tsugi enroll needs in one word: the server's
	// URL, the secret, the digest of its CA and the digest of its TUF root.
	Enroll string `json:"enroll"`
}

// Tier is an ordered stage of trust.
type Tier struct {
	Name     string `json:"name"`
	Rank     int    `json:"rank"` // 1 is the first; live patches are promoted upwards
	Machines int    `json:"machines"`
	Patches  int    `json:"patches"`
}

// Protection says in one word how a machine stands.
type Protection string

// The words of protection.
const (
	Protected   Protection = "protected"   // it has the newest live patch that it should have
	Outdated    Protection = "outdated"    // a newer one waits, for its kernel or a package
	Unprotected Protection = "unprotected" // there is one and it has none, or it is reverted
	NotCovered  Protection = "not-covered" // no live patch in its tier, for its kernel or for a package of its processes
	Failing     Protection = "failing"     // the live patch of its kernel or of a package is quarantined, blocked or not kept: see Reason
	Partly      Protection = "partly"      // the live patch of a package is there, and some processes run the old code
	Silent      Protection = "silent"      // it missed three check-ins
	Gone        Protection = "gone"        // decommissioned
)

// Worse is the word for a whole whose parts are p and q: what is worst says how it
// stands, and what there is nothing for says nothing of the rest. Silent and Gone are
// said of whole machines alone.
func (p Protection) Worse(q Protection) Protection {
	order := []Protection{NotCovered, Protected, Outdated, Partly, Unprotected, Failing}
	if slices.Index(order, q) > slices.Index(order, p) {
		return q
	}
	return p
}

// Machine is an enrolled machine as operators see it.
type Machine struct {
	ID       string `json:"id"`
	Hostname string `json:"hostname"`
	Tier     string `json:"tier"`
	Group    string `json:"group,omitempty"`
	Policy   string `json:"policy,omitempty"` // of the group; "": the default one
	Token    string `json:"token,omitempty"`  // id of the token that it came with
	Kernel   Kernel `json:"kernel"`
	OS       string `json:"os,omitempty"`
	Agent    string `json:"agent,omitempty"`
	Patch    Patch  `json:"patch"`
	Target   string `json:"target,omitempty"` // id of the live patch that it should have
	// Protection is that of the kernel and all packages together, by what is worst:
	// see Worse. Reason is one sentence why.
	Protection Protection `json:"protection"`
	Reason     string     `json:"reason,omitempty"`
	// KernelProtection is that of the kernel alone, as the machine was last heard of.
	KernelProtection Protection `json:"kernel_protection,omitempty"`
	KernelReason     string     `json:"kernel_reason,omitempty"`
	CVEs             []string   `json:"cves,omitempty"` // fixed on it, with GET of one machine only
	// Needs counts what is open on it by what would end it. Open lists these,
	// the gravest first: all with GET of one machine, and in lists of machines
	// with something open what was asked about.
	Needs map[Need]int `json:"needs,omitempty"`
	Open  []OpenCVE    `json:"open,omitempty"`
	// Replacements are where fixed modules stand, with GET of one machine only.
	Replacements []Replacement `json:"replacements,omitempty"`
	// Packages are those that its processes map files of and its tier has live
	// patches for, with GET of one machine only.
	Packages []MachinePackage `json:"packages,omitempty"`
	// Stale is what its processes run and its disk has no more: its Files with GET of
	// one machine only. nil: the machine has not told.
	Stale *Stale `json:"stale,omitempty"`
	// Rollout is how it stands in the rollout that decides what it may have, with
	// GET of one machine only.
	Rollout  *RolloutWord `json:"rollout,omitempty"`
	Able     bool         `json:"able"`
	Problems []Problem    `json:"problems,omitempty"`
	Hold     bool         `json:"hold,omitempty"`
	Cloned   bool         `json:"cloned,omitempty"` // two machines use its identity
	Enrolled int64        `json:"enrolled"`
	Seen     int64        `json:"seen,omitempty"`
	Booted   int64        `json:"booted,omitempty"`
	Gone     int64        `json:"gone,omitempty"`
}

// MachinePackage is a package on a machine: what the machine says of it, and what
// the server does.
type MachinePackage struct {
	Package
	Should     string       `json:"should,omitempty"` // id of the live patch that it should have
	Protection Protection   `json:"protection"`
	Reason     string       `json:"reason,omitempty"`  // of the protection, one sentence
	CVEs       []string     `json:"cves,omitempty"`    // fixed in all of its processes
	Rollout    *RolloutWord `json:"rollout,omitempty"` // see Machine.Rollout
}

// MachineChange changes what operators decide about a machine; nil leaves a
// field as it is.
type MachineChange struct {
	Tier  *string `json:"tier,omitempty" maxLength:"64"`
	Group *string `json:"group,omitempty" maxLength:"100"`
	Hold  *bool   `json:"hold,omitempty"`
}

// LivePatch is a published live patch as operators see it.
type LivePatch struct {
	ID       string         `json:"id"` // "debian-6.1.0-55-amd64-v3"
	Name     string         `json:"name"`
	Version  int            `json:"version"`
	Target   string         `json:"target"` // "debian:6.1.0-55-amd64"
	Kernel   Kernel         `json:"kernel"` // of a package: only its architecture
	Digest   string         `json:"sha256"` // of the .tsugi file
	Size     int64          `json:"size"`
	CVEs     []string       `json:"cves,omitempty"`
	Fixes    []string       `json:"fixes,omitempty"` // titles
	Proven   bool           `json:"proven"`          // a proof that holds came with it
	Signed   bool           `json:"signed"`          // the module carries a kernel module signature
	Tiers    []string       `json:"tiers"`           // where it is published, in order
	Policies []string       `json:"policies"`        // whose machines it is for
	Created  int64          `json:"created"`
	Blocked  int64          `json:"blocked,omitempty"`
	Reason   string         `json:"reason,omitempty"` // of the block
	Recall   bool           `json:"recall,omitempty"` // machines are told to revert it
	Machines map[string]int `json:"machines,omitempty"`
}

// Promote names the tier that a live patch goes to; "" is the next one.
type Promote struct {
	Tier string `json:"tier,omitempty" maxLength:"64"`
}

// Block stops the delivery of a live patch.
type Block struct {
	Reason string `json:"reason" minLength:"1" maxLength:"1000"`
	Recall bool   `json:"recall,omitempty"` // machines that have it are told to revert it
}

// JobState is where a build job stands.
type JobState string

// The states of a job.
const (
	JobQueued    JobState = "queued"
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// Job is a build on the server.
type Job struct {
	ID       string   `json:"id"`
	Target   string   `json:"target"`
	Title    string   `json:"title,omitempty"`
	State    JobState `json:"state"`
	Stage    string   `json:"stage,omitempty"`
	Attempt  int      `json:"attempt"` // 1 is the first
	Worker   string   `json:"worker,omitempty"`
	Created  int64    `json:"created"`
	Started  int64    `json:"started,omitempty"`
	Ended    int64    `json:"ended,omitempty"`
	Verdict  string   `json:"verdict,omitempty"` // live, reboot, not-affected
	Problem  *Problem `json:"problem,omitempty"`
	Patch    string   `json:"patch,omitempty"` // LivePatch.ID when it was published
	Artifact string   `json:"artifact,omitempty"`
	// Selection is the digest of the choice of pushed fixes that it builds,
	// Policies who makes it, and Omitted what the build had to leave out.
	Selection string    `json:"selection,omitempty"`
	Policies  []string  `json:"policies,omitempty"`
	Omitted   []LeftFix `json:"omitted,omitempty"`
	// Accept lists the refusals that its author lives with. Lists of jobs have it not.
	Accept []string `json:"accept,omitempty"`
	// Cancelling: it is to end, and runs on until its worker hears of it.
	Cancelling bool `json:"cancelling,omitempty"`
}

// NewJob asks for a build.
type NewJob struct {
	Target  string    `json:"target" minLength:"1" maxLength:"255"`
	Fixes   []JobDiff `json:"fixes" minItems:"1" maxItems:"200"` // applied in this order
	Name    string    `json:"name,omitempty" maxLength:"55"`
	Publish bool      `json:"publish,omitempty"` // into the first tier, when it is live and proven
	Prove   bool      `json:"prove,omitempty"`
	Repro   string    `json:"reproducer,omitempty" maxLength:"1000000"`
	// Accept lists refusals to live with, as CODE or CODE:PLACE.
	Accept []string `json:"accept,omitempty" maxItems:"100"`
}

// JobDiff is one fix of a job.
type JobDiff struct {
	ID    string   `json:"id" minLength:"1" maxLength:"200"`
	Title string   `json:"title,omitempty" maxLength:"1000"`
	CVEs  []string `json:"cves,omitempty" maxItems:"100"`
	Diff  string   `json:"diff"`
}

// Operator is a credential of a person or a program, as others see it.
type Operator struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Role    string `json:"role"` // admin, reader, worker
	Created int64  `json:"created"`
	Revoked int64  `json:"revoked,omitempty"`
}

// NewOperator asks for one.
type NewOperator struct {
	Name string `json:"name" minLength:"1" maxLength:"100"`
	Role string `json:"role" enum:"admin,reader,worker"`
}

// OperatorMade is a new operator with its secret, which is told once.
type OperatorMade struct {
	Operator
	Secret string `json:"secret"`
}

// AuthoriseRevert lets the machines of a tier go to an older live patch of a
// target.
type AuthoriseRevert struct {
	Target string `json:"target" minLength:"1" maxLength:"255"`
	Tier   string `json:"tier" minLength:"1" maxLength:"64"`
	Policy string `json:"policy,omitempty" maxLength:"63"` // "": of every policy that can
	To     int    `json:"to" minimum:"0"`                  // version; 0: none at all
	Reason string `json:"reason" minLength:"1" maxLength:"1000"`
}

// NewTier asks for a tier. It comes after the tier that After names; "" makes
// it the first.
type NewTier struct {
	Name  string `json:"name" minLength:"1" maxLength:"32"`
	After string `json:"after,omitempty" maxLength:"32"`
}

// Trust is how the server's TUF repository stands.
type Trust struct {
	RootDigest string      `json:"root_sha256"` // of the first root, which machines pin
	Roles      []TrustRole `json:"roles"`
}

// TrustRole is one role of it.
type TrustRole struct {
	Name      string   `json:"name"`
	Version   int64    `json:"version"`
	Expires   int64    `json:"expires"`
	Threshold int      `json:"threshold"`
	Keys      []string `json:"keys"` // ids
}

// Settings are what operators decide for the whole fleet.
type Settings struct {
	PlanMachines int   `json:"plan_machines"` // machines that may be enrolled; 0: no limit
	Interval     int64 `json:"interval"`      // seconds between check-ins
}

// SettingsChange changes settings; nil leaves one as it is.
type SettingsChange struct {
	PlanMachines *int   `json:"plan_machines,omitempty" minimum:"0"`
	Interval     *int64 `json:"interval,omitempty" minimum:"10" maximum:"86400"`
}

// LogChunk is a piece of a job's log.
type LogChunk struct {
	Seq     int64  `json:"seq"`
	Attempt int    `json:"attempt"`
	Text    string `json:"text"`
}
