// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"runtime"
	"sync"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

// Many applies a patch to many processes, in the order of ids as far as there
// are workers, and returns their results in that order. What goes wrong with
// one is its own. When ctx ends, those that are left are Pending.
func (e *Engine) Many(ctx context.Context, ids []proc.ID, patch Patch, opt Options) ([]Result, error) {
	files, err := prepare(patch)
	if err != nil {
		return nil, err
	}
	return e.many(ctx, ids, opt, func(p *proc.Process, opt Options) (Result, error) {
		return e.apply(ctx, p, patch.ID, files, opt)
	}), nil
}

// RevertMany takes patches out of many processes, like Many.
func (e *Engine) RevertMany(ctx context.Context, ids []proc.ID, sel Selection, opt Options) []Result {
	return e.many(ctx, ids, opt, func(p *proc.Process, opt Options) (Result, error) {
		return e.Revert(ctx, p, sel, opt)
	})
}

// many does the same to many processes, with tracers of their own.
func (e *Engine) many(ctx context.Context, ids []proc.ID, opt Options, do func(*proc.Process, Options) (Result, error)) []Result {
	workers := opt.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	tracers := &ptrace.Tracers{}
	defer tracers.Close()
	opt.tracers = tracers
	e.tidy()
	results := make([]Result, len(ids))
	next := make(chan int)
	var all sync.WaitGroup
	for range min(workers, len(ids)) {
		all.Go(func() {
			for i := range next {
				results[i] = e.one(ctx, ids[i], opt, do)
			}
		})
	}
	for i := range ids {
		next <- i
	}
	close(next)
	all.Wait()
	return results
}

func (e *Engine) one(ctx context.Context, id proc.ID, opt Options, do func(*proc.Process, Options) (Result, error)) Result {
	p, err := proc.OpenID(ctx, id)
	if err != nil {
		w := &work{e: e, result: Result{Process: id}}
		r, ctxErr := w.end(ctx, err)
		return given(r, ctxErr)
	}
	defer p.Close()
	r, err := do(p, opt)
	return given(r, err)
}

// given makes a result whole of a process whose turn did not come any more.
func given(r Result, err error) Result {
	if err != nil && r.Reason == nil {
		r.State, r.Reason = Pending, code.New("TS9642", r.Process.String(), "").With(err)
	}
	return r
}
