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

// explain tells why objects do not compile with the fix: each is compiled once
// more from what the author wrote, without #line directives, so that the
// messages have the line numbers of the author's own files.
func (c *compilation) explain(ctx context.Context, failed []*Pair, w *workspace) error {
	if err := w.apply(c.written); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opt.Jobs)
	for _, p := range failed {
		g.Go(func() error {
			r, err := c.recorded(p.Object)
			if err != nil {
				return err
			}
			at := c.paths(p.Object, w)
			at.out = os.DevNull
			at.extra = []string{"-g0", "-fsyntax-only", "-fno-diagnostics-show-caret"}
			err = run(ctx, c.cwd(w), r.compiler(at))
			_, again := errors.AsType[*kernel.ExitError](err)
			switch {
			case again: // as it should, with the better line numbers
			case err != nil:
				return err
			default:
				err = p.Err
			}
			p.Err = buildProblem("TS3101", p.Source, err, w.tree())
			return nil
		})
	}
	return g.Wait()
}

// firstOf is the problem of the first object, which names the others.
func firstOf(failed []*Pair) error {
	problem, ok := errors.AsType[*code.Problem](failed[0].Err)
	if !ok || len(failed) == 1 {
		return failed[0].Err
	}
	var rest []string
	for _, p := range failed[1:] {
		rest = append(rest, p.Path)
	}
	problem.Why += fmt.Sprintf("\n%d more objects do not compile: %s", len(rest), strings.Join(rest[:min(8, len(rest))], ", "))
	return problem
}
