// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/klp"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/progress"
)

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
