// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/series"
)

// most bounds how many fixes are taken together for the sake of one.
const most = 64

// judge finds the verdict of one fix and keeps it. It reports false when that
// takes headers, which are for later unless this is the last pass.
func (w *walk) judge(ctx context.Context, i int, last bool) (bool, error) {
	f := w.req.Series.Fixes[i]
	start := time.Now()
	e, err := w.assess(ctx, f, last)
	if err != nil || e == nil {
		return false, err
	}
	e.Verdict.Milli = time.Since(start).Milliseconds()
	if old := w.found[i]; old != nil {
		e.Before = old.Before
		if old.Engine != e.Engine && old.Verdict.Outcome != e.Verdict.Outcome {
			e.Before = old.Verdict.Outcome
		}
	}
	w.found[i], w.fresh[i] = e, true
	if e.Verdict.passing() {
		return true, nil
	}
	return true, w.kept.put(f, e)
}

// assess builds a fix with what the series says that it requires, and joins it
// with what the compiler says is missing, until it compiles or nothing is
// found that could help. It returns nil when what it takes has to wait for the
// last pass.
func (w *walk) assess(ctx context.Context, f *series.Fix, last bool) (*entry, error) {
	e := &entry{ID: f.ID, Engine: w.req.Engine, Stated: slices.Clone(f.Requires), Limit: w.limit()}
	joined := []join{{f, ""}}
	var fixes []*series.Fix
	for {
		fixes, e.Verdict = w.together(joined), nil
		if !last && slices.ContainsFunc(fixes, func(x *series.Fix) bool { return effort(x) > 0 }) {
			return nil, nil
		}
		r, err := w.try(ctx, fixes)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil && len(r.Failed) == 0 {
			if joined, r, err = w.needed(ctx, joined, r); err != nil {
				return nil, err
			}
			fixes, e.Verdict = w.together(joined), fromReport(r)
			break
		}
		before := len(fixes)
		if before < most {
			for _, p := range problems(r, err) {
				if more, name := w.lacking(p, w.together(joined)); more != nil {
					joined = append(joined, join{more, name})
				}
			}
		}
		if strings.HasPrefix(string(code.Of(err)), "TS91") { // of this machine: a full disk, a program that is missing
			return nil, err
		}
		if len(w.together(joined)) == before {
			e.Verdict = unanswered(r, err)
			e.Series = w.digest
			break
		}
	}
	for _, x := range fixes[1:] {
		e.Verdict.With = append(e.Verdict.With, Requirement{x.ID, w.nameOf(x, joined)})
		if e.With == nil {
			e.With = map[string]string{}
		}
		e.With[x.ID] = contentOf(x)
	}
	return e, nil
}

// join is a fix that is taken because a name was missed; the first one is the
// fix that is judged.
type join struct {
	fix  *series.Fix
	name string
}

// together are fixes with all that the series says they require.
func (w *walk) together(joined []join) []*series.Fix {
	var out []*series.Fix
	for _, j := range joined {
		for _, x := range w.closure(j.fix) {
			if !slices.Contains(out, x) {
				out = append(out, x)
			}
		}
	}
	return out
}

// nameOf is the name that a fix was first taken for.
func (w *walk) nameOf(f *series.Fix, joined []join) string {
	for _, j := range joined {
		if slices.Contains(w.closure(j.fix), f) {
			return j.name
		}
	}
	return ""
}

// mostTried bounds how many fixes are left out again to see whether they were
// needed.
const mostTried = 12

// needed leaves out, one after the other, what was joined and is not needed:
// what a compiler misses is looked for by names, and a name has more than one
// fix. It returns what is left, and what a build of that says.
func (w *walk) needed(ctx context.Context, joined []join, r *builder.Report) ([]join, *builder.Report, error) {
	if len(joined) <= 2 || len(joined) > mostTried+1 {
		return joined, r, nil
	}
	for i := len(joined) - 1; i > 0; i-- {
		less := slices.Delete(slices.Clone(joined), i, i+1)
		if len(w.together(less)) == len(w.together(joined)) {
			joined = less
			continue
		}
		without, err := w.try(ctx, w.together(less))
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err == nil && len(without.Failed) == 0 {
			joined, r = less, without
		}
	}
	return joined, r, nil
}

// closure is a fix and all that the series says it requires.
func (w *walk) closure(f *series.Fix) []*series.Fix {
	out := []*series.Fix{f}
	for i := 0; i < len(out); i++ {
		for _, id := range out[i].Requires {
			if r := w.req.Series.Fix(id); r != nil && !slices.Contains(out, r) {
				out = append(out, r)
			}
		}
	}
	return out
}

// try builds fixes up to their verdict.
func (w *walk) try(ctx context.Context, fixes []*series.Fix) (r *builder.Report, err error) {
	ordered := slices.Clone(fixes)
	place := func(f *series.Fix) int { return slices.Index(w.req.Series.Fixes, f) }
	slices.SortFunc(ordered, func(a, b *series.Fix) int { return place(a) - place(b) })
	req := builder.Request{
		Target: w.req.Target, Kernel: w.kernel, Name: "tsugi_survey", Assess: true, KeepGoing: true, Jobs: 1,
		MaxObjects: w.limit(), Shared: w.req.Shared,
	}
	for _, f := range ordered {
		d := *f.Diff
		d.ID = f.ID
		req.Fixes = append(req.Fixes, &d)
	}
	err = builder.Guard(fixes[0].ID, func() (err error) {
		r, err = w.build(ctx, req, progress.Discard)
		return err
	})
	return r, err
}

// problems are why there is no verdict.
func problems(r *builder.Report, err error) []*code.Problem {
	if p, ok := errors.AsType[*code.Problem](err); ok {
		return []*code.Problem{p}
	}
	var out []*code.Problem
	if r != nil {
		for _, x := range r.Failed {
			out = append(out, x.Problem)
		}
	}
	return out
}

// lacking finds the fix that brings what others were found to lack, and the
// name of what that is.
func (w *walk) lacking(p *code.Problem, fixes []*series.Fix) (*series.Fix, string) {
	if p.Code != "TS3101" {
		return nil, ""
	}
	skip := series.Among(fixes)
	for _, m := range kbuild.Missing(p.Why) {
		if m.Name != "" && !strings.Contains(m.File, "/") {
			m.File = p.Where
		}
		if f, _ := w.names.Brings(series.Missed{Name: m.Name, In: m.In, File: m.File}, skip); f != nil {
			return f, cmp.Or(m.Name, m.File)
		}
	}
	for line := range strings.Lines(p.Why) {
		if !strings.Contains(line, " error: ") || !strings.Contains(line, "incompatible pointer type") {
			continue
		}
		if f := w.names.Typed(line, p.Where, skip); f != nil {
			return f, "a type of " + p.Where
		}
	}
	// No message tells a name: the file that fails has to change with the fix.
	if f, _ := w.names.Brings(series.Missed{File: p.Where}, skip); f != nil {
		return f, p.Where
	}
	return nil, ""
}
