// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// Store holds targets and what they are made of, below HOME/userland:
//
//	apt/             apt's lists of binary and source packages
//	debs/            binary packages as downloaded
//	sources/SRC_VER/ source packages as downloaded
//	roots/DIGEST/    build roots: unpacked packages
//	builds/SRC_VER/  build directory and recorded commands, shared by the targets of a source
//	targets/NAME/    target.json (written last: a target with it is whole), shipped files
//	locks/           one lock file per thing that is made
type Store struct{ home, dir string }

// OpenStore opens the store of a home directory (kernel.Home), and creates it
// if needed.
func OpenStore(home string) (*Store, error) {
	home, err := filepath.Abs(home)
	if err != nil {
		return nil, err
	}
	s := &Store{home, filepath.Join(home, "userland")}
	for _, d := range []string{"apt", "debs", "sources", "roots", "builds", "targets", "locks"} {
		if err := os.MkdirAll(s.at(d), 0o755); err != nil {
			return nil, kernel.DiskError(s.at(d), err)
		}
	}
	return s, nil
}

func (s *Store) at(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *Store) targets() kernel.Targets { return kernel.Targets(s.at("targets")) }

func (s *Store) targetDir(name string) string { return s.targets().Dir(name) }

// buildName names the directories of one version of a source package.
func buildName(source, version string) string { return kernel.FileName(source + "_" + version) }

func (s *Store) lock(ctx context.Context, what string, wait bool) (unlock func(), err error) {
	return kernel.Lock(ctx, s.at("locks", kernel.FileName(what)), what, wait)
}

// Get opens a prepared target by name.
func (s *Store) Get(name string) (*Target, error) {
	var t Target
	if err := s.targets().Read(name, targetFormat, &t); err != nil {
		return nil, err
	}
	t.home = s.home
	var err error
	if t.commands, err = readCommands(filepath.Join(s.buildDir(t.Source, t.SourceVersion), commandsFile)); err != nil {
		return nil, err
	}
	return &t, nil
}

// List opens all prepared targets, by name.
func (s *Store) List() ([]*Target, error) { return kernel.ReadAll(s.targets().Names(), s.Get) }

func (s *Store) write(t *Target) error { return s.targets().Write(t.Name, t) }

// buildRef is a file in a target's directory that names the build and the root
// which it uses. It is written before they are looked for: what no such file
// names is free to go.
const buildRef = "build.ref"

// Remove removes a target, whole or half made, and its build and build root if
// no other target uses them. Downloaded packages stay.
func (s *Store) Remove(ctx context.Context, name string) error {
	dir := s.targetDir(name)
	if _, err := os.Stat(dir); err != nil {
		_, err := s.Get(name)
		return err
	}
	unlock, err := s.lock(ctx, "target "+name, false)
	if err != nil {
		return err
	}
	defer unlock()
	ref, err := os.ReadFile(filepath.Join(dir, buildRef))
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
	for line := range strings.Lines(string(ref)) {
		if err := s.removeUnused(ctx, strings.TrimSpace(line)); err != nil {
			return err
		}
	}
	return nil
}

// removeUnused removes "builds/X" or "roots/X" when no target names it.
func (s *Store) removeUnused(ctx context.Context, what string) error {
	kind, base, ok := strings.Cut(what, "/")
	if !ok || kind != "builds" && kind != "roots" || base != kernel.FileName(base) {
		return nil
	}
	unlock, err := s.lock(ctx, what, false)
	if code.Of(err) == "TS2314" { // it is being made for another target
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	refs, err := filepath.Glob(s.at("targets", "*", buildRef))
	if err != nil {
		return err
	}
	for _, ref := range refs {
		if b, err := os.ReadFile(ref); err == nil && slices.Contains(strings.Fields(string(b)), what) {
			return nil
		}
	}
	gone := s.at(kind, ".removed-"+base)
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(s.at(kind, base), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(gone)
}

func (s *Store) buildDir(source, version string) string {
	return s.at("builds", buildName(source, version))
}
