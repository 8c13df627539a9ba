// SPDX-License-Identifier: Apache-2.0

package cumulative

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/userland"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// PackageRequest says what to build for a package.
type PackageRequest struct {
	Target    *userland.Target
	Series    *series.Series
	Policy    selection.Policy
	Verdicts  map[string]selection.Fact // by id of a fix, as far as known; a build finds out the rest
	Previous  *livepatch.Manifest       // that this one comes after; nil: none
	Version   int                       // 0: one more than Previous
	Name      string                    // of the live patch; "" makes one
	Now       time.Time
	Builder   string   // program and version, for the manifest
	Accept    []string // refusals to live with, as build.Request has them
	Jobs      int
	MaxUnits  int
	EntryOnly bool
}

// PackageResult is what came of it, as Result has it.
type PackageResult struct {
	Report    *build.Report
	Selection *selection.Selection
	Open      []livepatch.OpenFix
	Rounds    int
	Artifact  *livepatch.Patch
}

// BuildPackage chooses, builds, and leaves out what does not go. A build of a
// package takes seconds, so what keeps the others from being live is found by
// building: the first fixes of the series that can't be live together end with
// the one that is left out. What a survey knows is not needed.
func BuildPackage(ctx context.Context, req PackageRequest, rep progress.Reporter) (*PackageResult, error) {
	if err := req.Policy.Check(); err != nil {
		return nil, err
	}
	if len(req.Series.Fixes) == 0 {
		return nil, code.New("TS1107", req.Series.Name, "the series holds no fix")
	}
	return choosePackage(req, rep).run(ctx)
}

type packaging struct {
	ground
	req    PackageRequest
	rep    progress.Reporter
	build  func(context.Context, build.Request, progress.Reporter) (*build.Report, error)
	good   int             // so many of the selected fixes are known to be live together
	taken  map[string]bool // left out as too mild or out of scope, and needed after all
	result PackageResult
}

// choosePackage prepares a build.
func choosePackage(req PackageRequest, rep progress.Reporter) *packaging {
	p := &packaging{req: req, rep: rep, build: build.Build, taken: map[string]bool{}}
	p.result.Selection = selection.Choose(req.Series, req.Policy, req.Verdicts, req.Now)
	p.ground = ground{req.Series, p.result.Selection, ofPackage(req.Target)}
	return p
}

// ofPackage is the source of a package.
func ofPackage(t *userland.Target) *original {
	return &original{
		read: func(path string) ([]byte, error) {
			return os.ReadFile(filepath.Join(t.Build, filepath.FromSlash(path)))
		},
		relevant: func(f *fix.Fix) (*fix.Fix, error) {
			part, _ := build.Relevant(f)
			return part, nil
		},
	}
}

func (p *packaging) run(ctx context.Context) (*PackageResult, error) {
	p.leaveIdle()
	for {
		if err := p.settle(); err != nil {
			return nil, err
		}
		if len(p.sel.Fixes) == 0 {
			return p.nothing(), nil
		}
		report, bad, err := p.try(ctx, p.sel.Fixes)
		switch {
		case err != nil:
			return nil, err
		case bad != nil:
			if err := p.blame(ctx, bad); err != nil {
				return nil, err
			}
			continue
		}
		p.result.Report = report
		if out := p.unchanged(); len(out) > 0 && len(p.sel.Leave(out...)) > 0 {
			p.good = 0
			continue
		}
		return p.finish()
	}
}

// settle leaves out what does not apply to the source without what is left out,
// and takes back what was only too mild or out of scope.
func (p *packaging) settle() error {
	for {
		t := newText(p.original)
		var out []selection.Left
		took := false
		for i, f := range p.sel.Fixes {
			err := t.apply(f)
			if err == nil {
				continue
			}
			if !textual(err) && !isRefusal(err) {
				return err
			}
			l := p.misfit(f, err)
			p.good = min(p.good, i)
			if took = p.take(l.Needs); took {
				break
			}
			out = append(out, l)
		}
		if !took && len(p.sel.Leave(out...)) == 0 {
			return nil
		}
	}
}

