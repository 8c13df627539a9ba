// SPDX-License-Identifier: Apache-2.0

// Package preflight decides whether a machine can take live patches at all
// (Able) and one live patch in particular (Check), before anything is loaded.
//
// It is pure: what hostinfo read, a manifest and a module go in; one Finding
// for each rule comes out, in a fixed order, with a reason and a remedy where
// the answer is no. A rule that cannot be decided, because this process may
// not read what it needs, says so with the risk TS9243 and does not guess. The
// kernel judges again when it loads the module: preflight exists so that what
// can be known before is said before, in words.
package preflight

import (
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/livepatch"
)

// Finding is what one rule found.
type Finding struct {
	ID string `json:"id"` // stable: see the constants
	OK bool   `json:"ok"`
	// Detail is what was found, in a few words.
	Detail string `json:"detail,omitempty"`
	// Problem is why not, with its remedy. A finding that is OK may have one
	// too: advice, of kind risk.
	Problem *code.Problem `json:"problem,omitempty"`
}

// The rules of Able, in order.
const (
	Container  = "container"  // the system has a kernel of its own
	Arch       = "arch"       // live patches are made for this architecture
	Off        = "off"        // the command line does not turn live patching off
	Livepatch  = "livepatch"  // the kernel can be patched live
	Stacks     = "stacks"     // and knows reliably what its tasks are doing
	Modules    = "modules"    // it still loads modules
	Privileges = "privileges" // and lets this process load them
	Build      = "build"      // it says which build it is
	Ftrace     = "ftrace"     // function tracing is on
	Signatures = "signatures" // what it demands of modules is known
	Taints     = "taints"     // it is in good health
	Others     = "others"     // nobody else's live patch is loaded
	Transition = "transition" // none is on its way in or out
)

// The rules of Check, which come after those of Able.
const (
	Kernel    = "kernel"         // the live patch is for this very build of the kernel
	Module    = "module"         // and its module for this release
	Loaded    = "loaded"         // no module of its name is there
	States    = "states"         // it knows what the one that it replaces has done to the system
	Targets   = "target-modules" // the modules that it changes are those that it was made for
	Functions = "functions"      // nobody else redirects the functions that it replaces
	Probes    = "probes"         // no probe goes blind
	Signature = "signature"      // the kernel will take its signature
	Memory    = "memory"
	Disk      = "disk"
)

// Space is what a file system has, and what keeping the live patch there
// needs. Zero bytes needed is always enough.
type Space struct {
	Path string
	Free int64
	Need int64
}

// Request is what Check judges.
type Request struct {
	Host     *hostinfo.Host
	Manifest *livepatch.Manifest
	Module   ModuleFile
	Space    Space
	// OnDisk are the build-ids of the files from which the modules would be
	// loaded that are not: hostinfo.ModulesOnDisk. One that is not here is not
	// judged.
	OnDisk map[string]string
	// Ours are the names of live patches that this machine's agent has loaded.
	// Names that begin with tsugi_ are ours in any case.
	Ours []string
	// Replaces are the manifests of those of them that are loaded and that the
	// live patch takes the place of, as far as they are known.
	Replaces []*livepatch.Manifest
}

// Able judges whether this machine can take live patches at all. ours is as in
// Request.
func Able(h *hostinfo.Host, ours ...string) []Finding {
	return []Finding{
		container(h), arch(h), off(h), supported(h), stacks(h), modules(h), privileges(h), build(h),
		ftrace(h), signatures(h), taints(h), others(h, ours), transition(h),
	}
}

// Check judges whether this machine can take a live patch now.
func Check(r Request) []Finding {
	return append(Able(r.Host, r.Ours...),
		kernel(r), module(r), loaded(r), states(r), targets(r), functions(r), probes(r), signature(r), memory(r), disk(r))
}

// Problems returns what keeps a machine from taking a live patch: those of
// findings that are not OK.
func Problems(fs []Finding) []*code.Problem {
	var out []*code.Problem
	for _, f := range fs {
		if !f.OK {
			out = append(out, f.Problem)
		}
	}
	return out
}

// Passed tells whether all rules say yes.
func Passed(fs []Finding) bool {
	return !slices.ContainsFunc(fs, func(f Finding) bool { return !f.OK })
}

func yes(id, detail string) Finding { return Finding{ID: id, OK: true, Detail: detail} }

func no(id string, p *code.Problem) Finding { return Finding{ID: id, Detail: p.Why, Problem: p} }

// advise is a yes with something to know.
func advise(id string, p *code.Problem) Finding {
	return Finding{ID: id, OK: true, Detail: p.Why, Problem: p}
}

// unseen says that a rule cannot be decided.
func unseen(id, path, why string) Finding {
	return advise(id, code.New("TS9243", path, why))
}
