// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof/guest"
	"github.com/tsugi-project/tsugi/internal/strict"
	"github.com/tsugi-project/tsugi/internal/vm"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
)

// Format is the number of this version of proof.json.
const Format = 1

// Verdict is what a proof says in one word.
type Verdict string

// The verdicts. A proof without a reproducer is proved when everything else
// holds; its checks say that the effect was not shown.
const (
	Proved Verdict = "proved"
	Failed Verdict = "failed"
)

// Proof is the record of a live patch in its exact target. It is what
// proof.json holds. All times are in milliseconds.
type Proof struct {
	Format   int             `json:"format"`
	Verdict  Verdict         `json:"verdict"`
	Problems []*code.Problem `json:"problems,omitempty"` // why it failed
	Checks   []Check         `json:"checks"`             // in the order they were made

	Target livepatch.TargetRef `json:"target"`
	Patch  PatchRef            `json:"patch"`
	// Previous is the live patch that was loaded before and replaced.
	Previous *PatchRef `json:"previous,omitempty"`
	Machine  Machine   `json:"machine"`
	Kernel   Kernel    `json:"kernel"`

	Before *Run `json:"before,omitempty"` // without the patch
	After  *Run `json:"after,omitempty"`  // with it

	Load   *guest.Transition `json:"load,omitempty"`
	Revert *guest.Transition `json:"revert,omitempty"`
	Cycles *guest.Cycles     `json:"cycles,omitempty"`

	Traced *guest.Traced `json:"traced,omitempty"` // which of its functions ran

	Objects []guest.Object `json:"objects,omitempty"` // as the kernel showed them
	// Package is what was seen of a package's processes.
	Package *PackageRecord `json:"package,omitempty"`
	// Unloaded are modules of the patch that this machine cannot load, so that
	// nothing was shown of them but that the kernel takes the patch.
	Unloaded []vmguest.Refused `json:"unloaded,omitempty"`
	Log      Log               `json:"log"`

	Started time.Time `json:"started"`
	Elapsed int64     `json:"elapsed_ms"`
}

// Check is one statement that the proof tested.
type Check struct {
	ID     string `json:"id"` // stable: see the Check constants
	Status Status `json:"status"`
	Detail string `json:"detail,omitempty"`
	MS     int64  `json:"ms,omitempty"`
}

// Status is the result of a check.
type Status string

// The results of a check. One that could not be made because an earlier one
// failed, or was not asked for, is skipped, and never counts as passed.
const (
	Pass Status = "pass"
	Fail Status = "fail"
	Skip Status = "skip"
)

// The checks, in order.
const (
	CheckKernel      = "kernel"       // the machine runs the target's kernel
	CheckBefore      = "before"       // the reproducer fails without the patch
	CheckLoad        = "load"         // the kernel takes the module and the transition ends
	CheckReplaced    = "replaced"     // the live patch before it is replaced in one transition and leaves
	CheckFunctions   = "functions"    // what the kernel shows as patched is what the manifest says
	CheckLate        = "late-modules" // modules that arrive later are patched on arrival
	CheckProbe       = "probe"        // the probe passes without the patch, with it and after it
	CheckAfter       = "after"        // the reproducer passes with the patch
	CheckRan         = "ran"          // reproducer or probe ran functions of the patch
	CheckRevert      = "revert"       // the patch leaves
	CheckPrograms    = "programs"     // of a package: programs run that map its changed files
	CheckStarted     = "started"      // of a package: processes that start later are patched, and the reproducer passes there
	CheckAlive       = "alive"        // of a package: no program ended
	CheckCycles      = "cycles"       // loading and reverting again and again
	CheckRevertShown = "revert-shown" // the reproducer fails again after the revert
	CheckLog         = "log"          // the kernel complained about nothing new
)

// PatchRef names the live patch that was proved.
type PatchRef struct {
	Name         string `json:"name"`
	Version      int    `json:"version,omitempty"`
	Digest       string `json:"sha256,omitempty"`        // of the .tsugi file
	ModuleDigest string `json:"module_sha256,omitempty"` // of a kernel's
	ModuleSize   int64  `json:"module_size,omitempty"`
}

// Machine is what the proof ran on.
type Machine struct {
	Accelerator vm.Accel `json:"accelerator"`
	CPUs        int      `json:"cpus"`
	MemoryMiB   int      `json:"memory_mib"`
}

// Kernel is the kernel as the guest saw it.
type Kernel struct {
	Release string `json:"release"`
	Banner  string `json:"banner"`
	BuildID string `json:"build_id"`
	Cmdline string `json:"cmdline"`
}

// Run is one boot.
type Run struct {
	End           vm.End    `json:"end"`
	Crash         *vm.Crash `json:"crash,omitempty"`
	Probe         *Ending   `json:"probe,omitempty"`
	Reproducer    *Ending   `json:"reproducer,omitempty"`
	BootMS        int64     `json:"boot_ms"` // until process 1 spoke
	ElapsedMS     int64     `json:"elapsed_ms"`
	ConsoleDigest string    `json:"console_sha256"`
	// Console is what the machine wrote; a proof that was read has it not.
	Console string `json:"-"`
}

// Ending is how a reproducer ended.
type Ending struct {
	Kind   EndKind `json:"kind"`
	Detail string  `json:"detail,omitempty"`
	Output string  `json:"output,omitempty"`
	MS     int64   `json:"ms,omitempty"`
}

// EndKind tells the ways of ending apart.
type EndKind string

// The ways in which a reproducer ends. All but EndPassed and EndNotRun are
// failures.
const (
	EndPassed  EndKind = "passed"
	EndExit    EndKind = "exit status"
	EndSignal  EndKind = "signal"
	EndWarning EndKind = "kernel warning" // it passed, but the kernel warned
	EndOops    EndKind = "oops"
	EndPanic   EndKind = "panic"
	EndHang    EndKind = "hang"
	EndDied    EndKind = "machine died"
	EndNotRun  EndKind = "not run"
)

// Failed reports whether the reproducer ran and failed.
func (e EndKind) Failed() bool { return e != EndPassed && e != EndNotRun }

// Log is what the kernels said that matters.
type Log struct {
	// Expected are the lines that loading, reverting and tainting make.
	Expected []string `json:"expected,omitempty"`
	// New are complaints that only the patched kernel made. Any fails the proof.
	New []string `json:"new,omitempty"`
	// Notes are other new lines of level warning and above.
	Notes []string `json:"notes,omitempty"`
}

// Check returns the check of an id.
func (p *Proof) Check(id string) (Check, bool) {
	for _, c := range p.Checks {
		if c.ID == id {
			return c, true
		}
	}
	return Check{}, false
}

// Bytes returns proof.json.
func (p *Proof) Bytes() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// maxProof is far above what a proof with a full log excerpt takes.
const maxProof = 32 << 20

// Read reads proof.json.
func Read(b []byte) (*Proof, error) {
	if len(b) > maxProof {
		return nil, code.New("TS6114", "", fmt.Sprintf("%d bytes, more than %d", len(b), maxProof))
	}
	var p Proof
	err := strict.JSON(b, &p)
	switch {
	case err != nil:
		return nil, code.New("TS6114", "", "").With(err)
	case p.Format != Format:
		return nil, code.New("TS6114", "", fmt.Sprintf("format %d, this program knows %d", p.Format, Format))
	case p.Verdict != Proved && p.Verdict != Failed:
		return nil, code.New("TS6114", "", fmt.Sprintf("verdict %q", p.Verdict))
	}
	return &p, nil
}
