// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/kernel"
)

// shadow is a build directory beside the target's: links to all that was
// prepared there, and directories of its own for the objects of some modules.
type shadow struct {
	c   *compilation
	m   *makefiles
	dir string
	top string // of the source
	env []string
}

func newShadow(c *compilation, m *makefiles, parts []part, w *workspace) (_ *shadow, err error) {
	base := filepath.Join(c.t.Home(), "work")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, kernel.DiskError(base, err)
	}
	s := &shadow{c: c, m: m, top: c.t.Source}
	if s.dir, err = os.MkdirTemp(base, "modules-*"); err != nil {
		return nil, kernel.DiskError(base, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(kernel.DiskError(s.dir, err), os.RemoveAll(s.dir))
		}
	}()
	if w != nil {
		s.top = w.tree()
	}
	for _, v := range m.env {
		name, value, _ := strings.Cut(v, "=")
		switch name {
		case "MAKEFILES", "KBUILD_MODULES", "KBUILD_BUILTIN":
			continue
		case "KBUILD_CFLAGS": // as KCFLAGS does it: see plain
			value += " -g0"
		}
		s.env = append(s.env, name+"="+s.moved(value))
	}
	s.env = append(s.env, "KBUILD_MODULES=1", "KBUILD_BUILTIN=")
	dirs := map[string]bool{".": true}
	for _, p := range parts {
		for _, d := range ancestors(path.Dir(p.linked)) {
			dirs[d] = true
		}
		for _, o := range p.objects {
			for _, d := range ancestors(path.Dir(path.Clean(o.Path))) {
				dirs[d] = true
			}
		}
	}
	if err := s.link(".", dirs); err != nil {
		return nil, err
	}
	for _, p := range parts {
		for _, o := range p.objects {
			if err := s.put(o); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// moved names the source that is built instead of the pristine one.
func (s *shadow) moved(text string) string {
	if s.top == s.c.t.Source {
		return text
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, s.c.t.Source)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		if after != "" && strings.ContainsRune("/ \t\n=:\"'", rune(after[0])) || after == "" {
			b.WriteString(s.top)
		} else {
			b.WriteString(s.c.t.Source)
		}
		text = after
	}
}

// link makes one directory: what make may write to is made or copied, all else
// is a link to the target's.
func (s *shadow) link(dir string, own map[string]bool) error {
	from, to := filepath.Join(s.c.t.Build, dir), filepath.Join(s.dir, dir)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for d := range own {
		if d != "." && path.Dir(d) == dir {
			if err := s.link(d, own); err != nil {
				return err
			}
		}
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case own[path.Join(dir, name)], made(name), dir == "." && name == "source":
		case e.IsDir() || dir == ".":
			if err := os.Symlink(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
				return err
			}
		case e.Type().IsRegular():
			if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// made tells a file that a build leaves behind in a directory of objects from
// one that it was generated from.
func made(name string) bool {
	name = strings.TrimSuffix(name, ".cmd")
	for _, ext := range []string{".o", ".ko", ".mod", ".a", ".order", ".mod.c", ".d", ".tmp"} {
		if strings.HasSuffix(name, ext) {
			return true
		}
	}
	return false
}

// copyFile keeps the time of the file, by which make goes.
func copyFile(from, to string) error {
	st, err := os.Stat(from)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, b, st.Mode().Perm()); err != nil {
		return err
	}
	return os.Chtimes(to, st.ModTime(), st.ModTime())
}

// put brings an object of the pristine source to where Kbuild looks for it,
// with its command as Kbuild would run it here.
func (s *shadow) put(o Object) error {
	to := filepath.Join(s.dir, path.Clean(o.Path))
	if err := copyFile(s.c.file(o, "plain.o"), to); err != nil {
		return err
	}
	cmd, err := os.ReadFile(s.c.file(o, "cmd"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+".cmd"), []byte(s.moved(string(cmd))), 0o644)
}

// changed lists the objects of a module that are not the pristine ones.
func (s *shadow) changed(p part) ([]string, error) {
	var out []string
	for _, o := range p.objects {
		a, err := os.ReadFile(s.c.file(o, "plain.o"))
		if err != nil {
			return nil, err
		}
		b, err := os.ReadFile(filepath.Join(s.dir, path.Clean(o.Path)))
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(a, b) {
			out = append(out, path.Clean(o.Path))
		}
	}
	slices.Sort(out)
	return out, nil
}
