// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Home is the directory of all of Tsugi's caches: $TSUGI_HOME, else
// $XDG_CACHE_HOME/tsugi, else ~/.cache/tsugi.
func Home() (string, error) {
	if h := os.Getenv("TSUGI_HOME"); h != "" {
		return filepath.Abs(h)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("home of the caches: %w", err)
	}
	return filepath.Join(dir, "tsugi"), nil
}

// Store holds targets and what they are made of:
//
//	debs/            packages as downloaded
//	sources/VERSION/ unpacked source, shared by the targets of that version
//	targets/NAME/    target.json (written last: a target with it is whole),
//	                 image/ (vmlinuz, vmlinux, modules), headers/, build/
//	boot/NAME/       target.json and image/ of a kernel that is only booted: see Boot
//	locks/           one lock file per source and target
type Store struct{ home string }

// OpenStore opens the store of a home directory, and creates it if needed.
func OpenStore(home string) (*Store, error) {
	home, err := filepath.Abs(home)
	if err != nil {
		return nil, err
	}
	s := &Store{home}
	for _, d := range []string{s.debs(), s.sources(), string(s.targets()), s.locks()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, DiskError(d, err)
		}
	}
	return s, nil
}

// Home is the directory that the store was opened with, absolute.
func (s *Store) Home() string { return s.home }

func (s *Store) debs() string     { return filepath.Join(s.home, "debs") }
func (s *Store) sources() string  { return filepath.Join(s.home, "sources") }
func (s *Store) targets() Targets { return Targets(filepath.Join(s.home, "targets")) }
func (s *Store) locks() string    { return filepath.Join(s.home, "locks") }

func (s *Store) sourceDir(version string) string {
	return filepath.Join(s.sources(), FileName("linux-"+version))
}

func (s *Store) targetDir(name string) string { return s.targets().Dir(name) }

// FileName makes a directory name of a target's or version's name. Bytes
// outside of a small set are written as %XX, so that no two names collide; the
// colon behind a target's kind is made a _ that is good to read.
func FileName(name string) string {
	var b strings.Builder
	colon := strings.IndexByte(name, ':')
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("._-+~", c) >= 0 && i > 0:
			b.WriteByte(c)
		case i == colon:
			b.WriteByte('_')
		default:
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// Get opens a prepared target by name.
func (s *Store) Get(name string) (*Target, error) {
	var t Target
	if err := s.targets().Read(name, targetFormat, &t); err != nil {
		return nil, err
	}
	t.home = s.home
	if err := t.load(); err != nil {
		return nil, code.New("TS2315", s.targets().file(name), "").With(err)
	}
	return &t, nil
}

// List opens all prepared targets, by name.
func (s *Store) List() ([]*Target, error) { return ReadAll(s.targets().Names(), s.Get) }

// Remove removes a target, whole or half made, and its source if no other
// target uses it. Downloaded packages and cached objects stay.
func (s *Store) Remove(ctx context.Context, name string) error {
	dir := s.targetDir(name)
	if _, err := os.Stat(dir); err != nil {
		_, err := s.Get(name)
		return cmp.Or(err, error(code.New("TS2302", name, "")))
	}
	unlock, err := s.lock(ctx, "target "+name, false)
	if err != nil {
		return err
	}
	defer unlock()
	source, err := os.ReadFile(filepath.Join(dir, sourceRef))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Without target.json the rest is only a cache, whenever this is interrupted.
	if err := os.Remove(filepath.Join(dir, "target.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if len(source) == 0 {
		return nil
	}
	return s.removeSource(ctx, string(source))
}

// sourceRef is a file in a target's directory with the directory of the
// source that it uses. It is written before that source is looked for, so a
// source is free to go when, under its lock, no such file names it.
const sourceRef = "source.ref"

func (s *Store) removeSource(ctx context.Context, dir string) error {
	if filepath.Dir(dir) != s.sources() {
		return nil
	}
	unlock, err := s.lock(ctx, "source "+filepath.Base(dir), false)
	if code.Of(err) == "TS2314" { // it is being prepared for another target
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	refs, err := filepath.Glob(filepath.Join(string(s.targets()), "*", sourceRef))
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if b, err := os.ReadFile(ref); err == nil && string(b) == dir {
			return nil
		}
	}
	gone := filepath.Join(s.sources(), ".removed-"+filepath.Base(dir))
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(dir, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(gone)
}

// Sizes tells how much disk a target takes, in bytes of blocks in use.
type Sizes struct {
	Image, Build, Source int64
	Shared               []string // other targets that use the same source
}

// Sizes measures a target.
func (s *Store) Sizes(t *Target) (Sizes, error) {
	var z Sizes
	var err error
	if z.Image, err = diskUsage(filepath.Join(s.targetDir(t.Name), "image")); err != nil {
		return z, err
	}
	if z.Build, err = diskUsage(t.Build); err != nil {
		return z, err
	}
	if z.Source, err = diskUsage(t.Source); err != nil {
		return z, err
	}
	all, err := s.List()
	if err != nil {
		return z, err
	}
	for _, o := range all {
		if o.Name != t.Name && o.Source == t.Source {
			z.Shared = append(z.Shared, o.Name)
		}
	}
	return z, nil
}

func (s *Store) write(t *Target) error { return s.targets().Write(t.Name, t) }
