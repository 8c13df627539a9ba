// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Host is what the agent needs to know of the machine that it runs on.
type Host struct {
	Kernel    api.Kernel
	BootID    string
	MachineID string // SHA-256 of "tsugi" and /etc/machine-id, hex
	Hostname  string
	OS        string
	Distro    string // for package URLs: "debian-12"
	Booted    time.Time
	Off       bool // tsugi=off on the kernel's command line
	Modules   []api.Module
	// Problems say why this host can't take live patches; none: it can.
	Problems []*code.Problem
}

// System is the machine that the agent runs on.
type System interface {
	Host(ctx context.Context) (*Host, error)
	// Preflight finds out why this host, as it is now, must not load p. ours are
	// the live patches that this agent has loaded, with what it knows of them.
	Preflight(ctx context.Context, p *livepatch.Patch, ours []*livepatch.Manifest) []*code.Problem
}

// Transition is how a transition of the kernel went.
type Transition struct {
	Done     bool
	Duration time.Duration
	Stalls   []api.Stall // who held it up: at its end, or at the limit
}

// Loaded is a live patch that the kernel has.
type Loaded struct {
	Name       string
	Enabled    bool
	Transition bool // under way
}

// Kernel loads live patches and takes them out.
type Kernel interface {
	// Load asks the kernel for the module and returns when it is linked; the
	// transition has begun.
	Load(ctx context.Context, module []byte, name string) error
	// Watch waits for the end of the transition of name, for at most limit. tick
	// is told every few seconds who holds it up.
	Watch(ctx context.Context, name string, limit time.Duration, tick func([]api.Stall)) (Transition, error)
	// Revert disables name, or reverses its transition, waits until it has left
	// the kernel and unloads its module.
	Revert(ctx context.Context, name string, limit time.Duration, tick func([]api.Stall)) (Transition, error)
	// Remove unloads the module of a live patch that was replaced.
	Remove(ctx context.Context, name string) error
	Loaded(ctx context.Context) ([]Loaded, error)
	// Complaint looks whether the kernel has said something bad since a time,
	// and waits for it to, until ctx ends. Bad is what names the module or one
	// of the functions. "" is silence.
	Complaint(ctx context.Context, since time.Time, module string, functions []string) (string, error)
}

// ShippedModule is a module of the kernel's own package on this machine.
type ShippedModule struct {
	Digest  string // SHA-256 of the file, compressed or not
	BuildID string // "" when it has none
}

// FileThere is a file in updates/tsugi.
type FileThere struct {
	Digest string // SHA-256
	Found  bool   // modules.dep leads to it
}

// Unfound is the error of a Put after which modprobe would not load some of the
// files. Those are gone again, all others are as they should be.
type Unfound struct {
	Files   []string
	Problem *code.Problem
}

func (u *Unfound) Error() string { return u.Problem.Error() }
func (u *Unfound) Unwrap() error { return u.Problem }

// ModuleDisk keeps fixed modules where this machine loads modules from: files in
// /lib/modules/RELEASE/updates/tsugi.
type ModuleDisk interface {
	// Installed reports whether a kernel of this release is still there.
	Installed(release string) bool
	// Shipped finds a module of the kernel's own package by its path below
	// /lib/modules/RELEASE without what compression adds to its name. A machine
	// that has a build of the module of its own has none.
	Shipped(release, path string) (ShippedModule, error)
	// There are the files that are there, by name.
	There(release string) (map[string]FileThere, error)
	// Put adds or replaces files and takes away all that are not in keep, in an
	// order in which modprobe finds a module at any moment. When it returns nil,
	// that is on the medium and modprobe finds all that is there; see Unfound.
	Put(ctx context.Context, release string, add map[string][]byte, keep []string) error
	// Fit finds out why this kernel would not load ko in the place of a module.
	Fit(ctx context.Context, r livepatch.Replacement, ko []byte) []*code.Problem
	// InUse says what uses a loaded module or may use it; "" is evidence that
	// nothing does.
	InUse(name string) string
	// Swap unloads a module that nothing uses, and loads what is on the disk. A
	// context that has ended keeps it from beginning, and does not end it.
	Swap(ctx context.Context, name string) error
	// Restore loads a module that a Swap has left unloaded, whatever ctx says.
	Restore(ctx context.Context, name string) error
}

// Keeper keeps live patches of packages in the processes of this machine. It is
// a program of its own (tsugi keep) that shares files with the agent: what the
// agent asks for is done soon after, and Status tells what came of it.
type Keeper interface {
	// Seek says which ELF files the keeper shall count the processes of: their
	// build-ids by the id of the package.
	Seek(ctx context.Context, files map[string][]string) error
	// Give has a live patch brought to all processes that map its files, those
	// that start later as well; another version of the same package leaves them
	// with it. back allows that one to be newer. The stamp tells this time from
	// others that it was given.
	Give(ctx context.Context, file []byte, back bool) (stamp int64, err error)
	// TakeBack has a live patch taken out of all processes. One that is not there
	// is no error.
	TakeBack(ctx context.Context, id string) error
	// Kept are the live patches that are given and not taken back or replaced.
	Kept(ctx context.Context) ([]Kept, error)
	// Status is cheap: it is asked every few seconds.
	Status(ctx context.Context) (*KeeperStatus, error)
}

