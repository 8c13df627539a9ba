// SPDX-License-Identifier: Apache-2.0

package api

// Kernel is a running kernel, exactly.
type Kernel struct {
	Release string `json:"release" maxLength:"255"`  // uname -r
	BuildID string `json:"build_id" maxLength:"128"` // GNU build-id of vmlinux, hex
	Arch    string `json:"arch" maxLength:"32"`      // uname -m
}

// Module is a loaded kernel module.
type Module struct {
	Name    string `json:"name" maxLength:"64"`
	BuildID string `json:"build_id,omitempty" maxLength:"128"` // of its note, hex
}

// Replacement is where the fixed build of a module stands on a machine.
type Replacement struct {
	Module  string           `json:"module" maxLength:"64"`
	State   ReplacementState `json:"state" maxLength:"32"`
	Problem *Problem         `json:"problem,omitempty"` // why it is blocked
}

// ReplacementState is where a fixed module stands.
type ReplacementState string

// The states of a fixed module. The first two protect.
const (
	OnDisk    ReplacementState = "on-disk" // not loaded; what loads is the fixed build
	LoadedNow ReplacementState = "loaded"  // the fixed build runs
	InUse     ReplacementState = "in-use"  // another build is loaded, and stays until it is unloaded
	NotYet    ReplacementState = "waiting" // for the live patch to be confirmed, or for the modules that it goes with
	NotHere   ReplacementState = "blocked" // this machine can't have it: see Problem
)

// Protects reports whether what the module fixes is fixed here.
func (s ReplacementState) Protects() bool { return s == OnDisk || s == LoadedNow }

// State is where a live patch stands on a machine.
type State string

// The states of a live patch on a machine, in the order of a life without
// trouble, then the others. docs/agent.md draws the machine.
const (
	Known         State = "known"         // the index offers it
	Verified      State = "verified"      // fetched, signatures and digests hold, decrypted
	Preflighted   State = "preflighted"   // this host can take it
	Loading       State = "loading"       // the intent is on disk, the kernel is being asked
	Transitioning State = "transitioning" // the kernel switches task by task
	Applied       State = "applied"       // the transition is over
	Healthy       State = "healthy"       // and the health watch found nothing

	Reverting   State = "reverting"
	Reverted    State = "reverted"
	Quarantined State = "quarantined" // a boot found it unconfirmed, or its health watch failed
	Blocked     State = "blocked"     // a reason keeps it from being applied: see Problem
	Waiting     State = "waiting"     // for a window, the end of a hold, or the next try
)

// Patch is what a machine says about its live patch.
type Patch struct {
	ID      string   `json:"id,omitempty" maxLength:"255"`   // LivePatch.ID
	Name    string   `json:"name,omitempty" maxLength:"64"`  // the kernel's name
	Version int      `json:"version,omitempty" minimum:"0"`  // of the target
	State   State    `json:"state,omitempty" maxLength:"32"` // of this live patch
	Since   int64    `json:"since,omitempty"`                // of the state
	Problem *Problem `json:"problem,omitempty"`              // why it stands where it stands
	// Policy is the one from whose index it was taken; "" is the default one.
	// After a change of the machine's policy it is another than the
	// assignment's until a live patch of the new one is there.
	Policy string `json:"policy,omitempty" maxLength:"64"`
}

// Package is where the live patches of a package stand on a machine whose
// processes map files of it.
type Package struct {
	ID     string `json:"id" maxLength:"128"`     // of the target, as trust.Packages has it
	Target string `json:"target" maxLength:"255"` // "debian:libssl3=3.0.20-1~deb12u2"
	Patch  Patch  `json:"patch"`
	// Processes are those that map a file of the live patch; of a package
	// without one, those that map a file that the tier has live patches for.
	Processes Processes `json:"processes"`
	// Reasons are why processes are pending or unprotected, the most frequent
	// first.
	Reasons []ProcessReason `json:"reasons,omitempty" maxItems:"8"`
	// Stale are those of its processes that run a file of it which the disk has no
	// more, as the package was upgraded or removed: they need a live patch still, or
	// to be started anew.
	Stale int `json:"stale,omitempty" minimum:"0"`
}

