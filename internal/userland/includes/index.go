// SPDX-License-Identifier: Apache-2.0

package includes

import (
	"compress/gzip"
	"context"
	"encoding/gob"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// Index says of each recorded compilation which files it can read.
type Index struct {
	Format int
	Files  []File
	Units  []Unit // as userland.Commands.Compiles
}

// File is a file that some compilation can read.
type File struct {
	// Path is the file's own, no link's: below the top of the source, or absolute.
	Path string
	// Names are the last parts of what it includes, found or not.
	Names []string
}

// Unit is what one compilation can read.
type Unit struct {
	Files   []int32 // in Index.Files, ascending
	Unknown bool    // it may read any file
}

// format is that of the file that holds an index.
const format = 1

// Sources are a target's, as far as this package needs them.
type Sources struct {
	Root, Build, BuildPath string // as in userland.Target
	Compiles               []userland.Command
}

// Of gives the sources of a target.
func Of(t *userland.Target) Sources {
	return Sources{t.Root, t.Build, t.BuildPath, t.Commands().Compiles}
}

// Load reads the index of sources from a file, or makes it and writes it there.
func Load(ctx context.Context, s Sources, file string) (*Index, error) {
	x, err := read(file)
	if err == nil && x.Format == format && len(x.Units) == len(s.Compiles) {
		return x, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged) {
		return nil, err
	}
	if x, err = Make(ctx, s); err != nil {
		return nil, err
	}
	return x, x.write(file)
}

// errDamaged: the file holds no index; a new one takes its place.
var errDamaged = errors.New("no index of include directives")

func read(file string) (*Index, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, errDamaged
	}
	var x Index
	if err := gob.NewDecoder(z).Decode(&x); err != nil {
		return nil, errDamaged
	}
	for _, u := range x.Units {
		for _, n := range u.Files {
			if n < 0 || int(n) >= len(x.Files) {
				return nil, errDamaged
			}
		}
	}
	return &x, nil
}

func (x *Index) write(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return kernel.DiskError(file, err)
	}
	f, err := renameio.NewPendingFile(file, renameio.WithPermissions(0o644))
	if err != nil {
		return kernel.DiskError(file, err)
	}
	defer f.Cleanup()
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := errors.Join(gob.NewEncoder(z).Encode(x), z.Close()); err != nil {
		return kernel.DiskError(file, err)
	}
	return kernel.DiskError(file, f.CloseAtomicallyReplace())
}

// Make follows the directives of all compilations.
func Make(ctx context.Context, from Sources) (*Index, error) {
	top, err := filepath.EvalSymlinks(from.Build)
	if err != nil {
		return nil, err
	}
	from.Build = top
	tr, system := newTree(from), systemDirs(from.Root)
	walkers := map[string]*walker{}
	x := &Index{Format: format, Units: make([]Unit, len(from.Compiles))}
	paths := map[string]int32{}
	number := []int32{} // in x.Files, by node
	for i, c := range from.Compiles {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s := searchOf(c, system)
		w := walkers[s.key()]
		if w == nil {
			w = tr.walker(s)
			walkers[s.key()] = w
		}
		start, err := w.start(c, s)
		if err != nil {
			return nil, code.New("TS3512", c.Source, "it can't be told what it reads").With(err)
		}
		nodes, err := w.from(start)
		if err != nil {
			return nil, code.New("TS3512", c.Source, "it can't be told what it reads").With(err)
		}
		for k := len(number); k < len(tr.list); k++ {
			number = append(number, x.add(tr.list[k], paths))
		}
		u := Unit{Unknown: s.unknown}
		for _, n := range nodes {
			u.Files = append(u.Files, number[n])
			u.Unknown = u.Unknown || tr.list[n].computed
		}
		slices.Sort(u.Files)
		u.Files = slices.Compact(u.Files)
		x.Units[i] = u
	}
	return x, nil
}

// add numbers a file; one that has several names has one number.
func (x *Index) add(n *node, paths map[string]int32) int32 {
	k, ok := paths[n.path]
	if ok {
		return k
	}
	k = int32(len(x.Files))
	paths[n.path] = k
	f := File{Path: n.path}
	for _, d := range n.directives {
		f.Names = append(f.Names, path.Base(d.name))
	}
	x.Files = append(x.Files, f)
	return k
}

// start are the files that a command names itself. A source that is gone, as
// a generator's temporary one, reads nothing that is known.
func (w *walker) start(c userland.Command, s *search) ([]int, error) {
	if !path.IsAbs(c.Source) {
		return nil, nil
	}
	dir, base := path.Split(c.Source)
	n, err := w.find(w.folder(dir), base)
	if err != nil || n < 0 {
		return nil, err
	}
	list := []int{n}
	for _, b := range s.before { // from the working directory, then as "x"
		if list, err = w.resolve(list, w.folder(c.Dir), directive{b, true}); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Readers lists the compilations that can read one of some files, by their
// paths below the top of the source, and those that can't be followed. Files
// that are new are found by their names: they may come before others.
func (x *Index) Readers(changed, created []string) []int {
	hit := make([]bool, len(x.Files))
	for i, f := range x.Files {
		hit[i] = slices.Contains(changed, f.Path) || slices.ContainsFunc(created, func(c string) bool {
			return slices.Contains(f.Names, path.Base(c))
		})
	}
	var out []int
	for i, u := range x.Units {
		if u.Unknown || slices.ContainsFunc(u.Files, func(n int32) bool { return hit[n] }) {
			out = append(out, i)
		}
	}
	return out
}
