// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// incoming holds what is being written. No blob can have this name.
const incoming = ".incoming"

// Folder keeps blobs as files. Links inside it lead nowhere else (os.Root).
type Folder struct {
	root *os.Root
	// durable are the directories that this process knows to be on disk.
	durable sync.Map
}

// OpenFolder opens a directory and makes it when it is missing. What a killed
// server was writing more than a day ago is removed.
func OpenFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, folderProblem(dir, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, folderProblem(dir, err)
	}
	f := &Folder{root: root}
	old, err := fs.ReadDir(root.FS(), incoming)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(folderProblem(dir, err), root.Close())
	}
	for _, e := range old {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			// Litter only: that it cannot be removed is no reason not to serve.
			_ = root.Remove(incoming + "/" + e.Name())
		}
	}
	return f, nil
}

// Close gives back the directory. Blobs that are open stay readable.
func (f *Folder) Close() error { return f.root.Close() }

// Put stores a blob: see Store.
func (f *Folder) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if err := f.makeDir(incoming); err != nil {
		return folderProblem(name, err)
	}
	tmp := incoming + "/" + rand.Text()
	err := f.write(tmp, contextReader{ctx, sized(r, name, size)})
	if err == nil {
		err = f.place(tmp, name)
	}
	if err != nil {
		if gone := f.root.Remove(tmp); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return folderProblem(name, err)
	}
	return nil
}

func (f *Folder) write(tmp string, r io.Reader) error {
	file, err := f.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, r)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// place gives a file that is on disk its name, durably.
func (f *Folder) place(tmp, name string) error {
	dir := path.Dir(name)
	if err := f.makeDir(dir); err != nil {
		return err
	}
	if err := f.root.Rename(tmp, name); err != nil {
		return err
	}
	return f.sync(dir)
}

// makeDir makes a directory and those above it, and syncs them all once: one
// that is there may have been made by a process that lost power before it was
// durable.
func (f *Folder) makeDir(dir string) error {
	if _, known := f.durable.Load(dir); known {
		return nil
	}
	if err := f.root.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for d := dir; ; d = path.Dir(d) {
		if err := f.sync(d); err != nil {
			return err
		}
		if d == "." {
			break
		}
	}
	f.durable.Store(dir, true)
	return nil
}

func (f *Folder) sync(dir string) error {
	d, err := f.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Open opens a blob: see Store.
func (f *Folder) Open(_ context.Context, name string) (io.ReadSeekCloser, Info, error) {
	if err := CheckName(name); err != nil {
		return nil, Info{}, err
	}
	file, err := f.root.Open(name)
	if err != nil {
		return nil, Info{}, folderProblem(name, err)
	}
	s, err := file.Stat()
	if err == nil && !s.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", name, ErrNotFound) // a directory of blobs
	}
	if err != nil {
		return nil, Info{}, errors.Join(folderProblem(name, err), file.Close())
	}
	return file, Info{Name: name, Size: s.Size(), Modified: s.ModTime()}, nil
}

// Stat describes a blob: see Store.
func (f *Folder) Stat(_ context.Context, name string) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	s, err := f.root.Stat(name)
	if err == nil && !s.Mode().IsRegular() {
		err = ErrNotFound
	}
	if err != nil {
		return Info{}, folderProblem(name, err)
	}
	return Info{Name: name, Size: s.Size(), Modified: s.ModTime()}, nil
}

// Delete removes a blob: see Store.
func (f *Folder) Delete(_ context.Context, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	s, err := f.root.Lstat(name)
	if err == nil && !s.IsDir() {
		err = f.root.Remove(name)
	}
	if err = folderProblem(name, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// List gives blobs: see Store.
func (f *Folder) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if !startsNames(prefix) {
			return
		}
		// Only the directory that prefix leads into can hold any.
		dir := "."
		if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
			dir = prefix[:i]
		}
		f.walk(ctx, dir, prefix, yield)
	}
}

func (f *Folder) walk(ctx context.Context, dir, prefix string, yield func(Info, error) bool) bool {
	entries, err := fs.ReadDir(f.root.FS(), dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return true
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		yield(Info{}, folderProblem(dir, err))
		return false
	}
	// Names below a directory begin with its name and a slash: so ordered,
	// the walk gives whole names in order.
	key := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(key(a), key(b)) })
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			below := name + "/"
			if (strings.HasPrefix(below, prefix) || strings.HasPrefix(prefix, below)) && CheckName(name) == nil && !f.walk(ctx, name, prefix, yield) {
				return false
			}
			continue
		}
		if !strings.HasPrefix(name, prefix) || CheckName(name) != nil {
			continue
		}
		info, err := f.Stat(ctx, name)
		if errors.Is(err, ErrNotFound) {
			continue // gone meanwhile
		}
		if !yield(info, err) || err != nil {
			return false
		}
	}
	return true
}

// contextReader ends a copy when the context ends.
type contextReader struct {
	ctx context.Context //nolint:containedctx // lives as long as one call of Put
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// folderProblem says what an error of the file system means.
func folderProblem(where string, err error) error {
	var p *code.Problem
	switch {
	case err == nil || errors.As(err, &p) || errors.Is(err, ErrNotFound):
		return err
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w", where, ErrNotFound)
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return code.New("TS7414", where, "").With(err)
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS):
		return code.New("TS7412", where, "it may not be used").With(err)
	case errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR) || errors.Is(err, fs.ErrExist):
		return code.New("TS7412", where, "a directory and a file would have one name").With(err)
	}
	_, isPath := errors.AsType[*fs.PathError](err)
	_, isLink := errors.AsType[*os.LinkError](err)
	if isPath || isLink {
		return code.New("TS7412", where, "").With(err)
	}
	return err // the reader's
}
