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
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/include"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/klp"
	"github.com/tsugi-project/tsugi/internal/layout"
	"github.com/tsugi-project/tsugi/internal/progress"
)

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

// accepts reports whether the caller lives with a refusal.
func (b *build) accepts(p *code.Problem) bool {
	return code.Accepts(b.req.Accept, p)
}