// Stale is what processes of a machine run and its disk has no more, since a
// package was upgraded or removed under them: until they are started anew they run
// the old code.
type Stale struct {
	Processes int         `json:"processes" minimum:"0"`         // with one of these files, or several
	Files     []StaleFile `json:"files,omitempty" maxItems:"32"` // by path
	More      int         `json:"more,omitempty" minimum:"0"`    // files that are not in Files
}

// StaleFile is such a file. Only those are told that lie where packages install to.
type StaleFile struct {
	Path      string `json:"path" maxLength:"255"`               // as the processes see it
	BuildID   string `json:"build_id,omitempty" maxLength:"128"` // of what they run
	Processes int    `json:"processes" minimum:"1"`
	Program   string `json:"program,omitempty" maxLength:"64"` // one of them
}

// The bounds of Stale.
const (
	MaxStaleFiles = 32
	MaxStalePath  = 255
)

// Processes are counted by what the live patch is to them.
type Processes struct {
	Protected   int `json:"protected" minimum:"0"`   // the new code is in charge
	Pending     int `json:"pending" minimum:"0"`     // not yet: it is tried again
	Unprotected int `json:"unprotected" minimum:"0"` // it can't be in them as they are
}

// ProcessReason is why some processes are not protected.
type ProcessReason struct {
	Problem   Problem `json:"problem"`
	Processes int     `json:"processes" minimum:"1"`
	Program   string  `json:"program,omitempty" maxLength:"64"` // one of them
}

// EnrollRequest makes a machine known. It is authorised by the token alone.
type EnrollRequest struct {
	Token     string `json:"token" maxLength:"256"`
	MachineID string `json:"machine_id" maxLength:"128"` // SHA-256 of "tsugi" and /etc/machine-id, hex
	Hostname  string `json:"hostname" maxLength:"255"`
	Recipient string `json:"recipient" maxLength:"4096"` // age recipient of the key pair made on the machine
	Agent     string `json:"agent" maxLength:"64"`       // version of the agent
	OS        string `json:"os,omitempty" maxLength:"255"`
	Kernel    Kernel `json:"kernel"`
	// Previous is the credential of an earlier enrolment of this very machine,
	// if it still has one: the machine keeps its id and its place in the limit.
	Previous string `json:"previous,omitempty" maxLength:"256"`
}

// EnrollAnswer is what a machine keeps.
type EnrollAnswer struct {
	Machine    string `json:"machine"`    // id
	Credential string `json:"credential"` // a secret, told once; stored hashed
	Tier       string `json:"tier"`
	Group      string `json:"group,omitempty"`
	// Reenrolled says that the machine was known before.
	Reenrolled bool `json:"reenrolled,omitempty"`
}

// CheckIn is what a machine says about itself. The request carries the ETag of
// the last answer in If-None-Match; a machine that leaves both unchanged gets
// 304 and nothing else.
type CheckIn struct {
	Agent  string `json:"agent" maxLength:"64"`
	BootID string `json:"boot_id" maxLength:"64"` // /proc/sys/kernel/random/boot_id
	// Run is random for each start of the agent. Two runs in turn under one
	// credential and one boot are two agents; two boots in turn are a clone.
	Run    string `json:"run" maxLength:"64"`
	Uptime int64  `json:"uptime"` // seconds
	// Orderly says that the boot before this one ended in good order: the agent
	// was told to end first. A boot after a crash, or lost power, is none.
	Orderly bool   `json:"orderly,omitempty"`
	Clock   int64  `json:"clock"` // the machine's own time
	Kernel  Kernel `json:"kernel"`
	Patch   Patch  `json:"patch"`
	// ModulesDigest is the SHA-256 of the lines "name build_id\n" in order;
	// Modules follows only when the server's Want names it.
	ModulesDigest string   `json:"modules_digest,omitempty" maxLength:"64"`
	Modules       []Module `json:"modules,omitempty" maxItems:"4096"`
	// Replacements are where the fixed modules of the live patch stand, by name.
	Replacements []Replacement `json:"replacements,omitempty" maxItems:"4096"`
	// Packages are those that this machine's tier has live patches for and its
	// processes map files of, by target. Counts of processes change all the
	// time: a machine tells new ones at most once a minute, unless what they
	// mean changes.
	Packages []Package `json:"packages,omitempty" maxItems:"256"`
	// Stale and that of Packages follow only when the server's Want names it: an
	// older server would refuse them. nil: it is not known.
	Stale *Stale `json:"stale,omitempty"`
	// Able says whether preflight finds that this host can take live patches
	// at all. Problems are why not, the first of them, and what else a person
	// should look at there.
	Able     bool      `json:"able"`
	Problems []Problem `json:"problems,omitempty" maxItems:"32"`
	Hold     bool      `json:"hold,omitempty"` // an operator on the machine holds it
}

