// SPDX-License-Identifier: Apache-2.0

// Package local builds a program or library from source texts of one's own in
// two versions, and what turns processes of the first into processes of the
// second: the same steps as for a package of a distribution, without one. Tests
// and benchmarks have their processes from here.
package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/userland"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// Kind is what the sources are linked to.
type Kind string

// The kinds.
const (
	Shared Kind = "shared" // a library
	PIE    Kind = "pie"    // a program that lies anywhere
	Exec   Kind = "exec"   // a program that lies where it was linked
)

// Source is one file in both versions. A file that is the same in both is
// linked and not compared.
type Source struct {
	Name     string // "a.c", "b.cc", "c.s"
	Original string
	Patched  string
}

// Options say what to build.
type Options struct {
	Dir     string // an existing directory for everything that is made
	Name    string // the file's name; a library's DT_SONAME
	Kind    Kind
	Sources []Source
	CFlags  []string // behind -O2 and what the kind needs
	LDFlags []string
	// Strip takes the symbols out of the file that processes run, as
	// distributions do.
	Strip bool
}

// Result is what was built.
type Result struct {
	ELF        string // the original version, linked
	Unstripped string // the same with its symbols
	BuildID    string
	// Verdict is what the comparison found; Splice its splice.
	Verdict *build.Result
	Splice  *splice.File
}

// Build builds. The Result has the ELF file also when there is an error because
// the change can't be live.
func Build(ctx context.Context, o Options) (*Result, error) {
	var objects []string
	var units []build.Unit
	for _, s := range o.Sources {
		plain, err := compile(ctx, o, "original", s.Name, s.Original)
		if err != nil {
			return nil, err
		}
		objects = append(objects, plain)
		if s.Original == s.Patched {
			continue
		}
		u := build.Unit{Source: s.Name}
		if u.Plain, err = read(plain); err != nil {
			return nil, err
		}
		if u.Orig, err = object(ctx, o, "a", s.Name, s.Original); err != nil {
			return nil, err
		}
		if u.Patched, err = object(ctx, o, "b", s.Name, s.Patched); err != nil {
			return nil, err
		}
		units = append(units, u)
	}
	r := &Result{ELF: filepath.Join(o.Dir, o.Name), Unstripped: filepath.Join(o.Dir, o.Name+".unstripped")}
	if err := link(ctx, o, objects, r); err != nil {
		return nil, err
	}
	return r, compare(o, r, units)
}

// compare fills in the verdict.
func compare(o Options, r *Result, units []build.Unit) error {
	l, err := linked(o, r)
	if err != nil {
		return err
	}
	r.BuildID = l.File.BuildID
	if len(units) == 0 {
		return nil
	}
	r.Verdict, err = build.Splice(l, units, build.Options{})
	if err != nil {
		return err
	}
	r.Splice = r.Verdict.Splice
	var refused []error
	for _, p := range r.Verdict.Refusals {
		refused = append(refused, p.Problem)
	}
	return errors.Join(refused...)
}

// linked is the file that processes run, with the symbols that it had.
func linked(o Options, r *Result) (*build.Linked, error) {
	f, err := os.Open(r.ELF)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, err := dso.Open(f)
	if err != nil {
		return nil, err
	}
	return build.Open(&userland.Shipped{
		Path: r.ELF, File: r.ELF, BuildID: d.BuildID, Name: o.Name,
		SymbolsFrom: userland.SymbolsRebuilt, SymbolFile: r.Unstripped,
	})
}

func read(path string) (*elfobj.File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return elfobj.Read(b)
}

// object compiles a version so that it can be compared.
func object(ctx context.Context, o Options, version, name, text string) (*elfobj.File, error) {
	p, err := compile(ctx, o, version, name, text, "-ffunction-sections", "-fdata-sections", "-gbtf")
	if err != nil {
		return nil, err
	}
	return read(p)
}

// compile compiles a text under its name, whatever the version, so that nothing
// of the version's name is in the object.
func compile(ctx context.Context, o Options, version, name, text string, flags ...string) (string, error) {
	dir := filepath.Join(o.Dir, o.Name+"."+version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		return "", err
	}
	args := []string{"-O2", "-c", "-I", o.Dir}
	switch o.Kind {
	case Shared:
		args = append(args, "-fPIC")
	case PIE:
		args = append(args, "-fPIE")
	case Exec:
		args = append(args, "-fno-pie")
	}
	args = append(append(args, flags...), o.CFlags...)
	if err := run(ctx, dir, compiler(name), append(args, "-o", name+".o", name)...); err != nil {
		return "", err
	}
	return filepath.Join(dir, name+".o"), nil
}

func compiler(name string) string {
	if filepath.Ext(name) == ".cc" {
		return "g++"
	}
	return "gcc"
}

func link(ctx context.Context, o Options, objects []string, r *Result) error {
	args := append([]string{"-o", r.Unstripped, "-Wl,--build-id=sha1"}, objects...)
	switch o.Kind {
	case Shared:
		args = append(args, "-shared", "-Wl,-soname,"+o.Name)
	case PIE:
		args = append(args, "-pie")
	case Exec:
		args = append(args, "-no-pie")
	}
	with := "gcc"
	for _, s := range o.Sources {
		if compiler(s.Name) == "g++" {
			with = "g++"
		}
	}
	if err := run(ctx, o.Dir, with, append(args, o.LDFlags...)...); err != nil {
		return err
	}
	strip := []string{"-o", r.ELF, "--strip-debug", r.Unstripped}
	if o.Strip {
		strip[2] = "--strip-all"
	}
	return run(ctx, o.Dir, "strip", strip...)
}

func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(out.String()))
	}
	return nil
}
