// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Index makes ready, once per target, what [Reach] and [Compile] would make
// when they first need it, so that the first fix does not wait for it: the
// evaluation of all makefiles (which objects the configuration builds, and
// what they are linked into), the include graph, and a copy of the source to
// apply fixes to, and the index of words by which changed headers are followed. It takes some 30 s.
func Index(ctx context.Context, t *kernel.Target, rep progress.Reporter) error {
	tree, err := Open(ctx, t)
	if err != nil {
		return err
	}
	return tree.Index(ctx, rep)
}

// Index is the function of that name, for who goes on with the tree: it has
// read all of it then.
func (tree *Tree) Index(ctx context.Context, rep progress.Reporter) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		_, err := tree.m.index(gctx, rep)
		return err
	})
	g.Go(func() error {
		if _, err := tree.includes(gctx, rep); err != nil {
			return err
		}
		w, err := lease(gctx, tree.t)
		if err != nil {
			return err
		}
		return w.close()
	})
	if err := g.Wait(); err != nil {
		return kernel.OrInterrupted(ctx, err)
	}
	_, err := tree.index(ctx, rep)
	return err
}

// index maps clean object paths to objects, for the whole kernel.
func (m *makefiles) index(ctx context.Context, rep progress.Reporter) (_ map[string][]Object, err error) {
	m.indexing.Lock()
	defer m.indexing.Unlock()
	if objs := m.known(); objs != nil {
		return objs, nil
	}
	unlock, err := kernel.Lock(ctx, filepath.Join(m.dir, "lock"), "index", true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	file := filepath.Join(m.dir, "objects.json")
	var objs []Object
	if b, err := os.ReadFile(file); err != nil || json.Unmarshal(b, &objs) != nil {
		if objs, err = m.walk(ctx, rep); err != nil {
			return nil, err
		}
		b, err := json.Marshal(objs)
		if err != nil {
			return nil, err
		}
		if err := renameio.WriteFile(file, b, 0o644); err != nil {
			return nil, kernel.DiskError(file, err)
		}
	}
	indexed := make(map[string][]Object)
	for _, o := range objs {
		p := path.Clean(o.Path)
		indexed[p] = append(indexed[p], o)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.indexed = indexed
	return indexed, nil
}

// known is the index, if it was read already.
func (m *makefiles) known() map[string][]Object {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.indexed
}

// walk visits every directory that Kbuild descends to.
func (m *makefiles) walk(ctx context.Context, rep progress.Reporter) (objs []Object, err error) {
	task := rep.Start("evaluate makefiles", 0, progress.Steps)
	defer func() { task.Done(err) }()
	type visit struct {
		dir     string
		builtin bool
	}
	seen := map[visit]bool{}
	level := []visit{{".", true}}
	for len(level) > 0 {
		var wg sync.WaitGroup
		for _, v := range level {
			wg.Go(func() { _, _ = m.eval(ctx, v.dir); task.Add(1) }) // the error comes again below
		}
		wg.Wait()
		var next []visit
		for _, v := range level {
			d, err := m.eval(ctx, v.dir)
			if err != nil {
				return nil, err
			}
			for _, o := range d.Objects {
				if (o.Module != "" || v.builtin) && !slices.Contains(objs[max(0, len(objs)-64):], o) {
					objs = append(objs, o)
				}
			}
			// A directory of obj-y is in both lists, one of obj-m in the second only.
			for _, sub := range d.Modules {
				w := visit{sub, v.builtin && slices.Contains(d.Builtin, sub)}
				if !seen[w] {
					seen[w] = true
					next = append(next, w)
				}
			}
		}
		level = next
	}
	return objs, nil
}