// Wish is something that the server asks a machine for.
type Wish string

// The wishes.
const (
	WantModules  Wish = "modules"  // the list of modules in the next check-in
	WantReenroll Wish = "reenroll" // this identity is used by two machines
	WantStale    Wish = "stale"    // CheckIn.Stale in every check-in; every server that knows it asks for it
)

// Assignment answers a check-in: what the machine should have. What it means
// is decided by the machine from the signed index; this is only the pointer
// to it, the keys, and what the server knows and the index does not.
type Assignment struct {
	Machine string `json:"machine"`
	Tier    string `json:"tier"`
	Group   string `json:"group,omitempty"`
	// Policy is that of the machine's group, and names the index to follow;
	// "" is the default one. Like the tier it is the server's word alone.
	Policy   string `json:"policy,omitempty"`
	Interval int64  `json:"interval"` // seconds until the next check-in; the agent adds jitter
	// Sequence is that of the index for this machine's kernel and policy in its
	// tier; 0: there is none. A machine that holds an older one refreshes its metadata.
	Sequence int64 `json:"sequence"`
	// Packages are the sequences of the indexes for the packages that the machine
	// named, by their id; one that there is no index of is left out.
	Packages map[string]int64 `json:"packages,omitempty"`
	// Catalogue is the SHA-256 of the tier's list of packages, as it is signed;
	// "" is none. A machine that holds another one refreshes its metadata.
	Catalogue string `json:"catalogue,omitempty"`
	// Keys are the content keys of the live patches that this machine may
	// read, each wrapped for its recipient (an age file, base64), by
	// LivePatch.ID.
	Keys map[string]string `json:"keys,omitempty"`
	Want []Wish            `json:"want,omitempty"`
	// Ending are the exclusions of the policy that end soon, the first to end
	// first: what they leave out comes back then.
	Ending []Ending `json:"ending,omitempty"`
	Hold   bool     `json:"hold,omitempty"` // an operator holds it on the server
	Time   int64    `json:"time"`           // the server's own; not part of the ETag
}

// Ending is an exclusion that ends by itself.
type Ending struct {
	Name   string `json:"name"` // a CVE, or the id of a fix
	Reason string `json:"reason"`
	Ends   int64  `json:"ends"`
}

// Stall is a task that held up a transition.
type Stall struct {
	PID      int    `json:"pid"`
	Comm     string `json:"comm" maxLength:"64"`
	Function string `json:"function,omitempty" maxLength:"512"` // patched function on its stack
}

// ReportKind says what a report is about.
type ReportKind string

// The kinds of reports.
const (
	ReportState  ReportKind = "state"  // a live patch came to a state
	ReportCrash  ReportKind = "crash"  // a boot found an unconfirmed intent
	ReportHealth ReportKind = "health" // the health watch found something
	ReportAgent  ReportKind = "agent"  // the agent itself: enrolled, cleared a quarantine, held
)

// Report is one thing that happened on a machine. A machine keeps it until the
// server has stored it; the id makes a second delivery harmless.
type Report struct {
	ID         string     `json:"id" maxLength:"36"`
	Time       int64      `json:"time"`
	Kind       ReportKind `json:"kind" maxLength:"32"`
	BootID     string     `json:"boot_id" maxLength:"64"`
	Kernel     Kernel     `json:"kernel"`
	Patch      Patch      `json:"patch"`
	Transition int64      `json:"transition_ms,omitempty"`
	Stalls     []Stall    `json:"stalls,omitempty" maxItems:"32"`
	Detail     string     `json:"detail,omitempty" maxLength:"8192"`
}

// Reports are delivered together.
type Reports struct {
	Reports []Report `json:"reports" minItems:"1" maxItems:"100"`
}

// ReportsAnswer names what is stored now.
type ReportsAnswer struct {
	Stored []string `json:"stored"` // ids
}
