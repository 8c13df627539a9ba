// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

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

func (s *Store) targetDir(name string) string { return s.at("targets", kernel.FileName(name)) }

// buildName names the directories of one version of a source package.
func buildName(source, version string) string { return kernel.FileName(source + "_" + version) }

func (s *Store) lock(ctx context.Context, what string, wait bool) (unlock func(), err error) {
	return kernel.Lock(ctx, s.at("locks", kernel.FileName(what)), what, wait)
}

// Get opens a prepared target by name.
func (s *Store) Get(name string) (*Target, error) {
	path := filepath.Join(s.targetDir(name), "target.json")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		p := code.New("TS2302", name, "")
		if have := s.names(); len(have) > 0 {
			p.Why = "there is " + strings.Join(have, ", ")
		}
		return nil, p
	}
	if err != nil {
		return nil, err
	}
	var t Target
	if err := json.Unmarshal(b, &t); err != nil {
		return nil, code.New("TS2315", path, "").With(err)
	}
	if t.Format != targetFormat || t.Name != name {
		return nil, code.New("TS2315", path, fmt.Sprintf("format %d of target %q", t.Format, t.Name))
	}
	t.home = s.home
	if t.commands, err = readCommands(filepath.Join(s.buildDir(t.Source, t.SourceVersion), commandsFile)); err != nil {
		return nil, err
	}
	return &t, nil
}

// List opens all prepared targets, by name.
func (s *Store) List() ([]*Target, error) {
	var ts []*Target
	for _, name := range s.names() {
		t, err := s.Get(name)
		if err != nil {
			return nil, err
		}
		ts = append(ts, t)
	}
	return ts, nil
}

func (s *Store) names() []string {
	files, _ := filepath.Glob(s.at("targets", "*", "target.json"))
	var names []string
	for _, f := range files {
		var t struct{ Name string }
		if b, err := os.ReadFile(f); err == nil && json.Unmarshal(b, &t) == nil {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	return names
}

func (s *Store) write(t *Target) error {
	b, err := json.MarshalIndent(t, "", "\t")
	if err != nil {
		return err
	}
	path := filepath.Join(s.targetDir(t.Name), "target.json")
	return kernel.DiskError(path, renameio.WriteFile(path, append(b, '\n'), 0o644))
}

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
