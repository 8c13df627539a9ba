// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/klp"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// Request says what to build.
type Request struct {
	Target *kernel.Target
	Fixes  []*fix.Fix // applied in this order
	// Kernel, if not nil, is what NewKernel made of Target for other builds.
	Kernel  *Kernel
	Name    string // of the live patch and its module; "" makes one from fixes and target
	Version int    // 0 is 1
	Builder string // program and version, for the manifest
	// Members are what structs have got by the live patches before this one.
	Members []livepatch.Member
	// Accept lists refusals to live with, as CODE or CODE:WHERE ("TS4010:sysctl_x").
	Accept []string
	Jobs   int // compilers at a time; 0 for one per processor
	// MaxObjects bounds how many objects a header may reach; 0: 500.
	MaxObjects int
	// Shared, if not nil, is a cache of compiled objects beside the target's own.
	Shared kbuild.Cache
	// Assess stops before the module is made: the report has the verdict, the
	// functions and the risks, and no Artifact.
	Assess bool
	// KeepGoing tells objects that don't compile, or can't be compared, in
	// Report.Failed and goes on with the others up to the comparison, so that
	// one build tells all that is wrong with many fixes.
	KeepGoing bool
	// Sign, if not nil, gets the finished module and returns it signed.
	Sign func(ko []byte) ([]byte, error)
}

// Verdict is the outcome of a build.
type Verdict string

const (
	Live        Verdict = "live"
	Reboot      Verdict = "reboot"
	NotAffected Verdict = "not-affected" // the fixes change nothing that runs here
)

// Report is what a build found and made.
type Report struct {
	Schema  int                 `json:"schema"`
	Verdict Verdict             `json:"verdict"`
	Name    string              `json:"name"`
	Target  livepatch.TargetRef `json:"target"`
	Fixes   []FixInfo           `json:"fixes"`
	Objects []Object            `json:"objects"`
	// Unbuilt are files of the fixes that are not part of this target, with why.
	Unbuilt   []Unbuilt            `json:"unbuilt,omitempty"`
	Functions []livepatch.Function `json:"functions,omitempty"` // replaced ones
	Members   []livepatch.Member   `json:"members,omitempty"`   // new ones of structs whose objects exist
	Refusals  []Refusal            `json:"refusals,omitempty"`
	// Failed are objects for which there is no answer, with why; there is no
	// verdict then. Only with Request.KeepGoing.
	Failed []Refusal   `json:"failed,omitempty"`
	Risks  []Refusal   `json:"risks,omitempty"`
	Proven klp.Proof   `json:"proven"` // source against running code
	Module *ModuleInfo `json:"module,omitempty"`
	Stages []Stage     `json:"stages"`
	// Rest are objects that were not looked at, because the others decide. Only
	// with Request.Assess.
	Rest  kbuild.Rest `json:"rest,omitzero"`
	Notes []string    `json:"notes,omitempty"`

	// Artifact is the live patch; nil unless Verdict is live and it was asked for.
	Artifact *livepatch.Patch `json:"-"`
}

// FixInfo names one fix of the build.
type FixInfo struct {
	ID    string   `json:"id"`
	Title string   `json:"title,omitempty"`
	CVEs  []string `json:"cves,omitempty"`
}

// Object is what became of one object file.
type Object struct {
	Path   string          `json:"path"`
	Module string          `json:"module,omitempty"` // "" is vmlinux
	Diff   *objdiff.Result `json:"diff,omitempty"`   // nil when both compiles are the same bytes
}

// Unbuilt is a file that the fixes change in vain on this target.
type Unbuilt struct {
	Path    string `json:"path"`
	Outcome string `json:"outcome"` // not-built, no-effect or ignored
	Why     string `json:"why,omitempty"`
}

// Refusal is a problem with its place in the source.
type Refusal struct {
	*code.Problem
	Object string `json:"object"`
	Source string `json:"source,omitempty"` // "fs/ext4/mballoc.c:1540"
}

// ModuleInfo describes the module that was made.
type ModuleInfo struct {
	Name    string       `json:"name"`
	Size    int          `json:"size"` // bytes
	Digest  string       `json:"sha256"`
	Symbols []klp.Symbol `json:"symbols"` // resolved by livepatch when it loads
}

// Stage is how long one step took.
type Stage struct {
	Name string `json:"name"`
	MS   int64  `json:"ms"`
}