// take puts back what a chosen fix needs, if nothing but its scope or severity
// keeps all of it out, and tells whether it did.
func (p *packaging) take(need []string) bool {
	for _, id := range need {
		if i := p.leftAt(id); i < 0 || !p.sel.Left[i].Kind.Yields() || !p.sel.CanTake(p.series, id) {
			return false
		}
	}
	for _, id := range p.sel.Take(p.series, need...) {
		p.taken[id] = true
		p.good = 0
	}
	return len(need) > 0
}

// try builds fixes. What keeps them from being live is a problem and no error.
func (p *packaging) try(ctx context.Context, fixes []*series.Fix) (*build.Report, *code.Problem, error) {
	p.result.Rounds++
	r, err := p.build(ctx, build.Request{
		Target: p.req.Target, Fixes: named(fixes), Name: p.name(), Version: p.version(), Builder: p.req.Builder,
		Accept: p.req.Accept, Jobs: p.req.Jobs, MaxUnits: p.req.MaxUnits, EntryOnly: p.req.EntryOnly,
	}, p.rep)
	switch {
	case err != nil && ctx.Err() == nil && ofFixes(code.Of(err)):
		return nil, saidOnce(err), nil
	case err != nil:
		return nil, nil, err
	case r.Verdict == build.Reboot:
		return r, r.Refusals[0].Problem, nil
	}
	return r, nil, nil
}

// ofFixes tells errors that fixes bring with them: they don't compile, reach too
// much, or change what can't be found in the shipped file as it was compiled.
func ofFixes(c code.Code) bool {
	return slices.Contains([]code.Code{"TS3101", "TS3106", "TS3510", "TS3511"}, c)
}

// saidOnce is the problem that an error carries, with the place that the error
// tells in front of it.
func saidOnce(err error) *code.Problem {
	p, ok := errors.AsType[*code.Problem](err)
	if !ok {
		return code.New(code.Of(err), "", firstLine(err.Error()))
	}
	where, _, _ := strings.Cut(err.Error(), p.Error())
	why := p.Why
	if why == "" && p.Err != nil {
		why = p.Err.Error()
	}
	return code.New(p.Code, where+p.Where, firstLine(why))
}

// blame leaves out the fix with which the selected ones, in their order, can't
// be live any more. why is what keeps all of them from it.
func (p *packaging) blame(ctx context.Context, why *code.Problem) error {
	fixes := p.sel.Fixes
	whys := map[int]*code.Problem{len(fixes): why}
	var failed error
	n := p.good + 1 + sort.Search(len(fixes)-p.good-1, func(i int) bool {
		if failed != nil {
			return true
		}
		var bad *code.Problem
		_, bad, failed = p.try(ctx, fixes[:p.good+1+i])
		whys[p.good+1+i] = bad
		return bad != nil
	})
	if failed != nil {
		return failed
	}
	f, why, stood := fixes[n-1], whys[n], slices.Clone(fixes[:n-1])
	l := selection.Left{ID: f.ID, Kind: selection.Reboot, Code: why.Code, Why: firstLine(why.Error())}
	if !isRefusal(why) {
		l.Kind = selection.Failed
	}
	need, but, err := p.lacks(ctx, f, stood)
	if err != nil {
		return err
	}
	if but == nil && p.take(need) {
		return nil
	}
	switch {
	case but != nil:
		l.Kind, l.Code, l.Why = selection.Reboot, but.Code, "it does not compile without "+strings.Join(need, " and ")+", and with that can't be live: "+firstLine(but.Error())
	case len(need) > 0:
		l.Kind, l.By, l.Needs, l.Why = selection.Dragged, need[0], need, "it does not compile without "+strings.Join(need, " and ")
	}
	if len(p.sel.Leave(l)) == 0 {
		return code.New("TS1303", p.name(), why.Error())
	}
	// What requires it has gone as well.
	for p.good = 0; p.good < len(stood) && p.good < len(p.sel.Fixes) && p.sel.Fixes[p.good] == stood[p.good]; p.good++ {
	}
	return nil
}

