// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// library is a shared library and where a program in the guest looks for it.
type library struct{ host, guest string }

// sharedLibraries returns the dynamic loader and all the libraries of an ELF
// program, or nothing for a static one. It follows DT_NEEDED through the
// directories that Debian's loader knows, DT_RUNPATH and DT_RPATH.
func sharedLibraries(bin string) ([]library, error) {
	f, err := elf.Open(bin)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	interp := Interpreter(f)
	if interp == "" {
		return nil, nil
	}
	libs := []library{{host: interp, guest: interp}}
	seen := map[string]bool{}
	queue := []string{bin}
	for len(queue) > 0 {
		cur := queue[0]
		queue = queue[1:]
		needed, dirs, err := dynamic(cur, f.Class)
		if err != nil {
			return nil, err
		}
		for _, n := range needed {
			if seen[n] || n == filepath.Base(interp) {
				continue
			}
			seen[n] = true
			p, err := findLibrary(n, dirs, f)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", cur, err)
			}
			libs = append(libs, library{host: p, guest: "/lib/" + n})
			queue = append(queue, p)
		}
	}
	return libs, nil
}

// Interpreter is the dynamic loader that an ELF file asks for (PT_INTERP), "" where
// it asks for none.
func Interpreter(f *elf.File) string {
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz == 0 || p.Filesz > 4096 {
			continue
		}
		b := make([]byte, p.Filesz)
		if _, err := p.ReadAt(b, 0); err != nil {
			return ""
		}
		return strings.TrimRight(string(b), "\x00")
	}
	return ""
}

func dynamic(bin string, class elf.Class) (needed, dirs []string, err error) {
	f, err := elf.Open(bin)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if f.Class != class {
		return nil, nil, errors.New("library of another word size")
	}
	if needed, err = f.ImportedLibraries(); err != nil {
		return nil, nil, err
	}
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		paths, err := f.DynString(tag)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range paths {
			for d := range strings.SplitSeq(p, ":") {
				dirs = append(dirs, strings.NewReplacer("$ORIGIN", filepath.Dir(bin), "${ORIGIN}", filepath.Dir(bin)).Replace(d))
			}
		}
	}
	return needed, dirs, nil
}

func findLibrary(name string, dirs []string, want *elf.File) (string, error) {
	triplet := map[elf.Machine]string{elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu"}[want.Machine]
	dirs = append(dirs, "/lib/"+triplet, "/usr/lib/"+triplet, "/lib64", "/usr/lib64", "/lib", "/usr/lib")
	for _, d := range dirs {
		p := filepath.Join(d, name)
		if fi, err := os.Stat(p); err != nil || !fi.Mode().IsRegular() {
			continue
		}
		f, err := elf.Open(p)
		if err != nil {
			continue // a linker script of the same name
		}
		same := f.Class == want.Class && f.Machine == want.Machine
		f.Close()
		if same {
			return p, nil
		}
	}
	return "", fmt.Errorf("library %s: not found", name)
}

// initProgram returns the path of the program that becomes process 1: the
// caller's choice, or the running program. It has to be static, because a
// dynamic one would need its libraries at their own paths before anything
// can report an error.
func initProgram(bin string) (string, error) {
	if bin == "" {
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		bin = self
	}
	f, err := elf.Open(bin)
	if err != nil {
		return "", problem("TS6004", bin, "").With(err)
	}
	defer f.Close()
	if ip := Interpreter(f); ip != "" {
		return "", problem("TS6004", bin, "it needs the dynamic loader "+ip)
	}
	return bin, nil
}
