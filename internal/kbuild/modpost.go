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
	"strings"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

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
