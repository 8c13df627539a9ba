// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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
// entries attributed to them and held against the files that feeds name, the
// catalogue's corrections applied and what feeds told of the CVEs filled in. Sources and changelog are fetched into
// the store if need be. The same versions and corrections give the same
// fixes each time.
func (c *Catalogue) Update(ctx context.Context, store *kernel.Store, from, to string, rep progress.Reporter) (*series.Series, error) {
	home := filepath.Join(store.Home(), "updates", fileName(from, to))
	return c.kept(home, update.Version, from, to, func(x *update.Corrections) (*series.Series, error) {
		return split(ctx, store, home, from, to, x, rep)
	})
}

// kept returns the series of an update, which is made when it is not there, with
// what feeds told of its CVEs. from and to name what corrections are of.
func (c *Catalogue) kept(home string, version int, from, to string, split func(*update.Corrections) (*series.Series, error)) (*series.Series, error) {
	corrections, text, err := c.corrections(from, to)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%d\n%s\n%s\n%s", version, from, to, text))
	file := filepath.Join(home, "series-"+hex.EncodeToString(key[:8])+".zst")
	s, err := readSeries(file)
	if err != nil {
		if s, err = split(corrections); err != nil {
			return nil, err
		}
		if err := writeSeries(file, s); err != nil {
			return nil, err
		}
	}
	records, err := c.Records(updateCVEs(s))
	if err != nil {
		return nil, err
	}
	holdAgainst(s, records)
	return s, c.annotate(s)
}

// split takes an update apart.
func split(ctx context.Context, store *kernel.Store, home, from, to string, corrections *update.Corrections, rep progress.Reporter) (*series.Series, error) {
	entries, err := changelog(ctx, store, home, from, to, rep)
	if err != nil {
		return nil, err
	}
	old, err := store.SourceTree(ctx, from, rep)
	if err != nil {
		return nil, err
	}
	new, err := store.SourceTree(ctx, to, rep)
	if err != nil {
		return nil, err
	}
	diff, err := delta(ctx, home, old, new, rep)
	if err != nil {
		return nil, err
	}
	f, err := fix.Parse(fileName(from, to)+".diff", diff)
	if err != nil {
		return nil, err
	}
	return splitDelta(ctx, update.Delta{Old: ctxFS{ctx, os.DirFS(old)}, New: ctxFS{ctx, os.DirFS(new)}, Diff: f}, entries, rep, func(groups []*update.Group) (*series.Series, error) {
		return update.Series(from, to, groups, entries, corrections)
	})
}

// splitDelta makes groups of a difference, and a series of them.
func splitDelta(ctx context.Context, d update.Delta, entries []update.Item, rep progress.Reporter, of func([]*update.Group) (*series.Series, error)) (*series.Series, error) {
	task := rep.Start("split update", int64(len(d.Diff.Files)), progress.Files)
	groups, err := update.Split(d, entries)
	task.Done(err)
	if err != nil {
		return nil, kernel.OrInterrupted(ctx, err)
	}
	return of(groups)
}

// changelog returns the entries of an update. They are kept: the package that
// has them may be gone one day.
func changelog(ctx context.Context, store *kernel.Store, home, from, to string, rep progress.Reporter) ([]update.Item, error) {
	kept := filepath.Join(home, "entries.json")
	var entries []update.Item
	if b, err := os.ReadFile(kept); err == nil && json.Unmarshal(b, &entries) == nil {
		return entries, nil
	}
	text, err := store.Changelog(ctx, to, rep)
	if err != nil {
		return nil, err
	}
	stanzas, err := update.ParseChangelog("changelog of "+to, text)
	if err != nil {
		return nil, err
	}
	if entries, err = update.Between(stanzas, from, to); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(entries, "", " ")
	if err != nil {
		return nil, err
	}
	return entries, writeFile(kept, b)
}

// delta is the difference of two sources. Comparing them reads all of both,
// so it is kept.
func delta(ctx context.Context, home, old, new string, rep progress.Reporter) ([]byte, error) {
	kept := filepath.Join(home, "delta.diff.zst")
	if diff, err := readPacked(kept); err == nil {
		return diff, nil
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
	return diff, writePacked(kept, diff)
}

// keptSeries is a series as it is kept.
type keptSeries struct {
	Series *series.Series
	Fixes  []keptFix
}

type keptFix struct {
	Meta series.Meta
	Diff string
}

func writeSeries(path string, s *series.Series) error {
	k := keptSeries{Series: s}
	for _, f := range s.Fixes {
		k.Fixes = append(k.Fixes, keptFix{f.Meta, string(f.Diff.Raw)})
	}
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return writePacked(path, b)
}

// readSeries reads a kept series. Any error means that it is computed again.
func readSeries(path string) (*series.Series, error) {
	b, err := readPacked(path)
	if err != nil {
		return nil, err
	}
	var k keptSeries
	if err := json.Unmarshal(b, &k); err != nil {
		return nil, err
	}
	if k.Series == nil {
		return nil, errors.New("no series")
	}
	for _, x := range k.Fixes {
		d, err := fix.Parse(x.Meta.ID+".diff", []byte(x.Diff))
		if err != nil {
			return nil, err
		}
		d.ID, d.Title, d.CVEs = x.Meta.ID, x.Meta.Title, x.Meta.CVEs
		k.Series.Fixes = append(k.Series.Fixes, &series.Fix{Meta: x.Meta, Diff: d})
	}
	return k.Series, nil
}

func readPacked(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(2*fix.MaxSize), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	return dec.DecodeAll(b, nil)
}

func writePacked(path string, b []byte) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	return writeFile(path, enc.EncodeAll(b, nil))
}

// writeFile writes a file whole or not at all, and makes its directory.
func writeFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return kernel.DiskError(path, err)
	}
	return kernel.DiskError(path, renameio.WriteFile(path, b, 0o644))
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
