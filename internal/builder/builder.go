// SPDX-License-Identifier: Apache-2.0

// Package builder is the pipeline from source fixes to a live patch: which
// objects the fixes reach, compiled with and without them, compared, judged,
// linked into a module and packed into an artifact.
//
// A build ends in one of three ways, and a Report tells all of them whole: the
// fixes can be live (Artifact is set), they need a reboot (Refusals say why,
// where, and the usual rewrite), or they change nothing on this target. An
// error means that the build could not be done.
package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/include"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/klp"
	"github.com/tsugi-project/tsugi/internal/layout"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/progress"
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

// Build runs the pipeline. A fix that can't be live is a Report with verdict
// Reboot and no error.
func Build(ctx context.Context, req Request, rep progress.Reporter) (*Report, error) {
	if len(req.Fixes) == 0 {
		return nil, code.New("TS1107", "", "no fix was given")
	}
	b := &build{req: req, rep: rep, report: &Report{Schema: 1, Target: TargetRef(req.Target)}}
	for _, f := range req.Fixes {
		b.report.Fixes = append(b.report.Fixes, FixInfo{ID: f.ID, Title: f.Title, CVEs: f.CVEs})
	}
	b.report.Name = b.name()
	return b.run(ctx)
}

type build struct {
	req     Request
	rep     progress.Reporter
	report  *Report
	fix     *fix.Fix // all fixes as one
	sources map[string]fix.Change
	types   *kernelTypes
	target  *klp.Target
	inputs  []klp.Input
	// spare are objects that only bring new globals, which others may call.
	spare []klp.Input
	// compared holds what was found of pairs: compiled again, most are the same.
	compared map[pairKey]*compared
	// moved says of structs which new members went into padding, see fit.go.
	moved map[string][]layout.Move
	// objects says what is known of a struct's objects, see fit.go.
	objects map[string]objects
	// counters and owners say of a member of a struct whether new code counts it
	// down, and which fix declares it.
	counters, owners sync.Map
}

// stage runs one step and notes how long it took.
func (b *build) stage(name string, step func() error) error {
	start := time.Now()
	err := step()
	b.report.Stages = append(b.report.Stages, Stage{name, time.Since(start).Milliseconds()})
	return err
}

func (b *build) run(ctx context.Context) (*Report, error) {
	var objs []kbuild.Object
	var pairs []kbuild.Pair
	var known bool // the verdict, from the fix's own sources
	var before Report
	steps := []struct {
		name string
		do   func() error
	}{
		{"read fix", func() error { return b.combine() }},
		{"assess few", func() (err error) { known, err = b.assessFew(ctx); return err }},
		{"find objects", func() (err error) { objs, _, err = b.reach(ctx, scope{}); return err }},
		{"compile", func() (err error) { before = *b.report; pairs, err = b.compile(ctx, objs); return err }},
		{"compare", func() error { return b.compare(ctx, pairs) }},
		{"fit structs", func() (err error) { _, err = b.fitStructs(ctx, objs, pairs, before, false); return err }},
	}
	for _, s := range steps {
		if known {
			break
		}
		if err := b.stage(s.name, s.do); err != nil {
			return b.refused(err)
		}
	}
	b.tellMoved()
	switch {
	case len(b.report.Failed) > 0:
		return b.report, nil
	case len(b.report.Refusals) > 0:
		b.report.Verdict = Reboot
		return b.report, nil
	case len(b.inputs) == 0:
		b.report.Verdict = NotAffected
		return b.report, nil
	}
	last, end := "link module", func() error { return b.link(ctx) }
	if b.req.Assess {
		last, end = "place functions", b.placeOnly
	}
	if err := b.stage(last, end); err != nil {
		return b.refused(err)
	}
	b.report.Verdict = Live
	return b.report, nil
}

// refused turns problems that mean "not live" into a verdict. Other errors
// stay what they are.
func (b *build) refused(err error) (*Report, error) {
	var found []Refusal
	for _, e := range joined(err) {
		p, ok := errors.AsType[*code.Problem](e)
		if !ok {
			return nil, err
		}
		if entry, known := code.Lookup(p.Code); !known || entry.Kind != code.KindRefusal {
			return nil, err
		}
		r := Refusal{Problem: p}
		if o, ok := errors.AsType[*klp.ObjectError](e); ok {
			r.Object = o.Object
		}
		found = append(found, r)
	}
	b.report.Verdict = Reboot
	b.report.Refusals = append(b.report.Refusals, found...)
	return b.report, nil
}

// joined lists the errors that errors.Join has put together.
func joined(err error) []error {
	j, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var out []error
	for _, e := range j.Unwrap() {
		out = append(out, joined(e)...)
	}
	return out
}

func (b *build) compile(ctx context.Context, objs []kbuild.Object) ([]kbuild.Pair, error) {
	if len(objs) == 0 {
		return nil, nil
	}
	headers, err := authorHeaders(b.req.Target)
	if err != nil {
		return nil, err
	}
	return kbuild.Compile(ctx, b.req.Target, b.fix, objs, kbuild.Options{Jobs: b.req.Jobs, IncludeDirs: []string{headers}, Shared: b.req.Shared, Tree: b.req.Kernel.Tree(), KeepGoing: b.req.KeepGoing}, b.rep)
}