// lacks finds what is left out for no fault of its own, and with which a fix
// would go, or would compile and could not be live: but says why.
func (p *packaging) lacks(ctx context.Context, f *series.Fix, with []*series.Fix) (need []string, but *code.Problem, err error) {
	var back []*series.Fix
	for _, g := range p.before(f) {
		part, _ := build.Relevant(g.Diff)
		if k := p.sel.Left[p.leftAt(g.ID)].Kind; k != selection.Reboot && k != selection.Failed && len(part.Files) > 0 {
			back = append(back, g)
		}
	}
	if len(back) == 0 {
		return nil, nil, nil
	}
	all := slices.Concat(with, back, []*series.Fix{f})
	slices.SortFunc(all, func(x, y *series.Fix) int { return cmp.Compare(p.place(x), p.place(y)) })
	t := newText(p.original)
	for _, g := range all {
		if t.apply(g) != nil {
			return nil, nil, nil
		}
	}
	_, bad, err := p.try(ctx, all)
	if err != nil || bad != nil && !isRefusal(bad) {
		return nil, nil, err
	}
	return ids(back), bad, nil
}

func (p *packaging) place(f *series.Fix) int { return slices.Index(p.series.Fixes, f) }

// leaveIdle leaves out fixes of nothing that a process runs: documentation and
// tests.
func (p *packaging) leaveIdle() {
	var out []selection.Left
	for _, f := range p.sel.Fixes {
		if part, _ := build.Relevant(f.Diff); len(part.Files) == 0 && !p.required(f.ID) {
			out = append(out, selection.Left{ID: f.ID, Kind: selection.NotHere, Why: "it changes nothing that a process runs"})
		}
	}
	p.sel.Leave(out...)
}

// required tells whether a chosen fix rests on this one.
func (p *packaging) required(id string) bool {
	return p.taken[id] || slices.ContainsFunc(p.sel.Fixes, func(f *series.Fix) bool { return slices.Contains(f.Requires, id) })
}

// unchanged finds the fixes whose files the package does not build, or builds the
// same of: a live patch does not claim to hold them.
func (p *packaging) unchanged() []selection.Left {
	unbuilt, same, changed := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, u := range p.result.Report.Unbuilt {
		unbuilt[u.Path] = true
	}
	for _, u := range p.result.Report.Units {
		same[u.Source] = true
		changed[u.Source] = changed[u.Source] || len(u.Changed)+len(u.New) > 0
	}
	var out []selection.Left
	for _, f := range p.sel.Fixes {
		part, _ := build.Relevant(f.Diff)
		works := slices.ContainsFunc(part.Files, func(d fix.FileDiff) bool {
			return !unbuilt[d.Path] && (changed[d.Path] || !same[d.Path])
		})
		if !works && !p.required(f.ID) {
			out = append(out, selection.Left{ID: f.ID, Kind: selection.NotHere, Why: "the package builds nothing else with it"})
		}
	}
	return out
}

// nothing is the result when no fix is left.
func (p *packaging) nothing() *PackageResult {
	r := &p.result
	r.Report = &build.Report{Schema: 1, Name: p.name(), Target: build.TargetRef(p.req.Target), Verdict: build.NotAffected}
	for _, l := range p.sel.Left {
		if l.Kind == selection.Reboot || l.Kind == selection.Failed {
			r.Report.Verdict = build.Reboot
		}
	}
	p.sel.Sort(p.series)
	r.Open = open(p.sel)
	return r
}

func (p *packaging) finish() (*PackageResult, error) {
	r := &p.result
	p.sel.Sort(p.series)
	p.sel.Overlaps = p.overlaps()
	r.Open = open(p.sel)
	if r.Artifact = r.Report.Artifact; r.Artifact == nil {
		return r, nil
	}
	m := &r.Artifact.Manifest
	p.describe(m, r.Open)
	return r, m.Check()
}

func (p *packaging) version() int { return next(p.req.Version, p.req.Previous) }

func (p *packaging) name() string {
	up := cmp.Or(p.series.To, p.series.Name, "fixes")
	return cmp.Or(p.req.Name, livepatch.NameFor(fmt.Sprintf("%s_v%d", up, p.version()), p.req.Target.Name, p.sel.Digest))
}