// Kept is a live patch of a package that all processes shall have.
type Kept struct {
	ID     string
	Target string
	Stamp  int64
	Given  bool // by Give, and not by a person
}

// KeeperStatus is what the keeper has said last.
type KeeperStatus struct {
	// Absent: this machine has no keeper and is not meant to have one.
	Absent bool
	// Problem is why what the keeper has said does not hold any more: it does not
	// run.
	Problem *code.Problem
	// Deaf is why it can't see that a program crashes.
	Deaf *code.Problem
	// Counted: Mapped is about the files of the last Seek.
	Counted bool
	// Mapped counts the processes that map a file of those of Seek, by the id of
	// the package; it has no others.
	Mapped map[string]int
	// Reach tells, by id, how far the live patches have come that the keeper has
	// been through all processes with.
	Reach   map[string]Reach
	Crashes []Crash
	// Stale is what processes run and the disk has no more; nil: not known.
	// StaleOf counts those of packages, as Mapped does.
	Stale   *api.Stale
	StaleOf map[string]int
}

// Reach is how far a live patch of a package has come.
type Reach struct {
	Stamp     int64 // of Give
	Out       bool  // it is being taken out: Processes.Pending still have it
	Processes api.Processes
	Reasons   []api.ProcessReason // the most frequent first
	Waits     []ProcessWait       // those that are pending, the longest first; not all
}

// ProcessWait is a process that is pending.
type ProcessWait struct {
	PID     int         `json:"pid"`
	Program string      `json:"program"`
	Problem api.Problem `json:"problem"`
	Since   int64       `json:"since"` // milliseconds since 1970
	Next    int64       `json:"next"`  // when the keeper tries again
}

// Crash is the end of a process that a live patch was in, by a signal that a
// fault raises.
type Crash struct {
	Patch   string // id
	Program string
	PID     int
	Signal  string // "SIGSEGV"
	At      int64  // milliseconds since 1970
	After   int64  // milliseconds since the live patch came into this process
	// Late: the process ran before it had the live patch, and got it later than
	// others.
	Late bool
}

// Source is where signed metadata and live patches come from (trust/updater).
type Source interface {
	Refresh(ctx context.Context) error
	// Index is nil without an error when the tier has none for this kernel and
	// policy; "" is the default one.
	Index(ctx context.Context, tier, buildID, policy string) (*trust.Index, error)
	// Packages is the list of the packages that the tier has live patches for; nil
	// without an error when there is none.
	Packages(ctx context.Context, tier string) (*trust.Packages, error)
	// Cached is the index that was verified last, verified anew and without a
	// network, whether it has expired or not.
	Cached(tier, buildID, policy string) (*trust.Index, time.Time, error)
	// Patch returns the encrypted live patch, verified against the metadata.
	Patch(ctx context.Context, tier string, o trust.Offer) ([]byte, error)
	// Provenance fetches where a live patch comes from, verified against the
	// tier's keys and the offer's digest.
	Provenance(ctx context.Context, tier string, o trust.Offer) (*trust.Provenance, error)
}

// Server is the service that the machine is enrolled with. An error that is a
// *code.Problem says which of the two did not answer as it should.
type Server interface {
	// CheckIn returns nil without an error when nothing has changed since etag.
	CheckIn(ctx context.Context, c api.CheckIn, etag string) (a *api.Assignment, now string, err error)
	// Wait returns when the answer to the next check-in will differ from etag,
	// and false when timeout has passed.
	Wait(ctx context.Context, etag string, timeout time.Duration) (bool, error)
	Reports(ctx context.Context, r []api.Report) (stored []string, err error)
	Leave(ctx context.Context) error
}

// Link makes what talks to the server of an enrolment.
type Link interface {
	// Enroll makes the machine known: it fetches the CA and the root of trust,
	// checks them against their digests before trusting them, and asks.
	Enroll(ctx context.Context, e Enrollment, req api.EnrollRequest) (*Machine, error)
	// Open connects to the server of m. It does not wait for the network.
	Open(m *Machine) (Server, Source, error)
	// Bundle is the source that an offline bundle is, held against the root
	// that this machine trusts, and the keys that came with it.
	Bundle(ctx context.Context, file []byte, recipient string) (Source, *BundleInfo, error)
	// Forget drops what is trusted.
	Forget() error
}

// Crypt handles the machine's key pair.
type Crypt interface {
	// NewIdentity makes a key pair.
	NewIdentity() (secret, recipient string, err error)
	Recipient(secret string) (string, error)
	// Decrypt opens a live patch whose key is wrapped for the identity.
	Decrypt(cipher []byte, wrapped, secret string) ([]byte, error)
}

// BundleInfo is what a bundle says about itself.
type BundleInfo struct {
	Tier   string
	Policy string            // of this machine; "" is the default one
	Keys   map[string]string // content keys wrapped for this machine, by live patch
}
