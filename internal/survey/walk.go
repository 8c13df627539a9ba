// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/series"
)

// walk is one survey under way.
type walk struct {
	req    Request
	rep    progress.Reporter
	kept   *verdicts
	names  *series.Names
	digest string // of the series
	kernel *builder.Kernel
	// The ways to a verdict; tests have others.
	ready func(ctx context.Context, todo []int) error
	build func(ctx context.Context, req builder.Request, rep progress.Reporter) (*builder.Report, error)

	found []*entry // by index of the fix
	fresh []bool   // found by this run
}

func newWalk(req Request, kept *verdicts, rep progress.Reporter) *walk {
	w := &walk{req: req, rep: rep, kept: kept, names: series.NewNames(req.Series.Fixes), digest: series.Digest(req.Series.Fixes), build: builder.Build}
	w.ready = w.prepare
	return w
}

// atOnce bounds the fixes that are judged at the same time: each needs a copy
// of the source to compile in.
const atOnce = 3

func (w *walk) run(ctx context.Context) error {
	todo, err := w.recall()
	if err != nil || len(todo) == 0 {
		return err
	}
	if w.req.Known {
		for i, f := range w.req.Series.Fixes {
			if w.found[i] == nil {
				w.found[i] = &entry{ID: f.ID, Verdict: &Verdict{Outcome: Unknown}}
			}
		}
		return nil
	}
	if err := w.ready(ctx, todo); err != nil {
		return err
	}
	task := w.rep.Start("judge fixes", int64(len(todo)), progress.Steps)
	c := newClock(w.req.Series, todo, min(w.req.Jobs, atOnce))
	later, err := w.pass(ctx, todo, c, task, false)
	if err == nil {
		_, err = w.pass(ctx, later, c, task, true)
	}
	task.Note(fmt.Sprintf("%d of %d known before", len(w.found)-len(todo), len(w.found)))
	task.Done(err)
	return err
}

// pass judges fixes, several at a time. The first pass leaves to the second
// what has to be joined with headers, which may take minutes each.
func (w *walk) pass(ctx context.Context, todo []int, c *clock, task progress.Task, last bool) (later []int, err error) {
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(min(w.req.Jobs, atOnce))
	for _, i := range todo {
		g.Go(func() error {
			if err := gctx.Err(); err != nil {
				return err
			}
			start := time.Now()
			judged, err := w.judge(gctx, i, last)
			if err != nil {
				return err
			}
			if !judged {
				mu.Lock()
				defer mu.Unlock()
				later = append(later, i)
				c.postpone(i)
				return nil
			}
			c.done(i, time.Since(start))
			task.Note(c.left())
			task.Add(1)
			return nil
		})
	}
	err = g.Wait()
	w.order(later)
	return later, err
}

// recall takes what earlier surveys found, and lists what is left to do: what
// is quick first, and of that what repairs a CVE, so that a survey under way
// shows most of the picture early.
func (w *walk) recall() ([]int, error) {
	fixes := w.req.Series.Fixes
	w.found, w.fresh = make([]*entry, len(fixes)), make([]bool, len(fixes))
	var todo []int
	for i, f := range fixes {
		e, err := w.kept.get(f)
		if err != nil {
			return nil, err
		}
		w.found[i] = e
		if !w.holds(f, e) {
			todo = append(todo, i)
		}
	}
	w.order(todo)
	return todo, nil
}

// order puts what is quick first, and of that what repairs a CVE.
func (w *walk) order(todo []int) {
	security := func(f *series.Fix) int { return min(len(f.CVEs), 1) }
	slices.SortFunc(todo, func(a, b int) int {
		x, y := w.req.Series.Fixes[a], w.req.Series.Fixes[b]
		return cmp.Or(cmp.Compare(effort(x), effort(y)), cmp.Compare(security(y), security(x)), cmp.Compare(a, b))
	})
}

// holds tells whether a verdict is still that of its fix.
func (w *walk) holds(f *series.Fix, e *entry) bool {
	if e == nil || e.Engine != w.req.Engine || !slices.Equal(e.Stated, f.Requires) || e.Series != "" && e.Series != w.digest {
		return false
	}
	if e.Verdict.tooMany() && w.limit() > e.Limit {
		return false
	}
	for id, content := range e.With {
		if r := w.req.Series.Fix(id); r == nil || contentOf(r) != content {
			return false
		}
	}
	return true
}

// limit is how many objects a fix may reach.
func (w *walk) limit() int {
	if w.req.MaxObjects > 0 {
		return w.req.MaxObjects
	}
	return 500
}

// effort ranks fixes by how long they take: a header may reach thousands of
// objects.
func effort(f *series.Fix) int {
	n := 0
	for _, d := range f.Diff.Files {
		switch {
		case path.Ext(d.Path) == ".c":
		case path.Ext(d.Path) != ".h":
		case path.Dir(d.Path) == "include/linux" || path.Dir(d.Path) == "include/net":
			n += 100
		default:
			n += 10
		}
	}
	return n
}

// prepare makes what all verdicts need: the index of the target, the objects
// that no fix changes, in batches, and the target's symbols and types.
func (w *walk) prepare(ctx context.Context, todo []int) error {
	t := w.req.Target
	task := w.rep.Start("read kernel", 0, progress.Steps)
	k, err := builder.NewKernel(ctx, t)
	task.Done(err)
	if err != nil {
		return err
	}
	w.kernel = k
	if err := k.Tree().Index(ctx, w.rep); err != nil {
		return err
	}
	var files []string
	for _, i := range todo {
		for _, d := range w.req.Series.Fixes[i].Diff.Files {
			if path.Ext(d.Path) == ".c" && !d.Created && !d.Deleted {
				files = append(files, d.Path)
			}
		}
	}
	objs, err := k.Tree().Sources(ctx, files, w.rep)
	if err != nil {
		return err
	}
	return kbuild.Originals(ctx, t, objs, kbuild.Options{Jobs: w.req.Jobs, Shared: w.req.Shared, Tree: k.Tree()}, w.rep)
}
