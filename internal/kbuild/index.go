// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Index evaluates all of a target's makefiles and keeps the result: which
// objects the configuration builds, and what they are linked into. It takes
// some 20 s, once; [Reach] does it by itself when it needs to, so calling it
// when a target is added only moves the wait.
func Index(ctx context.Context, t *kernel.Target, rep progress.Reporter) error {
	m, err := openMakefiles(ctx, t)
	if err != nil {
		return err
	}
	_, err = m.index(ctx, rep)
	return err
}

func openMakefiles(ctx context.Context, t *kernel.Target) (*makefiles, error) {
	key, err := targetKey(t)
	if err != nil {
		return nil, err
	}
	return newMakefiles(ctx, t, filepath.Join(t.Home(), "objects", key, ".kbuild"), runtime.NumCPU())
}

// index maps clean object paths to objects, for the whole kernel.
func (m *makefiles) index(ctx context.Context, rep progress.Reporter) (_ map[string][]Object, err error) {
	if m.indexed != nil {
		return m.indexed, nil
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
	m.indexed = make(map[string][]Object)
	for _, o := range objs {
		p := path.Clean(o.Path)
		m.indexed[p] = append(m.indexed[p], o)
	}
	return m.indexed, nil
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
