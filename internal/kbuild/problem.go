// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// sort puts the failures into the order of the objects, which is not that in
// which compilers end.
func (e *failures) sort() {
	at := make([]int, len(e.objs))
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(a, b int) int { return strings.Compare(e.objs[a].Path, e.objs[b].Path) })
	var objs []Object
	var errs []error
	for _, i := range at {
		objs, errs = append(objs, e.objs[i]), append(errs, e.errs[i])
	}
	e.objs, e.errs = objs, errs
}

// buildProblem makes a problem of a failed build step; its text is the
// messages with the directories taken off the paths.
func buildProblem(c code.Code, where string, err error, dirs ...string) error {
	exit, ok := errors.AsType[*kernel.ExitError](err)
	if !ok {
		return err
	}
	if bytes.Contains(exit.Output, []byte("No space left on device")) {
		return code.New("TS9103", where, "").With(err)
	}
	if why := messages(exit.Output, dirs...); why != "" {
		return code.New(c, where, why) // the command is of no use beside it
	}
	return code.New(c, where, "").With(err)
}

// messages shows a compiler's output with paths as the author knows them.
func messages(out []byte, dirs ...string) string {
	text := kernel.ErrorLines(out)
	for _, d := range dirs {
		text = strings.ReplaceAll(text, d+"/", "")
	}
	return text
}

// CompileError is that objects do not compile with a fix. It unwraps to one
// problem that speaks for all.
type CompileError struct {
	Problems []*code.Problem // TS3101, one for each object, in their order
	all      error
}

func (e *CompileError) Error() string { return e.all.Error() }

func (e *CompileError) Unwrap() error { return e.all }

// explain tells why the fix does not compile. The objects that failed are
// compiled once more from what the author wrote, without #line directives, so
// that the messages have the line numbers of the author's own files.
func (c *compilation) explain(ctx context.Context, failed *failures, w *workspace) error {
	if err := w.apply(c.written); err != nil {
		return errors.Join(failed.errs[0], err)
	}
	failed.sort()
	problems := make([]error, len(failed.objs))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opt.Jobs)
	for i, o := range failed.objs {
		g.Go(func() error {
			err := failed.errs[i]
			r, rerr := c.recorded(o)
			if rerr != nil {
				return errors.Join(err, rerr)
			}
			p := c.paths(o, w)
			p.out = os.DevNull
			p.extra = []string{"-g0", "-fsyntax-only", "-fno-diagnostics-show-caret"}
			again := run(gctx, c.cwd(w), r.compiler(p))
			if _, ok := errors.AsType[*kernel.ExitError](again); ok {
				err = again
			} else if gctx.Err() != nil {
				return again
			}
			problems[i] = buildProblem("TS3101", o.Source, err, w.tree())
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return kernel.OrInterrupted(ctx, err)
	}
	e := &CompileError{}
	for _, err := range problems {
		p, ok := errors.AsType[*code.Problem](err)
		if !ok || p.Code != "TS3101" {
			return err // a full disk, say
		}
		e.Problems = append(e.Problems, p)
	}
	all := *e.Problems[0]
	if len(failed.objs) > 1 {
		var rest []string
		for _, o := range failed.objs[1:] {
			rest = append(rest, o.Path)
		}
		all.Why += fmt.Sprintf("\n%d more objects do not compile: %s", len(rest), strings.Join(rest[:min(8, len(rest))], ", "))
	}
	e.all = &all
	return e
}
