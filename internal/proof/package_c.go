// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// CProgram is a C program within a reproducer.
type CProgram struct {
	Name   string
	Flags  []string
	Source string
}

// cProgram finds the text of a C program in a script: a document for a command
// that does nothing.
//
//	# tsugi: c show -lcrypto
//	: <<'show.c'
//	int main(void) { … }
//	show.c
func cProgram(script, name string, flags []string) (CProgram, error) {
	if name != path.Base(name) || strings.HasPrefix(name, ".") {
		return CProgram{}, fmt.Errorf("c %s: not a name", name)
	}
	_, rest, ok := strings.Cut("\n"+script, "\n: <<'"+name+".c'\n")
	if !ok {
		return CProgram{}, fmt.Errorf("c %s: no line says : <<'%s.c'", name, name)
	}
	source, _, ok := strings.Cut("\n"+rest, "\n"+name+".c\n")
	if !ok {
		return CProgram{}, fmt.Errorf("c %s: no line %s.c ends it", name, name)
	}
	return CProgram{Name: name, Flags: flags, Source: source[1:] + "\n"}, nil
}

// compile makes a program of a reproducer: in the root that the package was
// built in, where its source is, against the libraries as they were shipped.
func (p *Package) compile(ctx context.Context, c CProgram, dir string) (string, error) {
	out := filepath.Join(dir, "c-"+c.Name)
	if err := os.Mkdir(out, 0o755); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(out, c.Name+".c"), []byte(c.Source), 0o644); err != nil {
		return "", err
	}
	if err := p.linkable(out); err != nil {
		return "", err
	}
	inside, bin := out, filepath.Join(out, c.Name)
	args := []string{"-O1"}
	if p.Target != nil {
		inside = "/tsugi/out"
	}
	args = append(args, "-o", inside+"/"+c.Name, inside+"/"+c.Name+".c", "-L"+inside, "-Wl,-rpath-link,"+inside)
	args = append(args, c.Flags...)
	var said []byte
	var err error
	if p.Target != nil {
		said, err = p.Target.Run(ctx, userland.Run{Argv: append([]string{"gcc"}, args...), Out: out})
	} else {
		said, err = exec.CommandContext(ctx, "gcc", args...).CombinedOutput()
	}
	if err != nil {
		if failed, ok := errors.AsType[*kernel.ExitError](err); ok {
			said = failed.Output
		}
		return "", code.New("TS6127", c.Name, strings.TrimSpace(string(said))).With(err)
	}
	// The compiler is told what to do by whoever wrote the reproducer.
	if st, err := os.Lstat(bin); err != nil || !st.Mode().IsRegular() {
		return "", code.New("TS6127", c.Name, "the compiler made no program").With(err)
	}
	return bin, nil
}

// linkable puts the package's libraries where the linker looks: libX.so for
// libX.so.3.
func (p *Package) linkable(dir string) error {
	files := map[string]string{}
	for at, from := range p.Shipped {
		files[path.Base(at)] = from
	}
	if p.Target != nil {
		for _, f := range p.Target.Files {
			if slices.Contains(libraryDirs, path.Dir(f.Path)) {
				files[f.Name] = f.File
			}
		}
	}
	for name, from := range files {
		stem, _, ok := strings.Cut(name, ".so")
		if !ok || !strings.HasPrefix(name, "lib") || strings.HasPrefix(name, "libc.so") {
			continue // libc's are not libraries that one links by these names
		}
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		for _, n := range slices.Compact([]string{name, stem + ".so"}) {
			if err := os.WriteFile(filepath.Join(dir, n), b, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}
