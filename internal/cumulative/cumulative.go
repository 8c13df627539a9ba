// SPDX-License-Identifier: Apache-2.0

// Package cumulative builds one live patch of every fix that a policy chooses
// from a series. What turns out not to go with the others is left out with its
// reason, and the rest is built again, until a live patch stands. The same
// series, policy and target end in the same one, whether or not a survey told
// before what can't be live (again.go).
//
// A live patch holds everything so far and replaces whatever is loaded, so
// that nobody needs the ones in between.
package cumulative

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// Request says what to build.
type Request struct {
	Target *kernel.Target
	// Kernel, if not nil, is what builder.NewKernel made of Target.
	Kernel *builder.Kernel
	Series *series.Series
	Policy selection.Policy
	// Verdicts is what is known of fixes alone, by id; nil when nothing is. It
	// saves the time to find out. What it is not sure of is tried all the same.
	// A fix that is known to change nothing is not claimed; where nothing is
	// known, one that changes a header which others of the live patch read may
	// be. The code is the same.
	Verdicts map[string]selection.Fact
	// Previous, if not nil, is the live patch that this one comes after.
	Previous *livepatch.Manifest
	Version  int    // 0: one more than Previous
	Name     string // of the live patch and its module; "" makes one
	Now      time.Time
	Builder  string   // program and version, for the manifest
	Accept   []string // refusals to live with, as builder.Request has them
	Jobs     int
	Shared   kbuild.Cache
	Sign     func(ko []byte) ([]byte, error)
	// Replacements also makes the fixed modules for machines that have not
	// loaded them.
	Replacements bool
}

// Result is what came of it.
type Result struct {
	// Report is that of the last build. Its verdict is not-affected when no
	// chosen fix changes what runs on the target, reboot when none can be live.
	Report    *builder.Report
	Selection *selection.Selection
	// Open are the fixes with a CVE or an advisory that the live patch does not
	// hold and the target needs.
	Open []livepatch.OpenFix
	// Unreplaced are fixes that fixed modules can't serve either, with why.
	Unreplaced []Unreplaced
	// Rounds is how many builds it took.
	Rounds   int
	Artifact *livepatch.Patch // nil unless the verdict is live
}

// Unreplaced is a fix that no fixed module serves.
type Unreplaced struct {
	ID      string        `json:"id"`
	Modules []string      `json:"modules"`
	Problem *code.Problem `json:"problem"`
}

// maxObjects is more than a kernel has: an update has no bound of its own.
const maxObjects = 1 << 20

// Build chooses, builds, and leaves out what does not go, until it is done.
func Build(ctx context.Context, req Request, rep progress.Reporter) (*Result, error) {
	if err := req.Policy.Check(); err != nil {
		return nil, err
	}
	return choose(req, rep).run(ctx)
}

func (c *construction) run(ctx context.Context) (*Result, error) {
	for {
		if err := c.settle(); err != nil {
			return nil, err
		}
		if len(c.result.Selection.Fixes) == 0 {
			if c.again() {
				continue
			}
			return c.nothing()
		}
		done, err := c.round(ctx)
		if err != nil {
			return nil, err
		}
		if done && !c.prune() && !c.again() {
			return c.finish(ctx)
		}
	}
}

type construction struct {
	ground
	req    Request
	rep    progress.Reporter
	kernel *builder.Kernel
	build  func(context.Context, builder.Request, progress.Reporter) (*builder.Report, error)
	text   *text         // with the fixes of the selection
	names  *series.Names // of the series, once one is asked for
	spares spares
	second second
	result Result
}

// choose begins with what the policy wants.
func choose(req Request, rep progress.Reporter) *construction {
	c := &construction{req: req, rep: rep, kernel: req.Kernel, build: builder.Build, spares: newSpares(), second: newSecond()}
	c.result.Selection = selection.Choose(req.Series, req.Policy, req.Verdicts, req.Now)
	c.ground = ground{req.Series, c.result.Selection, ofKernel(req.Target)}
	c.kin()
	c.doubtVerdicts()
	return c
}

