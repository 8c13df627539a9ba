// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// hook is read by make before Kbuild's own makefiles (the MAKEFILES variable)
// and adds two goals to them: tsugi-env, which shows what the top makefile
// exports to those of the directories, and tsugi-list, which shows what
// scripts/Makefile.lib made of a directory's lists. A recipe is expanded when
// it runs, after all makefiles were read, so Kbuild does all of the thinking.
//
// Lines: KIND NAME "s", a single object, or KIND NAME "c" PARTS…, one linked
// from parts (suffix-search in Makefile.lib); KIND y for built-in, m for
// modules, l for lib.a, x for extra-y.
//
// Where the top makefile only calls itself in the build directory, its own
// rule for every goal takes the place of tsugi-env, with a warning.
const hook = `
.PHONY: tsugi-env tsugi-list
ifneq ($(obj),)
tsugi-parts = $(if $(call suffix-search,$1,.o,$2 -),c $(call suffix-search,$1,.o,$2),s)
tsugi-list:
	@:$(foreach o,$(obj-y),$(info y $o $(call tsugi-parts,$o,-objs -y)))\
	$(foreach o,$(obj-m),$(info m $o $(call tsugi-parts,$(patsubst $(obj)/%,%,$o),-objs -y -m)))\
	$(foreach o,$(lib-y),$(info l $o s))$(foreach o,$(extra-y),$(info x $o s))
else
tsugi-env:
	@env -0
endif
`

// makefiles evaluates the makefiles of a target's directories, each at most once.
type makefiles struct {
	t    *kernel.Target
	dir  string // cache directory of the target
	env  []string
	hook string

	mu   sync.Mutex
	dirs map[string]*directory
	sem  chan struct{} // limits the makes that run

	indexing sync.Mutex
	indexed  map[string][]Object // see index
}

// directory is what Kbuild builds in one directory. Paths are relative to the
// top of the tree, and as make names them: "a/../b/x.o" is possible.
type directory struct {
	once    sync.Once
	err     error
	Objects []Object
	Builtin []string // directories whose objects are built in
	Modules []string // directories that are visited for their modules
}

func newMakefiles(ctx context.Context, t *kernel.Target, dir string, jobs int) (*makefiles, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, kernel.DiskError(dir, err)
	}
	m := &makefiles{
		t: t, dir: dir, hook: filepath.Join(dir, "hook.mk"),
		dirs: make(map[string]*directory), sem: make(chan struct{}, jobs),
	}
	if err := renameio.WriteFile(m.hook, []byte(hook), 0o644); err != nil {
		return nil, kernel.DiskError(m.hook, err)
	}
	return m, m.environment(ctx)
}

// environment finds what the top makefile exports. It runs some hundred
// compiler probes for that, so the answer is kept.
func (m *makefiles) environment(ctx context.Context) error {
	file := filepath.Join(m.dir, "environment")
	b, err := os.ReadFile(file)
	if err != nil {
		cmd := kernel.Command{Name: "make", Args: append(m.t.MakeArgs(), "-s", "tsugi-env"), Env: []string{"MAKEFILES=" + m.hook}}
		if b, err = cmd.Run(ctx); err != nil {
			return buildProblem("TS3107", m.t.Name, err, m.t.Source)
		}
		if !bytes.Contains(b, []byte("\x00srctree=")) {
			return code.New("TS3107", m.t.Name, "the top makefile did not show its variables")
		}
		if err := renameio.WriteFile(file, b, 0o644); err != nil {
			return kernel.DiskError(file, err)
		}
	}
	for v := range strings.SplitSeq(string(b), "\x00") {
		name, _, ok := strings.Cut(v, "=")
		switch name {
		case "MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MAKEFILES", "PWD", "OLDPWD", "_":
			ok = false // of that run
		}
		if ok {
			m.env = append(m.env, v)
		}
	}
	m.env = append(m.env, "MAKEFILES="+m.hook)
	return nil
}

// variable is one exported variable of the top makefile.
func (m *makefiles) variable(name string) string {
	for _, v := range m.env {
		if s, ok := strings.CutPrefix(v, name+"="); ok {
			return s
		}
	}
	return ""
}

// eval evaluates the makefile of a directory. A directory without one has
// nothing of its own.
func (m *makefiles) eval(ctx context.Context, dir string) (*directory, error) {
	m.mu.Lock()
	d := m.dirs[dir]
	if d == nil {
		d = &directory{}
		m.dirs[dir] = d
	}
	m.mu.Unlock()
	d.once.Do(func() {
		m.sem <- struct{}{}
		defer func() { <-m.sem }()
		if m.exists(dir) {
			d.err = m.run(ctx, dir, d)
		}
	})
	if d.err != nil && ctx.Err() != nil { // interrupted: the next one may ask again
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.dirs[dir] == d {
			delete(m.dirs, dir)
		}
	}
	return d, d.err
}

func (m *makefiles) exists(dir string) bool {
	for _, n := range []string{"Kbuild", "Makefile"} {
		if st, err := os.Stat(filepath.Join(m.t.Source, dir, n)); err == nil && st.Mode().IsRegular() {
			return true
		}
	}
	return false
}