// authorHeaders puts <tsugi/livepatch.h> where compilers find it. The name
// holds its digest, so that an object compiled with another version is never
// taken for one with this.
func authorHeaders(t *kernel.Target) (string, error) {
	const name = "tsugi/livepatch.h"
	text, err := include.Files.ReadFile(name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	dir := filepath.Join(t.Home(), "include", hex.EncodeToString(sum[:6]))
	file := filepath.Join(dir, name)
	if _, err := os.Stat(file); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", kernel.DiskError(file, err)
	}
	return dir, writeFile(file, text)
}

// compare diffs the pairs in parallel and collects what they mean, in order.
func (b *build) compare(ctx context.Context, pairs []kbuild.Pair) (err error) {
	if len(pairs) == 0 {
		return nil
	}
	task := b.rep.Start("compare", int64(len(pairs)), progress.Files)
	defer func() { task.Done(err) }()
	k := b.req.Kernel
	if k == nil {
		if k, err = NewKernel(ctx, b.req.Target); err != nil {
			return err
		}
	}
	b.types, b.target = k.types, k.target
	found := make([]*compared, len(pairs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(b.req.Jobs, 2))
	for i, p := range pairs {
		if p.Identical || p.Err != nil {
			task.Add(1)
			continue
		}
		if found[i] = b.compared[keyOf(p)]; found[i] != nil {
			task.Add(1)
			continue
		}
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := Guard(p.Path, func() (err error) {
				found[i], err = b.compareOne(p)
				return err
			})
			if err != nil && b.req.KeepGoing && code.Of(err) != "" {
				pairs[i].Err, err = err, nil
			}
			if err != nil {
				return fmt.Errorf("%s: %w", p.Path, err)
			}
			task.Add(1)
			return nil
		})
	}
	if err = g.Wait(); err != nil {
		return err
	}
	if b.compared == nil {
		b.compared = map[pairKey]*compared{}
	}
	for i, c := range found {
		if c != nil {
			b.compared[keyOf(pairs[i])] = c
		}
		if problem, ok := errors.AsType[*code.Problem](pairs[i].Err); ok {
			b.report.Failed = append(b.report.Failed, Refusal{Problem: problem, Object: pairs[i].Path})
			continue
		}
		if err = b.collect(pairs[i], c); err != nil {
			return err
		}
	}
	if len(b.inputs) > 0 {
		b.inputs = append(b.inputs, b.spare...)
	}
	return nil
}

// pairKey names the two compiles of a pair, whose files are named by content,
// and what they are part of.
type pairKey struct{ orig, patched, object, module string }

func keyOf(p kbuild.Pair) pairKey { return pairKey{p.Orig, p.Patched, p.Path, p.Module} }

// compared is the result of one pair.
type compared struct {
	diff    *objdiff.Result
	layouts []Refusal // refusals about types
	padding []Refusal // risks about types
	members []livepatch.Member
}

func (b *build) compareOne(p kbuild.Pair) (*compared, error) {
	orig, err := readObject(p.Orig)
	if err != nil {
		return nil, err
	}
	patched, err := readObject(p.Patched)
	if err != nil {
		return nil, err
	}
	d, err := objdiff.Diff(orig, patched, objdiff.Options{
		EntrySize: b.types.size,
		Trace:     objdiff.TraceRequired,
		BuiltIn:   p.Module == "",
		KeyOwner:  b.target.KeyOwner(p.Module),
		Accept:    b.accepts,
		Field:     fieldsOf(patched),
	})
	if err != nil {
		return nil, err
	}
	c := &compared{diff: d}
	return c, b.compareTypes(c, p, orig, patched)
}

// collect adds one object's result to the report.
func (b *build) collect(p kbuild.Pair, c *compared) error {
	o := Object{Path: p.Path, Module: p.Module}
	if c == nil {
		b.report.Objects = append(b.report.Objects, o)
		return nil
	}
	o.Diff = c.diff
	b.report.Objects = append(b.report.Objects, o)
	for _, r := range c.diff.Refusals {
		b.report.Refusals = append(b.report.Refusals, b.place(r, p.Object))
	}
	b.report.Refusals = append(b.report.Refusals, c.layouts...)
	for _, r := range c.diff.Risks {
		b.report.Risks = append(b.report.Risks, b.place(r, p.Object))
	}
	b.report.Risks = append(b.report.Risks, c.padding...)
	b.report.Members = append(b.report.Members, c.members...)
	b.report.Risks = append(b.report.Risks, b.drift(p.Object, c.diff)...)
	for _, n := range c.diff.Notes {
		b.report.Notes = append(b.report.Notes, p.Path+": "+n)
	}
	onlyNew := c.diff.Same() && len(c.diff.New)+len(c.diff.Data)+len(c.diff.Opened) > 0
	if c.diff.Same() && !onlyNew || c.diff.Refused() {
		return nil
	}
	extract, err := c.diff.Extract()
	if err != nil {
		return fmt.Errorf("%s: %w", p.Path, err)
	}
	plain, err := readObject(p.Plain)
	if err != nil {
		return err
	}
	in := klp.Input{Object: p.Path, Module: p.Module, Plain: plain, Extract: *extract}
	if onlyNew {
		b.spare = append(b.spare, in)
	} else {
		b.inputs = append(b.inputs, in)
	}
	return nil
}

func readObject(path string) (*elfobj.File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := elfobj.Read(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// accepts reports whether the caller lives with a refusal.
func (b *build) accepts(p *code.Problem) bool {
	return code.Accepts(b.req.Accept, p)
}
