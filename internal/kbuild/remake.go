// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Remade is one of the target's own modules, linked twice by Kbuild from the
// same objects: as it was shipped, and with a fix.
type Remade struct {
	Name     string
	Original []byte   // from the pristine source: what must equal the shipped module
	Fixed    []byte   // from the fixed source
	Objects  []string // of all that it is linked from
	Changed  []string // those of them whose bytes differ
}

// Remake builds modules of the target as their makefiles do, without and with
// a fix. Objects that the fix does not reach are taken from the cache of plain
// ones, with the commands and dependencies that Kbuild recorded for them, so
// Kbuild itself decides what it compiles anew: what the second module is
// linked from differs from the first in Changed and nothing else. Symbol
// versions and dependencies are those of the target's Module.symvers, without
// what a module exports itself.
//
// Neither holds debug information, BTF or a signature. A symbol that the target
// does not export is an error (TS3112).
func Remake(ctx context.Context, t *kernel.Target, f *fix.Fix, modules []string, opt Options, rep progress.Reporter) (_ []Remade, err error) {
	if opt.Jobs <= 0 {
		opt.Jobs = runtime.NumCPU()
	}
	if t.Source == t.Build {
		return nil, code.New("TS3112", t.Name, "it was built in its source directory")
	}
	relevant, _, err := Relevant(t, f)
	if err != nil {
		return nil, err
	}
	changes, err := relevant.Apply(readSource(t))
	if err != nil {
		return nil, err
	}
	c, err := newCompilation(t, changes, opt)
	if err != nil {
		return nil, err
	}
	tree, err := opt.Tree.of(ctx, t)
	if err != nil {
		return nil, err
	}
	m := tree.m
	parts, err := m.partsOf(ctx, modules, rep)
	if err != nil {
		return nil, err
	}
	var all []Object
	for _, p := range parts {
		all = append(all, p.objects...)
	}
	if err := c.plain(ctx, all, rep); err != nil {
		return nil, err
	}
	task := rep.Start("link modules", int64(2*len(parts)), progress.Steps)
	defer func() { task.Done(err) }()
	out := make([]Remade, len(parts))
	for i, p := range parts {
		out[i] = Remade{Name: p.name, Objects: p.names()}
	}
	err = c.remake(ctx, m, parts, nil, func(i int, ko []byte, _ []string) { out[i].Original = ko; task.Add(1) })
	if err != nil {
		return nil, err
	}
	w, err := lease(ctx, t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.apply(c.changes); err != nil {
		return nil, err
	}
	err = c.remake(ctx, m, parts, w, func(i int, ko []byte, changed []string) {
		out[i].Fixed, out[i].Changed = ko, changed
		task.Add(1)
	})
	return out, err
}

// part is a module and what it is linked from.
type part struct {
	name    string
	linked  string // "fs/ext4/ext4.o", without .ko
	objects []Object
}

func (p *part) names() []string {
	var out []string
	for _, o := range p.objects {
		out = append(out, path.Clean(o.Path))
	}
	slices.Sort(out)
	return out
}

// partsOf finds the objects of modules.
func (m *makefiles) partsOf(ctx context.Context, modules []string, rep progress.Reporter) ([]part, error) {
	index, err := m.index(ctx, rep)
	if err != nil {
		return nil, err
	}
	out := make([]part, len(modules))
	for i, name := range modules {
		k := slices.IndexFunc(m.t.Modules(), func(x kernel.ModuleInfo) bool { return x.Name == name })
		if k < 0 {
			return nil, code.New("TS3112", name, "the target has no such module")
		}
		file := strings.TrimPrefix(m.t.Modules()[k].File, "kernel/")
		out[i] = part{name: name, linked: strings.TrimSuffix(file, ".ko") + ".o"}
	}
	for _, objs := range index {
		for _, o := range objs {
			if i := slices.Index(modules, o.Module); i >= 0 && !slices.Contains(out[i].objects, o) {
				out[i].objects = append(out[i].objects, o)
			}
		}
	}
	for _, p := range out {
		if len(p.objects) == 0 {
			return nil, code.New("TS3112", p.name, "no makefile tells what it is linked from")
		}
		slices.SortFunc(p.objects, func(a, b Object) int { return strings.Compare(a.Path, b.Path) })
	}
	return out, nil
}

// remake links modules in a build directory of their own, which has the
// prepared parts of the target's. w is the fixed source, nil the pristine one.
func (c *compilation) remake(ctx context.Context, m *makefiles, parts []part, w *workspace, done func(i int, ko []byte, changed []string)) (err error) {
	s, err := newShadow(c, m, parts, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	for i, p := range parts {
		ko, err := s.module(ctx, p)
		if err != nil {
			return err
		}
		changed, err := s.changed(p)
		if err != nil {
			return err
		}
		done(i, ko, changed)
	}
	return nil
}

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

func (s *shadow) make(ctx context.Context, where, makefile string, args ...string) ([]byte, error) {
	out, err := kernel.Command{
		Dir: s.dir, Env: s.env, Name: "make", Merge: true,
		Args: append([]string{"-rR", "-s", "--no-print-directory", fmt.Sprintf("-j%d", s.c.opt.Jobs), "-I", s.top, "-f", filepath.Join(s.top, "scripts", makefile)}, args...),
	}.Run(ctx)
	if err != nil {
		return nil, buildProblem("TS3112", where, err, s.top, s.dir)
	}
	return out, nil
}

// module makes one module: its objects and what links them by
// scripts/Makefile.build, versions and dependencies by modpost, the rest by
// scripts/Makefile.modfinal.
func (s *shadow) module(ctx context.Context, p part) ([]byte, error) {
	base := strings.TrimSuffix(p.linked, ".o")
	if _, err := s.make(ctx, p.name, "Makefile.build", "obj="+path.Dir(p.linked), "need-modorder=1", p.linked, base+".mod"); err != nil {
		return nil, err
	}
	if err := s.modpost(ctx, p); err != nil {
		return nil, err
	}
	order, err := s.order(base)
	if err != nil {
		return nil, err
	}
	if _, err := s.make(ctx, p.name, "Makefile.modfinal", "MODORDER="+order, "CONFIG_DEBUG_INFO_BTF_MODULES=", base+".ko"); err != nil {
		return nil, err
	}
	ko := filepath.Join(s.dir, base+".ko")
	// What assembly brings of debug information.
	if err := run(ctx, s.dir, []string{s.m.variable("OBJCOPY"), "--strip-debug", ko}); err != nil {
		return nil, buildProblem("TS3112", p.name, err, s.dir)
	}
	return os.ReadFile(ko)
}

// order writes the list of modules that makefiles read; since 6.3 it names
// objects.
func (s *shadow) order(base string) (string, error) {
	const name = "tsugi.order"
	text, err := os.ReadFile(filepath.Join(s.top, "scripts/Makefile.modfinal"))
	if err != nil {
		return "", err
	}
	line := base + ".ko\n"
	if bytes.Contains(text, []byte("modules:%.o=%.ko")) {
		line = base + ".o\n"
	}
	return name, os.WriteFile(filepath.Join(s.dir, name), []byte(line), 0o644)
}

// modpostHook shows the arguments that scripts/Makefile.modpost has for
// modpost in this configuration.
const modpostHook = `
.PHONY: tsugi-modpost
tsugi-modpost:
	@:$(info tsugi-modpost $(modpost-args))
`

// modpost writes the .mod.c of a module. Kbuild's own way has the whole
// kernel's objects at hand; here the target's Module.symvers stands for them.
func (s *shadow) modpost(ctx context.Context, p part) error {
	hook := filepath.Join(s.dir, "tsugi.mk")
	if err := os.WriteFile(hook, []byte(modpostHook), 0o644); err != nil {
		return err
	}
	out, err := s.make(ctx, p.name, "Makefile.modpost", "-f", hook, "tsugi-modpost")
	if err != nil {
		return err
	}
	args, err := modpostArgs(out)
	if err != nil {
		return code.New("TS3112", p.name, "").With(err)
	}
	symvers, err := os.ReadFile(filepath.Join(s.c.t.Build, "Module.symvers"))
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(s.dir, "tsugi.symvers"), without(symvers, strings.TrimSuffix(p.linked, ".o")), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, "tsugi.objects"), []byte(p.linked+"\n"), 0o644); err != nil {
		return err
	}
	args = append(args, "-i", "tsugi.symvers", "-o", "tsugi.own.symvers", "-T", "tsugi.objects")
	err = run(ctx, s.dir, append([]string{"scripts/mod/modpost"}, args...))
	return buildProblem("TS3112", p.name, err, s.top, s.dir)
}

// modpostArgs takes the single letters out of what the hook showed. -w, which
// lives with symbols that nobody exports, is not among them.
func modpostArgs(out []byte) ([]string, error) {
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "tsugi-modpost" {
			continue
		}
		var args []string
		for i := 1; i < len(f); i++ {
			switch {
			case f[i] == "-o" || f[i] == "-T" || f[i] == "-i" || f[i] == "-d" || f[i] == "-t" || f[i] == "-u":
				i++ // with a file's name
			case f[i] == "-w" || f[i] == "-e" || f[i] == "-n":
			case len(f[i]) == 2 && f[i][0] == '-':
				args = append(args, f[i])
			}
		}
		return args, nil
	}
	return nil, errors.New("scripts/Makefile.modpost did not show its arguments")
}

// without leaves out what one module exports: it tells so itself.
func without(symvers []byte, module string) []byte {
	var out []byte
	for line := range bytes.Lines(symvers) {
		if f := bytes.SplitN(line, []byte("\t"), 4); len(f) == 4 && string(f[2]) == module {
			continue
		}
		out = append(out, line...)
	}
	return out
}