// round builds what is selected now. It reports whether that is the end; if
// not, it has left out at least one fix.
func (c *construction) round(ctx context.Context) (bool, error) {
	if c.kernel == nil {
		var err error
		if c.kernel, err = builder.NewKernel(ctx, c.req.Target); err != nil {
			return false, err
		}
	}
	sel := c.result.Selection
	if c.stands() {
		return true, nil
	}
	c.result.Rounds++
	req := builder.Request{
		Target: c.req.Target, Kernel: c.kernel, Name: c.name(), Version: c.version(), Builder: c.req.Builder,
		Accept: c.req.Accept, Jobs: c.req.Jobs, MaxObjects: maxObjects, Shared: c.req.Shared, Sign: c.req.Sign, KeepGoing: true,
	}
	if c.req.Previous != nil {
		req.Members = c.req.Previous.Members
	}
	req.Fixes = named(sel.Fixes)
	report, err := c.build(ctx, req, c.rep)
	if err != nil {
		if ctx.Err() != nil || len(c.leave(c.blameError(err)...)) == 0 && !c.giveUp(err) {
			return false, err
		}
		return false, nil
	}
	c.result.Report = report
	if report.Verdict == builder.Live || report.Verdict == builder.NotAffected {
		return len(c.leave(c.idle()...)) == 0, nil
	}
	var out []selection.Left
	for _, r := range report.Failed {
		if r.Code == "TS3101" {
			out = append(out, c.blameCompile(r.Problem)...)
		} else {
			out = append(out, c.blameRefusal(r)...)
		}
	}
	for _, r := range report.Refusals {
		out = append(out, c.blameRefusal(r)...)
	}
	came := c.take()
	if len(c.leave(out...))+came == 0 {
		p := code.New("TS1303", report.Name, first(report))
		if !c.giveUp(p) {
			return false, p
		}
	}
	return false, nil
}

// named are the diffs of fixes, with what is known of them.
func named(fixes []*series.Fix) []*fix.Fix {
	out := make([]*fix.Fix, len(fixes))
	for i, f := range fixes {
		d := *f.Diff
		d.ID, d.Title, d.CVEs, d.Origin = f.ID, cmp.Or(f.Title, d.Title), f.CVEs, cmp.Or(f.Origin, d.Origin)
		out[i] = &d
	}
	return out
}

// idle finds the fixes that change nothing that runs on the target: it does
// not build their files, or builds the same of them. A live patch does not
// claim to hold them, unless one that it holds needs them.
func (c *construction) idle() []selection.Left {
	unbuilt, changed, same := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, u := range c.result.Report.Unbuilt {
		unbuilt[u.Path] = true
	}
	for _, o := range c.result.Report.Objects { // one source may make several
		source := strings.TrimSuffix(o.Path, ".o") + ".c"
		same[source] = true
		if o.Diff != nil && (!o.Diff.Same() || len(o.Diff.New)+len(o.Diff.Data) > 0) {
			changed[source] = true
		}
	}
	required := map[string]bool{}
	for _, f := range c.result.Selection.Fixes {
		for _, id := range f.Requires {
			required[id] = true
		}
	}
	var out []selection.Left
	for _, f := range c.result.Selection.Fixes {
		if required[f.ID] || c.needed(f.ID) {
			continue
		}
		works := slices.ContainsFunc(f.Diff.Files, func(d fix.FileDiff) bool { return !unbuilt[d.Path] && (changed[d.Path] || !same[d.Path]) })
		if !works {
			out = append(out, selection.Left{ID: f.ID, Kind: selection.NotHere, Why: "the target builds nothing else with it"})
		}
	}
	return out
}

// first is the first thing that a build had against the fixes.
func first(r *builder.Report) string {
	for _, p := range append(r.Failed, r.Refusals...) {
		return p.Error()
	}
	return ""
}

// settle takes back what fixes need to apply, and leaves out what does not
// apply to the text without what is left out for good.
func (c *construction) settle() error {
	sel := c.result.Selection
	for {
		c.text = newText(c.original)
		var out []selection.Left
		for _, f := range sel.Fixes {
			err := c.text.apply(f)
			switch {
			case err == nil:
			case !textual(err) && !isRefusal(err):
				return err
			default:
				if need := c.below(f); len(need) > 0 {
					c.ask(f.ID, need...)
				} else {
					out = append(out, c.misfit(f, err))
				}
			}
		}
		if c.take() == 0 && len(c.leave(out...)) == 0 {
			return nil
		}
	}
}

