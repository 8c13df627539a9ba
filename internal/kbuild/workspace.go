// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// workspace is a copy of a target's source that a fix can be applied to: hard
// links, so that it costs no space and half a second. One process holds it at
// a time. Files are never written in place, for that would change the
// pristine source behind the link.
//
//	work/SOURCE-N/tree/    the copy
//	work/SOURCE-N/journal  the paths that may differ from the source, written
//	                       before the first of them is touched
type workspace struct {
	dir, source string
	release     func()
}

func (w *workspace) tree() string    { return filepath.Join(w.dir, "tree") }
func (w *workspace) journal() string { return filepath.Join(w.dir, "journal") }

// workspaces is how many copies of one source are made before a process waits
// for another to end.
const workspaces = 4

// lease takes a workspace that nobody uses, makes it if needed, and undoes
// what an interrupted holder left in it.
func lease(ctx context.Context, t *kernel.Target) (*workspace, error) {
	sum := sha256.Sum256([]byte(t.Source))
	base := filepath.Join(t.Home(), "work", filepath.Base(t.Source)+"-"+hex.EncodeToString(sum[:4]))
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		return nil, kernel.DiskError(base, err)
	}
	var w *workspace
	for n := range workspaces {
		dir := fmt.Sprintf("%s-%d", base, n)
		unlock, err := kernel.Lock(ctx, dir+".lock", "workspace "+filepath.Base(dir), n == workspaces-1)
		if code.Of(err) == "TS2314" {
			continue
		}
		if err != nil {
			return nil, err
		}
		w = &workspace{dir: dir, source: t.Source, release: unlock}
		break
	}
	if err := w.open(ctx, t.Foreign); err != nil {
		w.release()
		return nil, err
	}
	return w, nil
}

// open brings the copy into the state of the source. The source of a tree
// target may have changed in the meantime, so its copy is made each time.
func (w *workspace) open(ctx context.Context, afresh bool) error {
	if !afresh {
		if _, err := os.Stat(w.tree()); err == nil {
			return w.restore()
		}
	}
	if err := os.RemoveAll(w.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return kernel.DiskError(w.dir, err)
	}
	partial := w.tree() + ".partial"
	if err := linkTree(ctx, w.source, partial); err != nil {
		return errors.Join(kernel.DiskError(partial, err), os.RemoveAll(partial))
	}
	return os.Rename(partial, w.tree())
}

// apply writes the changes of a fix into the copy.
func (w *workspace) apply(changes []fix.Change) error {
	var touched []string
	for _, c := range changes {
		touched = append(touched, c.Path)
	}
	b, err := json.Marshal(touched)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(w.journal(), b, 0o644); err != nil {
		return kernel.DiskError(w.journal(), err)
	}
	for _, c := range changes {
		path := filepath.Join(w.tree(), c.Path)
		if c.Deleted {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // explain applies once more
				return err
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return kernel.DiskError(path, err)
		}
		if err := renameio.WriteFile(path, c.New, 0o644); err != nil {
			return kernel.DiskError(path, err)
		}
	}
	return nil
}

// restore links every path of the journal to the source again.
func (w *workspace) restore() error {
	b, err := os.ReadFile(w.journal())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var touched []string
	if err := json.Unmarshal(b, &touched); err != nil {
		return code.New("TS2315", w.journal(), "").With(err)
	}
	for _, p := range touched {
		if !filepath.IsLocal(p) {
			return code.New("TS2315", w.journal(), p)
		}
		path := filepath.Join(w.tree(), p)
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := linkOrCopy(filepath.Join(w.source, p), path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return kernel.DiskError(path, err)
		}
	}
	return os.Remove(w.journal())
}

// close restores the copy and lets others have it.
func (w *workspace) close() error {
	defer w.release()
	return w.restore()
}

// linkTree makes a copy of a directory whose files are links to the originals.
func linkTree(ctx context.Context, from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	var walk func(rel string) error
	walk = func(rel string) error {
		if err := kernel.Interrupted(ctx); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(to, rel), 0o755); err != nil {
			return err
		}
		entries, err := os.ReadDir(filepath.Join(from, rel))
		if err != nil {
			return err
		}
		for _, e := range entries {
			sub := filepath.Join(rel, e.Name())
			switch {
			case e.IsDir() && e.Name() == ".git":
			case e.IsDir():
				if !g.TryGo(func() error { return walk(sub) }) {
					if err := walk(sub); err != nil {
						return err
					}
				}
			case e.Type().IsRegular() || e.Type()&fs.ModeSymlink != 0:
				if err := linkOrCopy(filepath.Join(from, sub), filepath.Join(to, sub)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	g.Go(func() error { return walk(".") })
	return g.Wait()
}

// linkOrCopy links a file, or copies it where links are not possible: to
// another file system, or to a file of another user.
func linkOrCopy(from, to string) error {
	err := os.Link(from, to)
	if !errors.Is(err, syscall.EXDEV) && !errors.Is(err, syscall.EPERM) {
		return err
	}
	st, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	}
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, st.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}
