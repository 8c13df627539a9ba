// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// originalsBatch is how many objects one call of make compiles. What a batch
// made is kept, so an interrupted run goes on where it was.
const originalsBatch = 48

// Originals makes the files of objects that no fix changes: Plain and Orig of
// each. [Compile] would make them too, when it needs them; a survey of many
// objects makes them first, in batches, so that an interruption loses little.
func Originals(ctx context.Context, t *kernel.Target, objs []Object, opt Options, rep progress.Reporter) (err error) {
	if opt.Jobs <= 0 {
		opt.Jobs = runtime.NumCPU()
	}
	c, err := newCompilation(t, nil, opt)
	if err != nil {
		return err
	}
	task := rep.Start("compile originals", int64(len(objs)), progress.Files)
	defer func() { task.Done(err) }()
	for len(objs) > 0 {
		n := min(originalsBatch, len(objs))
		if err := c.plain(ctx, objs[:n], progress.Discard); err != nil {
			return err
		}
		g, gctx := errgroup.WithContext(ctx)
		g.SetLimit(opt.Jobs)
		for _, o := range objs[:n] {
			g.Go(func() error {
				defer task.Add(1)
				there, err := c.have(gctx, o, "orig.o")
				if there || err != nil {
					return err
				}
				task.Note(o.Path)
				if _, err := c.replay(gctx, o, nil, c.file(o, "orig.o")); err != nil {
					return buildProblem("TS3102", o.Source, err, t.Source)
				}
				c.share(gctx, o, "orig.o")
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return kernel.OrInterrupted(ctx, err)
		}
		objs = objs[n:]
	}
	return nil
}
