// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Sources are versions of a target's source package, unpacked with the
// distribution's patches in place, as nothing has configured or built them.
type Sources struct {
	store *Store
	t     *Target
	dir   string
}

// Sources makes a place to unpack versions in. Close removes it.
func (s *Store) Sources(t *Target) (*Sources, error) {
	top := s.at("work")
	if err := os.MkdirAll(top, 0o755); err != nil {
		return nil, kernel.DiskError(top, err)
	}
	dir, err := os.MkdirTemp(top, "sources-")
	if err == nil {
		err = giveAway(dir)
	}
	return &Sources{s, t, dir}, kernel.DiskError(top, err)
}

// Close removes all that was unpacked.
func (s *Sources) Close() error { return os.RemoveAll(s.dir) }

// Unpack unpacks one version, which is downloaded if need be, and returns its
// directory: the caller may change what is in it. dpkg-source runs in the build
// root of the target.
func (s *Sources) Unpack(ctx context.Context, version string, rep progress.Reporter) (_ string, err error) {
	if !versionForm.MatchString(version) {
		return "", code.New("TS3530", s.t.Source+" "+version, "not a version of a Debian package")
	}
	files, err := s.store.FetchSource(ctx, s.t.Source, version, rep)
	if err != nil {
		return "", err
	}
	dsc, err := filepath.Glob(filepath.Join(files, "*.dsc"))
	if err != nil || len(dsc) != 1 {
		return "", code.New("TS3532", files, "it holds no .dsc file, or several")
	}
	task := rep.Start("unpack source "+version, 0, progress.Steps)
	defer func() { task.Done(err) }()
	name := kernel.FileName(version)
	rm := room{
		root: s.t.Root, env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"},
		binds: []bind{{s.dir, buildParent, false}, {files, "/tsugi/source", true}},
	}
	argv := []string{"dpkg-source", "--no-check", "--no-copy", "-x", "/tsugi/source/" + filepath.Base(dsc[0]), path.Join(buildParent, name)}
	_, err = rm.run(ctx, "/", argv, nil, nil)
	if exit, ok := errors.AsType[*kernel.ExitError](err); ok && code.Of(err) == "" {
		return "", code.New("TS3535", dsc[0], kernel.ErrorLines(exit.Output)).With(err)
	}
	return filepath.Join(s.dir, name), err
}

// TakeOff undoes patches in an unpacked source, given in the order in which they
// were applied: of each file that they change, quilt keeps what was there before.
// What quilt keeps is gone afterwards.
func TakeOff(tree string, patches []string) error {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, name := range slices.Backward(patches) {
		kept := path.Join(".pc", name)
		err := fs.WalkDir(root.FS(), kept, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || d.Name() == ".timestamp" {
				return err
			}
			b, err := root.ReadFile(p)
			if err != nil {
				return err
			}
			to := strings.TrimPrefix(p, kept+"/")
			if err := root.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if len(b) == 0 { // the patch made it
				return nil
			}
			return kernel.DiskError(to, root.WriteFile(to, b, 0o644))
		})
		if errors.Is(err, fs.ErrNotExist) {
			return code.New("TS3535", name, "quilt keeps nothing of what was before it")
		}
		if err != nil {
			return err
		}
	}
	return root.RemoveAll(".pc")
}