func (m *makefiles) run(ctx context.Context, dir string, d *directory) error {
	out, err := kernel.Command{
		Dir: m.t.Build, Env: m.env, Name: "make",
		Args: []string{
			"-rR", "-s", "--no-print-directory", "-I", m.t.Source,
			"-f", filepath.Join(m.t.Source, "scripts/Makefile.build"), "obj=" + dir, "need-builtin=1", "need-modorder=1", "tsugi-list",
		},
	}.Run(ctx)
	if err != nil {
		return buildProblem("TS3107", dir, err, m.t.Source)
	}
	if err := d.parse(dir, out, strings.Fields(m.variable("ARCH_LIB"))); err != nil {
		return code.New("TS3107", dir, "").With(err)
	}
	return nil
}

// parse reads the output of tsugi-list.
func (d *directory) parse(dir string, out []byte, libs []string) error {
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 3 || len(f[0]) != 1 || f[2] != "s" && f[2] != "c" {
			continue // a makefile's own $(info) or a compiler probe
		}
		kind, name := f[0], f[1]
		if kind != "y" || dir == "." { // obj-y is the one list that Makefile.lib leaves without directory
			name = strings.TrimPrefix(name, dir+"/")
		}
		if path.IsAbs(name) || len(name) > 4096 {
			return fmt.Errorf("object %.100q", name)
		}
		if sub, ok := strings.CutSuffix(name, "/built-in.a"); ok && kind == "y" {
			d.Builtin = append(d.Builtin, join(dir, sub))
			continue
		}
		if sub, ok := strings.CutSuffix(name, "/modules.order"); ok && kind == "m" {
			d.Modules = append(d.Modules, join(dir, sub))
			continue
		}
		if !strings.HasSuffix(name, ".o") {
			continue
		}
		module := ""
		switch kind {
		case "m":
			module = kernel.ModuleName(strings.TrimSuffix(name, ".o"))
		case "l":
			if !slices.Contains(libs, dir+"/") {
				continue // an archive that something else than vmlinux is linked with
			}
		}
		parts := f[3:]
		if f[2] == "s" {
			parts = []string{name}
		}
		for _, p := range parts {
			if strings.HasSuffix(p, ".o") {
				d.Objects = append(d.Objects, Object{Path: join(dir, p), Module: module})
			}
		}
	}
	return nil
}

// join puts a name behind a directory as make does, without cleaning it.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

// reached tells how Kbuild comes to a directory from the top: to build its
// objects in, only for its modules, or not at all.
func (m *makefiles) reached(ctx context.Context, dir string) (builtin, modules bool, err error) {
	dir = path.Clean(dir)
	if dir == "." {
		return true, true, nil
	}
	type visit struct {
		dir     string
		builtin bool
	}
	seen := make(map[visit]bool)
	todo := []visit{{".", true}}
	for len(todo) > 0 {
		v := todo[0]
		todo = todo[1:]
		if seen[v] {
			continue
		}
		seen[v] = true
		if v.dir == dir {
			builtin, modules = builtin || v.builtin, true
			continue
		}
		d, err := m.eval(ctx, v.dir)
		if err != nil {
			return false, false, err
		}
		for _, sub := range d.Builtin {
			if within(dir, path.Clean(sub)) {
				todo = append(todo, visit{path.Clean(sub), v.builtin})
			}
		}
		for _, sub := range d.Modules {
			if within(dir, path.Clean(sub)) {
				todo = append(todo, visit{path.Clean(sub), v.builtin && slices.Contains(d.Builtin, sub)})
			}
		}
	}
	return builtin, modules, nil
}

func within(dir, parent string) bool {
	return parent == "." || dir == parent || strings.HasPrefix(dir, parent+"/")
}

// objectsOf finds the objects that a .c file is compiled to: usually one,
// none when this configuration does not build it, several when modules share
// the source.
func (m *makefiles) objectsOf(ctx context.Context, source string, rep progress.Reporter) ([]Object, error) {
	object := strings.TrimSuffix(source, path.Ext(source)) + ".o"
	index := m.known()
	objs := slices.Clone(index[object])
	if index == nil {
		var err error
		if objs, err = m.nearby(ctx, path.Dir(source), object); err != nil {
			return nil, err
		}
	}
	if index == nil && len(objs) == 0 {
		// Either it is not built, or by the makefile of another directory, as
		// virt/kvm by that of arch/x86/kvm.
		index, err := m.index(ctx, rep)
		if err != nil {
			return nil, err
		}
		objs = slices.Clone(index[object])
	}
	for i := range objs {
		objs[i].Source = source
	}
	return objs, nil
}

// nearby looks for an object in the lists of its directory and those above
// it. A makefile that stands for nothing by itself may be there, and fail; it
// is not one that Kbuild comes to.
func (m *makefiles) nearby(ctx context.Context, dir, object string) ([]Object, error) {
	dirs := ancestors(dir)
	var wg sync.WaitGroup
	for _, dir := range dirs {
		wg.Go(func() { _, _ = m.eval(ctx, dir) })
	}
	wg.Wait()
	var objs []Object
	for _, dir := range dirs {
		d, err := m.eval(ctx, dir)
		if err := kernel.Interrupted(ctx); err != nil {
			return nil, err
		}
		if err != nil {
			continue
		}
		for _, o := range d.Objects {
			if path.Clean(o.Path) != object || slices.Contains(objs, o) {
				continue
			}
			builtin, modules, err := m.reached(ctx, dir)
			if err != nil {
				return nil, err
			}
			if o.Module == "" && builtin || o.Module != "" && modules {
				objs = append(objs, o)
			}
		}
	}
	return objs, nil
}

// ancestors lists a directory and those above it, the top last.
func ancestors(dir string) []string {
	var list []string
	for ; dir != "."; dir = path.Dir(dir) {
		list = append(list, dir)
	}
	return append(list, ".")
}
