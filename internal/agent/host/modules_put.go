// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/code"
)

// Writes are the directories below which Put and Swap write, of all releases.
// A service that may not write to each of them can't do what it is for.
func (m Modules) Writes() []string { return []string{m.path("lib/modules"), m.path(overrides)} }

// overrides is the directory of depmod's configuration that ends with the boot.
const overrides = "run/depmod.d"

// Put changes the directory. New files come before depmod tells of them, and
// files go only after depmod has been told not to see them: modules.dep names
// a file that is there at any moment, also if the power goes. The exception is
// a file whose module the package has no more: nothing else can be told of, so
// it goes first.
func (m Modules) Put(ctx context.Context, release string, add map[string][]byte, keep []string) error {
	if err := valid(release); err != nil {
		return err
	}
	there, err := m.There(release)
	if err != nil {
		return err
	}
	top := m.dir(release)
	dir := filepath.Join(top, updates)
	// Somebody may have taken files away, and left modules.dep as it was: modprobe
	// would load neither them nor the package's.
	told, err := m.Memo.preferred(filepath.Join(top, "modules.dep"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return onDisk(top, err)
	}
	if len(add)+len(there)+len(told) == 0 {
		return m.removeEmpty(top, dir)
	}
	if err := m.write(top, dir, add); err != nil {
		return err
	}
	var away, stay []string
	for name := range there {
		if !slices.Contains(keep, name) {
			away = append(away, name)
		}
	}
	for _, name := range keep {
		_, is := there[name]
		if _, is2 := add[name]; is || is2 {
			stay = append(stay, name)
		}
	}
	slices.Sort(away)
	slices.Sort(stay)
	if !m.Installed(release) { // nobody loads modules of it any more
		return m.unlink(top, dir, away)
	}
	if len(away) > 0 {
		undo, orphans, err := m.override(release, away)
		if err != nil {
			return err
		}
		defer undo()
		if len(orphans) > 0 {
			if err := m.unlink(top, dir, orphans); err != nil {
				return err
			}
		}
	}
	if err := m.depmod(ctx, release); err != nil {
		return err
	}
	found, err := m.Memo.preferred(filepath.Join(top, "modules.dep"))
	if err != nil {
		return onDisk(top, err)
	}
	for _, name := range away {
		if slices.Contains(found, name) {
			return code.New("TS9432", name, "depmod goes on telling of it")
		}
	}
	// modules.dep does not name these, so that taking them away breaks nothing.
	unfound := slices.DeleteFunc(stay, func(name string) bool { return slices.Contains(found, name) })
	if err := m.unlink(top, dir, append(away, unfound...)); err != nil {
		return err
	}
	if len(unfound) > 0 {
		return &agent.Unfound{Files: unfound, Problem: code.New("TS9435", strings.Join(unfound, ", "), "depmod does not prefer "+updates)}
	}
	return nil
}

// write puts files there, each whole or not at all.
func (m Modules) write(top, dir string, add map[string][]byte) error {
	if len(add) == 0 {
		return nil
	}
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Mkdir(d, 0o755); err == nil {
			if err := errors.Join(os.Chmod(d, 0o755), syncDir(filepath.Dir(d))); err != nil {
				return onDisk(d, err)
			}
		} else if !errors.Is(err, fs.ErrExist) {
			return onDisk(d, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(add)) {
		if name != path.Base(name) || !strings.HasSuffix(name, ".ko") || strings.HasPrefix(name, ".") {
			return code.New("TS9432", name, "it is not the name of a module's file")
		}
		if err := renameio.WriteFile(filepath.Join(dir, name), add[name], 0o644, renameio.WithTempDir(dir), renameio.IgnoreUmask()); err != nil {
			return onDisk(name, err)
		}
	}
	return onDisk(top, syncDir(dir))
}

// unlink takes files away, and what a loss of power has left half written.
func (m Modules) unlink(top, dir string, names []string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return onDisk(dir, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || slices.Contains(names, e.Name()) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return onDisk(dir, err)
			}
		}
	}
	if err := syncDir(dir); err != nil {
		return onDisk(dir, err)
	}
	return m.removeEmpty(top, dir)
}

// removeEmpty takes directories away that hold nothing, so that a package can
// remove its own.
func (m Modules) removeEmpty(top, dir string) error {
	for d := dir; d != top; d = filepath.Dir(d) {
		err := os.Remove(d)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, fs.ErrExist):
			return nil
		case err != nil:
			return onDisk(d, err)
		}
	}
	return nil
}

// override makes depmod pass over files that are about to go. orphans are those
// of them that have no other file to be passed over for.
func (m Modules) override(release string, away []string) (undo func(), orphans []string, err error) {
	dir := m.path(overrides)
	file := filepath.Join(dir, "tsugi.conf")
	var text strings.Builder
	text.WriteString("# written by tsugi while it takes fixed modules away\n")
	where, err := m.places(release)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range away {
		base := strings.TrimSuffix(name, ".ko")
		if sub, ok := where[name]; ok {
			fmt.Fprintf(&text, "override %s %s %s\n", base, release, sub)
		} else {
			orphans = append(orphans, name)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, onDisk(dir, err)
	}
	if err := renameio.WriteFile(file, []byte(text.String()), 0o644, renameio.IgnoreUmask()); err != nil {
		return nil, nil, onDisk(file, err)
	}
	return func() { _ = os.Remove(file) }, orphans, nil // it is gone with the next boot at the latest
}

// places finds the directories of the kernel's own modules, by their files'
// names without what compression adds.
func (m Modules) places(release string) (map[string]string, error) {
	top := m.dir(release)
	out := map[string]string{}
	err := filepath.WalkDir(filepath.Join(top, "kernel"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _, ok := strings.Cut(d.Name(), ".ko")
		rel, rerr := filepath.Rel(top, filepath.Dir(p))
		if ok && rerr == nil {
			out[name+".ko"] = rel
		}
		return nil
	})
	return out, onDisk(top, err)
}

// depmod writes what modprobe reads, and puts it on the medium: an empty
// modules.dep after a loss of power would leave the machine without modules.
func (m Modules) depmod(ctx context.Context, release string) error {
	argv := []string{"depmod", release}
	if m.Root != "" {
		argv = []string{"depmod", "-b", m.Root, release}
	}
	if err := m.run(ctx, argv...); err != nil {
		return code.New("TS9432", "depmod", "").With(err)
	}
	d, err := os.Open(m.dir(release))
	if err != nil {
		return onDisk(m.dir(release), err)
	}
	defer d.Close()
	return onDisk(m.dir(release), unix.Syncfs(int(d.Fd())))
}
