// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// split makes the missing Orig and Patched objects.
func (c *compilation) split(ctx context.Context, pairs []Pair, rep progress.Reporter) (err error) {
	var orig, patched []*Pair
	first := make(map[string]*Pair) // of each path
	for i := range pairs {
		p := &pairs[i]
		if first[p.Path] != nil {
			continue
		}
		first[p.Path] = p
		if there, err := c.have(ctx, p.Object, filepath.Base(p.Orig)); err != nil {
			return err
		} else if !there {
			orig = append(orig, p)
		}
		name, err := c.lookup(ctx, p.Object, objectEntry)
		switch {
		case err != nil:
			return err
		case name == unchanged:
			p.Patched = p.Orig
		case name != "":
			p.Patched = c.file(p.Object, name)
		default:
			patched = append(patched, p)
		}
	}
	defer func() {
		for i := range pairs {
			p := first[pairs[i].Path]
			pairs[i].Patched, pairs[i].Err = p.Patched, p.Err
		}
	}()
	if len(orig)+len(patched) == 0 {
		return nil
	}
	task := rep.Start("compile pairs", int64(len(orig)+len(patched)), progress.Files)
	defer func() { task.Done(err) }()
	var w *workspace
	if len(patched) > 0 {
		if w, err = lease(ctx, c.t); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close()) }()
		if err := w.apply(c.changes); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opt.Jobs)
	for _, p := range orig {
		g.Go(func() error {
			task.Note(p.Path)
			defer task.Add(1)
			_, err := c.replay(gctx, p.Object, nil, p.Orig)
			if err == nil {
				c.share(gctx, p.Object, filepath.Base(p.Orig))
			}
			return buildProblem("TS3102", p.Source, err, c.t.Source)
		})
	}
	for _, p := range patched {
		g.Go(func() (err error) {
			task.Note(p.Path)
			defer task.Add(1)
			p.Patched, err = c.patch(gctx, p.Object, w)
			if _, ok := errors.AsType[*kernel.ExitError](err); ok {
				p.Err = err
				return nil // the others may fail in more telling ways
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return kernel.OrInterrupted(ctx, err)
	}
	failed := slices.DeleteFunc(patched, func(p *Pair) bool { return p.Err == nil })
	if len(failed) == 0 {
		return nil
	}
	if err := c.explain(ctx, failed, w); err != nil {
		return err
	}
	if c.opt.KeepGoing {
		return nil
	}
	return firstOf(failed)
}

// patch compiles an object with the changes and keeps it under what its
// compiler read.
func (c *compilation) patch(ctx context.Context, o Object, w *workspace) (file string, err error) {
	tmp, err := os.MkdirTemp(c.file(o, ""), ".tmp-*")
	if err != nil {
		return "", kernel.DiskError(c.dir, err)
	}
	defer os.RemoveAll(tmp)
	made := filepath.Join(tmp, "patched.o")
	reads, err := c.replay(ctx, o, w, made)
	if err != nil {
		return "", err
	}
	name, err := c.keep(o, objectEntry, reads, func(name string) error { return os.Rename(made, c.file(o, name)) })
	if err != nil {
		return "", err
	}
	c.share(ctx, o, name.ways, name.entry)
	return c.file(o, name.entry), nil
}

// entryKind is what is kept under contents.
type entryKind struct{ ways, prefix, suffix string }

var (
	objectEntry = entryKind{"ways-", "patched-", ".o"}
	answerEntry = entryKind{"iways-", "same-", ""}
)

// unchanged is what lookup returns for an object that reads no changed file.
const unchanged = "unchanged"

// lookup finds what was made of an object for the same contents of what its
// compiler reads: the name of its file, or "" if it has to be made.
func (c *compilation) lookup(ctx context.Context, o Object, kind entryKind) (name string, err error) {
	reads, err := c.originalReads(o)
	if err != nil {
		return "", err
	}
	first := c.contents.first(reads)
	if first == "" {
		return unchanged, nil
	}
	list := kind.ways + first
	if there, err := c.have(ctx, o, list); err != nil || !there {
		return "", err
	}
	for _, more := range c.ways(o, list) {
		name := kind.prefix + c.contents.second(first, more) + kind.suffix
		if there, err := c.have(ctx, o, name); err != nil || there {
			used(c.file(o, list))
			used(c.file(o, name))
			return name, err
		}
	}
	return "", nil
}

// kept names the two files that keep makes.
type kept struct{ ways, entry string }

// keep has an entry written, and then the way to it.
func (c *compilation) keep(o Object, kind entryKind, reads []string, write func(name string) error) (kept, error) {
	base, err := c.originalReads(o)
	if err != nil {
		return kept{}, err
	}
	first := c.contents.first(base)
	more := beside(base, reads)
	k := kept{kind.ways + first, kind.prefix + c.contents.second(first, more) + kind.suffix}
	if err := write(k.entry); err != nil {
		return k, kernel.DiskError(c.dir, err)
	}
	// Two processes that find two ways at once lose one: it is found again.
	list, added := c.ways(o, k.ways).with(more)
	if !added {
		return k, nil
	}
	b, err := json.Marshal(list)
	if err != nil {
		return k, err
	}
	return k, kernel.DiskError(c.dir, renameio.WriteFile(c.file(o, k.ways), b, 0o644))
}

// ways reads the list of a key. One that is damaged is as good as none.
func (c *compilation) ways(o Object, name string) ways {
	b, err := os.ReadFile(c.file(o, name))
	if err != nil {
		return nil
	}
	w, err := parseWays(b)
	if err != nil {
		return nil
	}
	return w
}

// originalReads lists what the compiler of the original object reads, its
// source first of all.
func (c *compilation) originalReads(o Object) ([]string, error) {
	b, err := c.readCommand(o)
	if err == nil {
		var reads []string
		if reads, err = c.parseCommand(o, b); err == nil {
			return reads, nil
		}
	}
	return nil, code.New("TS3108", o.Path, "its list of files is not known").With(err)
}

// readCommand reads what kbuild recorded of an object, or of its preprocessed
// source.
func (c *compilation) readCommand(o Object) ([]byte, error) {
	b, err := os.ReadFile(c.file(o, "cmd"))
	if err != nil {
		b, err = os.ReadFile(c.file(o, "icmd"))
	}
	return b, err
}

func (c *compilation) parseCommand(o Object, b []byte) ([]string, error) {
	reads, err := parseReads(b, c.t.Source)
	if err == nil && !slices.Contains(reads, o.Source) {
		err = errors.New("its source is not among the files that were read")
	}
	return reads, err
}
