// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/update"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// respell lays the files of a newer source out as those of the older one are,
// and counts those in which nothing else had changed. A source that was
// formatted anew as a whole would hide what else was changed in it.
func respell(ctx context.Context, old, new string) (same int, err error) {
	from, to := os.DirFS(old), os.DirFS(new)
	var equal atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	err = fs.WalkDir(to, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !update.Spelled(name) || !build.Matters(name) {
			return err
		}
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			was, err := fs.ReadFile(from, name)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			is, err := fs.ReadFile(to, name)
			if err != nil || bytes.Equal(was, is) {
				return err
			}
			text := update.Respell(name, was, is)
			if bytes.Equal(text, is) {
				return nil
			}
			if bytes.Equal(text, was) {
				equal.Add(1)
			}
			return kernel.DiskError(name, os.WriteFile(filepath.Join(new, filepath.FromSlash(name)), text, 0o644))
		})
		return nil
	})
	err = errors.Join(err, g.Wait())
	return int(equal.Load()), kernel.OrInterrupted(ctx, err)
}

// layers are the texts of a file from the first patch that changes it to the
// last, as the source has them.
type layers struct {
	before []int // the patches, by number
	texts  [][]byte
}

// layersOf reads, before patches are taken off a source, what each made of its
// files: quilt keeps each file as the patch found it.
func layersOf(tree string, patches []update.QuiltPatch) (map[string]*layers, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	out := make(map[string]*layers)
	for i, p := range patches {
		d, err := fix.Parse(p.Name, p.Text)
		if err != nil {
			return nil, err
		}
		part, _ := build.Relevant(d)
		for _, f := range part.Files {
			if f.OldPath != f.Path {
				return nil, code.New("TS1214", p.Name, "it renames "+f.OldPath)
			}
			b, err := root.ReadFile(".pc/" + p.Name + "/" + f.Path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, code.New("TS3535", p.Name, "quilt keeps nothing of what was before it")
			}
			if err != nil {
				return nil, err
			}
			l := out[f.Path]
			if l == nil {
				l = &layers{}
				out[f.Path] = l
			}
			l.before, l.texts = append(l.before, i), append(l.texts, there(b))
		}
	}
	for name, l := range out {
		b, err := root.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		l.texts = append(l.texts, there(b))
	}
	return out, nil
}

// there is nil for the empty file that quilt keeps of one that is not there.
func there(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// relay makes the patches again as they lie on a source that was respelled. What
// they do to packaging, tests and documentation is left out, and with it those
// that do nothing else.
func relay(base string, patches []update.QuiltPatch, files map[string]*layers) ([]update.QuiltPatch, error) {
	root, err := os.OpenRoot(base)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	diffs := make([]map[string][]byte, len(patches))
	for name, l := range files {
		now, err := root.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		now = there(now)
		for k, i := range l.before {
			next := l.texts[k+1]
			if !bytes.Equal(now, l.texts[k]) {
				next = update.Respell(name, now, next)
			}
			if diffs[i] == nil {
				diffs[i] = make(map[string][]byte)
			}
			diffs[i][name], now = fix.Unified(name, now, next), next
		}
	}
	var out []update.QuiltPatch
	for i, p := range patches {
		d, err := fix.Parse(p.Name, p.Text)
		if err != nil {
			return nil, err
		}
		text := []byte(d.Description)
		if len(text) > 0 && text[len(text)-1] != '\n' {
			text = append(text, '\n')
		}
		some := false
		for _, f := range d.Files {
			if b := diffs[i][f.Path]; len(b) > 0 {
				text, some = append(text, b...), true
			}
		}
		if some {
			out = append(out, update.QuiltPatch{Name: p.Name, Text: text})
		}
	}
	return out, nil
}
