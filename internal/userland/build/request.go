// SPDX-License-Identifier: Apache-2.0

package build

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// Request says what to build.
type Request struct {
	Target  *userland.Target
	Fixes   []*fix.Fix // applied in this order
	Name    string     // of the live patch; "" makes one from fixes and target
	Version int        // 0 is 1
	Builder string     // program and version, for the manifest
	// Accept lists refusals to live with, as CODE or CODE:WHERE.
	Accept []string
	Jobs   int // compilers at a time; 0: 2
	// MaxUnits bounds how many units a header may reach; 0: 500.
	MaxUnits int
	// EntryOnly: activations of old code may end in it.
	EntryOnly bool
	// Files stand for the target's shipped files where their build-id is the
	// key: a file linked of the same build with other objects, for tests.
	files []userland.Shipped
}

// Verdict is the outcome of a build.
type Verdict string

// The verdicts, in the words that kernels' have.
const (
	Live        Verdict = "live"
	Reboot      Verdict = "reboot"       // here: the processes have to start again with the fixed package
	NotAffected Verdict = "not-affected" // the fixes change nothing that this package runs
)

// Report is what a build found and made.
type Report struct {
	Schema   int                  `json:"schema"`
	Verdict  Verdict              `json:"verdict"`
	Name     string               `json:"name"`
	Target   livepatch.TargetRef  `json:"target"`
	Fixes    []livepatch.FixRef   `json:"fixes"`
	Files    []File               `json:"files,omitempty"`
	Units    []UnitInfo           `json:"units"`
	Unbuilt  []Unbuilt            `json:"unbuilt,omitempty"`
	Replaced []livepatch.Function `json:"functions,omitempty"`
	Refusals []Problem            `json:"refusals,omitempty"`
	Risks    []Problem            `json:"risks,omitempty"`
	Proven   Proof                `json:"proven"` // source against shipped code
	Stages   []Stage              `json:"stages"`
	Notes    []string             `json:"notes,omitempty"`

	// Artifact is the live patch; nil unless Verdict is live.
	Artifact *livepatch.Patch `json:"-"`
}

// File is one ELF file that changes.
type File struct {
	livepatch.FileRef
	Identical bool `json:"identical"` // built again with the same bytes
	Text      int  `json:"text"`      // bytes of new code
	ROData    int  `json:"rodata"`
	Data      int  `json:"data"`
}

// UnitInfo is what became of one translation unit in one file.
type UnitInfo struct {
	Source  string   `json:"source"`
	Object  string   `json:"object"`
	File    string   `json:"file,omitempty"`
	Changed []string `json:"changed,omitempty"`
	New     []string `json:"new,omitempty"`
}

// Unbuilt is a file that the fixes change in vain on this target.
type Unbuilt struct {
	Path    string `json:"path"`
	Outcome string `json:"outcome"` // not-built, no-effect or ignored
	Why     string `json:"why,omitempty"`
}

// Stage is how long one step took.
type Stage struct {
	Name string `json:"name"`
	MS   int64  `json:"ms"`
}

// Build makes a live patch of fixes for a package. A fix that can't be live is
// a Report with verdict Reboot and no error.
func Build(ctx context.Context, req Request, rep progress.Reporter) (*Report, error) {
	if len(req.Fixes) == 0 {
		return nil, code.New("TS1107", "", "no fix was given")
	}
	t := req.Target
	b := &job{req: req, rep: rep, t: t, report: &Report{
		Schema: 1, Target: TargetRef(t),
	}}
	for _, f := range req.Fixes {
		b.report.Fixes = append(b.report.Fixes, livepatch.FixRef{ID: f.ID, Title: f.Title, Origin: f.Origin, CVEs: f.CVEs})
	}
	b.report.Name = req.name()
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"read fix", b.combine}, {"find units", b.reach}, {"compile", b.compile}, {"compare", b.splice},
	} {
		start := time.Now()
		err := s.do(ctx)
		b.report.Stages = append(b.report.Stages, Stage{s.name, time.Since(start).Milliseconds()})
		if err != nil {
			return b.refused(err)
		}
		if len(b.report.Refusals) > 0 && s.name != "compare" {
			break
		}
	}
	switch {
	case len(b.report.Refusals) > 0:
		b.report.Verdict = Reboot
	case len(b.report.Replaced) == 0:
		b.report.Verdict = NotAffected
	default:
		b.report.Verdict = Live
		return b.report, b.write()
	}
	return b.report, nil
}

// TargetRef names a package in manifests and reports.
func TargetRef(t *userland.Target) livepatch.TargetRef {
	return livepatch.TargetRef{Name: t.Name, PackageVersion: t.Version, Arch: "x86_64"}
}

// job is one build under way.
type job struct {
	req     Request
	rep     progress.Reporter
	t       *userland.Target
	report  *Report
	changes []fix.Change // against the target's source, by path
	units   []*unit
	splices map[string][]byte // encoded, by build-id
	owned   map[string]string // what own has found
}

// refused makes a verdict of an error that is a refusal.
func (b *job) refused(err error) (*Report, error) {
	p, ok := errors.AsType[*code.Problem](err)
	if !ok {
		return nil, err
	}
	if e, known := code.Lookup(p.Code); !known || e.Kind != code.KindRefusal {
		return nil, err
	}
	b.report.Refusals = append(b.report.Refusals, Problem{Problem: worded(p)})
	b.report.Verdict = Reboot
	return b.report, nil
}

// accepts reports whether the caller lives with a refusal.
func (b *job) accepts(p *code.Problem) bool {
	return code.Accepts(b.req.Accept, p)
}

// name is the live patch's: what the caller said, or one of the fixes.
func (r *Request) name() string {
	diffs := make([][]byte, len(r.Fixes))
	for i, f := range r.Fixes {
		diffs[i] = f.Raw
	}
	return cmp.Or(r.Name, livepatch.NameOf(r.Fixes[0].ID, r.Target.Name, r.Version, diffs...))
}

// write packs the artifact.
func (b *job) write() error {
	m := livepatch.Manifest{
		Name: b.report.Name, Version: max(b.req.Version, 1), Target: b.report.Target, Fixes: b.report.Fixes,
		Functions: b.report.Replaced, Compiler: b.t.Compiler, Builder: b.req.Builder,
	}
	for _, f := range b.report.Files {
		m.Files = append(m.Files, f.FileRef)
	}
	for _, in := range b.t.Packages {
		m.Inputs = append(m.Inputs, livepatch.Input{Name: in.Name, Digest: in.Digest})
	}
	for _, r := range b.report.Risks {
		m.Risks = append(m.Risks, livepatch.Risk{Code: r.Code, What: r.What, Where: r.Where, Why: r.Why})
	}
	diffs := map[string][]byte{}
	for _, f := range b.req.Fixes {
		diffs[f.ID] = f.Raw
	}
	p, err := livepatch.NewUserland(m, b.splices, diffs)
	if err != nil {
		return err
	}
	b.report.Artifact = p
	b.report.Fixes = p.Manifest.Fixes
	return nil
}