// nothing is the result when no fix is left.
func (c *construction) nothing() (*Result, error) {
	if len(c.req.Series.Fixes) == 0 {
		return nil, code.New("TS1107", c.req.Series.Name, "the series holds no fix")
	}
	verdict := builder.NotAffected
	for _, l := range c.result.Selection.Left {
		if l.Kind == selection.Reboot || l.Kind == selection.Failed {
			verdict = builder.Reboot
		}
	}
	if c.result.Report == nil {
		c.result.Report = &builder.Report{Schema: 1, Target: builder.TargetRef(c.req.Target)}
	}
	c.result.Report.Verdict, c.result.Report.Name = verdict, c.name()
	c.result.Open = open(c.result.Selection)
	return &c.result, nil
}

// finish fills in what only this package knows of the live patch.
func (c *construction) finish(ctx context.Context) (*Result, error) {
	r := &c.result
	sel := r.Selection
	sel.Sort(c.req.Series)
	sel.Overlaps = c.overlaps()
	if c.req.Replacements && r.Report.Artifact != nil {
		if err := c.replace(ctx); err != nil {
			return nil, err
		}
	}
	r.Open = open(sel)
	if r.Report.Artifact == nil {
		return r, nil
	}
	m := &r.Report.Artifact.Manifest
	c.describe(m, r.Open)
	if c.req.Previous != nil {
		if why := m.Supersedes(c.req.Previous); why != "" {
			p := code.New("TS1304", m.Name, why)
			r.Report.Risks = append(r.Report.Risks, builder.Refusal{Problem: p})
			m.Risks = append(m.Risks, livepatch.Risk{Code: p.Code, What: p.What, Where: p.Where, Why: p.Why})
		}
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	r.Artifact = r.Report.Artifact
	return r, nil
}

// describe says in a manifest what was chosen from what.
func (c *ground) describe(m *livepatch.Manifest, open []livepatch.OpenFix) {
	m.Selection = &livepatch.Selection{Update: c.series.To, Digest: c.sel.Digest}
	m.Open = open
	for i := range m.Fixes {
		f := c.series.Fix(m.Fixes[i].ID)
		m.Fixes[i].Advisories, m.Fixes[i].Severity, m.Fixes[i].Exploited = f.Advisories, string(f.Severity), f.Exploited
		m.Fixes[i].Possible = f.PossibleCVEs()
	}
}

func (c *construction) version() int { return next(c.req.Version, c.req.Previous) }

// next is the version that was asked for, or the one after another live patch's.
func next(version int, previous *livepatch.Manifest) int {
	if version == 0 && previous != nil {
		return previous.Version + 1
	}
	return max(version, 1)
}

// name is the live patch's: what it goes up to, its version, and a digest of
// target and fixes, so that two that differ never share a name on a machine.
func (c *construction) name() string {
	if c.req.Name != "" {
		return c.req.Name
	}
	up := cmp.Or(c.req.Series.To, c.req.Series.Name, "fixes")
	return livepatch.NameFor(fmt.Sprintf("%s_v%d", up, c.version()), c.req.Target.BuildID, c.result.Selection.Digest)
}

// open lists what stays unrepaired on the target, ordered by id. It follows
// from the chosen fixes and what can't be live alone, never from whose policy
// it was: equal selections make equal live patches.
func open(sel *selection.Selection) []livepatch.OpenFix {
	by := map[string]selection.Left{}
	for _, l := range sel.Left {
		by[l.ID] = l
	}
	var out []livepatch.OpenFix
	for _, l := range sel.Left {
		f := l.Fix
		if l.Kind == selection.NotHere || len(f.CVEs) == 0 && len(f.Advisories) == 0 {
			continue
		}
		o := livepatch.OpenFix{
			ID: f.ID, Title: f.Title, CVEs: f.CVEs, Possible: f.PossibleCVEs(), Severity: string(f.Severity), Exploited: f.Exploited, Kind: livepatch.OpenExcluded,
		}
		if root := l.Root(by); root.Kind == selection.Reboot || root.Kind == selection.Failed {
			o.Kind, o.Code, o.Why = livepatch.OpenReboot, root.Code, l.Why
		}
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b livepatch.OpenFix) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func isRefusal(err error) bool {
	e, ok := code.Lookup(code.Of(err))
	return ok && e.Kind == code.KindRefusal
}
