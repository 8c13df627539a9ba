// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/update"
)

// Update returns what happens between two versions of the kernel's source
// package as a series: the difference split into fixes, with the changelog's
// entries attributed to them and the catalogue's corrections applied. Sources
// and changelog are fetched into the store if need be. The same versions and
// corrections give the same series each time.
func (c *Catalogue) Update(ctx context.Context, store *kernel.Store, from, to string, rep progress.Reporter) (*series.Series, error) {
	old, err := store.SourceTree(ctx, from, rep)
	if err != nil {
		return nil, err
	}
	new, err := store.SourceTree(ctx, to, rep)
	if err != nil {
		return nil, err
	}
	home := filepath.Join(store.Home(), "updates", updateName(from, to))
	diff, err := delta(ctx, home, old, new, rep)
	if err != nil {
		return nil, err
	}
	text, err := store.Changelog(ctx, to, rep)
	if err != nil {
		return nil, err
	}
	stanzas, err := update.ParseChangelog("changelog of "+to, text)
	if err != nil {
		return nil, err
	}
	entries, err := update.Between(stanzas, from, to)
	if err != nil {
		return nil, err
	}
	f, err := fix.Parse(updateName(from, to)+".diff", diff)
	if err != nil {
		return nil, err
	}
	task := rep.Start("split update", int64(len(f.Files)), progress.Files)
	groups, err := update.Split(update.Delta{Old: ctxFS{ctx, os.DirFS(old)}, New: ctxFS{ctx, os.DirFS(new)}, Diff: f}, entries)
	task.Done(err)
	if err != nil {
		return nil, kernel.OrInterrupted(ctx, err)
	}
	return update.Series(from, to, groups, entries)
}

func updateName(from, to string) string {
	return strings.NewReplacer("/", "%2f", ":", "%3a").Replace(from + "_" + to)
}

// delta is the difference of two sources. Comparing them reads all of both,
// so it is kept.
func delta(ctx context.Context, home, old, new string, rep progress.Reporter) ([]byte, error) {
	kept := filepath.Join(home, "delta.diff.zst")
	if b, err := os.ReadFile(kept); err == nil {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(fix.MaxSize), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer dec.Close()
		if diff, err := dec.DecodeAll(b, nil); err == nil {
			return diff, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	task := rep.Start("compare sources", 0, progress.Steps)
	diff, err := fix.Derive(ctxFS{ctx, os.DirFS(old)}, ctxFS{ctx, os.DirFS(new)}, nil)
	task.Done(err)
	if err != nil {
		return nil, kernel.OrInterrupted(ctx, err)
	}
	if len(diff) == 0 {
		return nil, code.New("TS1107", filepath.Base(old)+" and "+filepath.Base(new), "no difference").WithFix("choose other versions")
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, kernel.DiskError(home, err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return diff, kernel.DiskError(kept, renameio.WriteFile(kept, enc.EncodeAll(diff, nil), 0o644))
}

// ctxFS opens nothing any more once its context has ended.
type ctxFS struct {
	ctx  context.Context
	root fs.FS
}

func (f ctxFS) Open(name string) (fs.File, error) {
	if err := f.ctx.Err(); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f.root.Open(name)
}
