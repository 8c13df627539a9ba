// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Tree is what the makefiles and the source of a target say, read once for
// many calls: what [Reach], [Compile], [Sources] and [Originals] would read
// each time costs a second or two. Calls may use it at the same time.
type Tree struct {
	t *kernel.Target
	m *makefiles

	mu    sync.Mutex
	graph *includes
	words *words
}

// Open reads the makefiles of a target; the rest is read when it is needed.
func Open(ctx context.Context, t *kernel.Target) (*Tree, error) {
	key, err := targetKey(t)
	if err != nil {
		return nil, err
	}
	m, err := newMakefiles(ctx, t, filepath.Join(t.Home(), "objects", key, ".kbuild"), runtime.NumCPU())
	if err != nil {
		return nil, err
	}
	return &Tree{t: t, m: m}, nil
}

// of is the tree that a caller brought, or one of its own.
func (tree *Tree) of(ctx context.Context, t *kernel.Target) (*Tree, error) {
	if tree != nil && tree.t.Name == t.Name && tree.t.Build == t.Build {
		return tree, nil
	}
	return Open(ctx, t)
}

// includes is the include graph, searchable.
func (tree *Tree) includes(ctx context.Context, rep progress.Reporter) (*includes, error) {
	tree.mu.Lock()
	defer tree.mu.Unlock()
	if tree.graph != nil {
		return tree.graph, nil
	}
	g, err := includeGraph(ctx, tree.t, rep)
	if err != nil {
		return nil, err
	}
	g.index()
	tree.graph = g
	return g, nil
}
