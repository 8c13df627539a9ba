// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// Where Debian's loader looks for libraries, and its shell for programs.
var (
	libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}
	programDirs = []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin"}
)

// equip puts into the machine what a package's proof needs: the package's own
// files at their own paths, the libraries that they need, from the system that
// the package was built in, and the reproducer's programs.
func (r *Request) equip(ctx context.Context, cfg *vm.Config, dir string) error {
	e := &equipment{root: r.Package.Root, files: map[string]vm.File{}, links: map[string]string{}, looked: map[string]bool{}}
	own, err := e.unpack(ctx, r.Package, dir)
	if err != nil {
		return err
	}
	for _, f := range r.Package.Files {
		if err := e.needs(e.files[f.Path].From, false); err != nil {
			return code.New("TS6122", f.Path, "").With(err)
		}
	}
	// Programs of the package that are not asked for may lack what they need: it
	// is not needed to build the package.
	for _, p := range own {
		if dir := path.Base(path.Dir(p)); dir == "bin" || dir == "sbin" {
			_ = e.needs(e.files[p].From, false)
		}
	}
	for _, name := range append([]string{"sleep"}, cfg.Programs...) {
		if err := e.program(name); err != nil {
			return code.New("TS6122", name, "").With(err)
		}
	}
	for _, c := range r.Package.C {
		bin, err := r.Package.compile(ctx, c, dir)
		if err != nil {
			return err
		}
		if err := e.needs(bin, false); err != nil {
			return code.New("TS6122", c.Name, "").With(err)
		}
		e.put("/bin/"+c.Name, bin, 0o755)
	}
	// What the loader opens late, for cancellation and exceptions.
	if p, ok := e.find("libgcc_s.so.1", nil, false); ok {
		e.put("/usr/lib/x86_64-linux-gnu/libgcc_s.so.1", p, 0o755)
	}
	for _, f := range []string{"/etc/passwd", "/etc/group"} {
		if p, ok := e.inRoot(f); ok && e.root != "/" {
			e.put(f, p, 0o644)
		}
	}
	cfg.Programs = nil
	size := int64(0)
	for _, f := range e.files {
		cfg.Files = append(cfg.Files, f)
		if st, err := os.Stat(f.From); err == nil {
			size += st.Size()
		}
	}
	cfg.Files = append(cfg.Files, vm.File{Path: packagePath, Data: r.Package.Artifact})
	if r.Package.Previous != nil {
		cfg.Files = append(cfg.Files, vm.File{Path: previousPackagePath, Data: r.Package.Previous})
	}
	cfg.Links = e.links
	if r.Memory == fewMemory { // the archive and what was unpacked of it lie there together
		r.Memory += 2 * int(size>>20)
	}
	cfg.Memory = r.Memory
	return nil
}

// equipment collects the files of a machine.
type equipment struct {
	root   string             // of the system that has what the package has not
	files  map[string]vm.File // by path in the machine
	links  map[string]string
	looked map[string]bool // files on this machine whose libraries are there
}

func (e *equipment) put(at, from string, mode os.FileMode) {
	if _, ok := e.files[at]; !ok {
		e.files[at] = vm.File{Path: at, From: from, Mode: mode}
	}
}

// unpack puts the package's own files into the machine and returns their paths.
func (e *equipment) unpack(ctx context.Context, p *Package, dir string) (own []string, err error) {
	for at, from := range p.Shipped {
		e.put(at, from, 0o755)
	}
	if p.Target != nil {
		root := filepath.Join(dir, "package")
		if err := p.Target.Unpack(ctx, root); err != nil {
			return nil, err
		}
		err := filepath.WalkDir(root, func(at string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(at, root)
			switch {
			case d.Type() == fs.ModeSymlink:
				to, err := os.Readlink(at)
				e.links[name] = to
				return err
			case d.Type().IsRegular():
				st, err := d.Info()
				if err != nil {
					return err
				}
				e.put(name, at, st.Mode().Perm())
				own = append(own, name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		// What was proven to be the file is what goes into the machine.
		for _, f := range p.Target.Files {
			e.files[f.Path] = vm.File{Path: f.Path, From: f.File, Mode: 0o755}
		}
	}
	for _, f := range p.Files {
		if _, ok := e.files[f.Path]; !ok {
			return nil, code.New("TS6122", f.Path, "the package does not have it")
		}
	}
	slices.Sort(own)
	return own, nil
}

// program puts a program into the machine: the package's, that of the system
// which has the rest, or this machine's.
func (e *equipment) program(name string) error {
	at := []string{name}
	if !strings.Contains(name, "/") {
		at = nil
		for _, d := range programDirs {
			at = append(at, d+"/"+name)
		}
	}
	for _, p := range at {
		if f, ok := e.files[p]; ok {
			return e.needs(f.From, false)
		}
	}
	for _, p := range at {
		if from, ok := e.inRoot(p); ok {
			e.put(p, from, 0o755)
			return e.needs(from, false)
		}
	}
	from, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	if from, err = filepath.Abs(from); err != nil {
		return err
	}
	e.put(path.Join("/bin", filepath.Base(name)), from, 0o755)
	return e.needs(from, true)
}

// needs puts the loader and the libraries of an ELF file into the machine. Other
// files need nothing. Only a program of this machine may take libraries from
// here: what others name is not to be believed.
func (e *equipment) needs(file string, here bool) error {
	if e.looked[file] {
		return nil
	}
	e.looked[file] = true
	f, err := elf.Open(file)
	if err != nil {
		if _, ok := errors.AsType[*elf.FormatError](err); ok {
			return nil
		}
		return err
	}
	defer f.Close()
	if interp := vm.Interpreter(f); interp != "" {
		from, ok := e.find(path.Base(interp), nil, here)
		if !ok {
			return fmt.Errorf("%s: its loader %s is not there", file, interp)
		}
		e.put(interp, from, 0o755)
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	var dirs []string
	for _, tag := range []elf.DynTag{elf.DT_RUNPATH, elf.DT_RPATH} {
		list, err := f.DynString(tag)
		if err != nil {
			return err
		}
		for _, l := range list {
			dirs = append(dirs, strings.Split(l, ":")...)
		}
	}
	if here {
		dirs = append(dirs, filepath.SplitList(os.Getenv("LD_LIBRARY_PATH"))...)
	}
	for _, l := range libs {
		from, ok := e.find(l, dirs, here)
		if !ok {
			return fmt.Errorf("%s: library %s is not there", file, l)
		}
		if !e.has(l, from) {
			e.put("/usr/lib/x86_64-linux-gnu/"+l, from, 0o755)
		}
		if err := e.needs(from, here); err != nil {
			return err
		}
	}
	return nil
}

// has tells whether the loader finds a library in the machine as it is.
func (e *equipment) has(name, from string) bool {
	for _, d := range libraryDirs {
		if f, ok := e.files[d+"/"+name]; ok && f.From == from {
			return true
		}
	}
	return false
}

// find finds a library: the package's own goes before that of the system beside
// it, and that, here, before this machine's.
func (e *equipment) find(name string, dirs []string, here bool) (string, bool) {
	if name != path.Base(name) {
		return "", false
	}
	dirs = append(slices.Clone(dirs), libraryDirs...)
	for _, d := range dirs {
		at := path.Join(d, name)
		for range 8 { // the package's links
			if f, ok := e.files[at]; ok && f.From != "" {
				return f.From, true
			}
			to, ok := e.links[at]
			if !ok {
				break
			}
			if at = to; !path.IsAbs(to) {
				at = path.Join(d, to)
			}
		}
	}
	for _, d := range dirs {
		if p, ok := e.inRoot(path.Join(d, name)); ok {
			return p, true
		}
	}
	if e.root != "/" && here {
		return (&equipment{root: "/"}).find(name, dirs, here)
	}
	return "", false
}

// inRoot finds a regular file of the system beside the package: links lead
// within that.
func (e *equipment) inRoot(name string) (string, bool) {
	rest, at := strings.Split(strings.Trim(path.Clean(name), "/"), "/"), "/"
	for hops := 0; len(rest) > 0; {
		next := path.Join(at, rest[0])
		rest = rest[1:]
		st, err := os.Lstat(filepath.Join(e.root, next))
		switch {
		case err != nil:
			return "", false
		case st.Mode()&fs.ModeSymlink == 0:
			at = next
		default:
			to, err := os.Readlink(filepath.Join(e.root, next))
			if hops++; err != nil || hops > 40 {
				return "", false
			}
			if path.IsAbs(to) {
				at = "/"
			}
			rest = append(strings.Split(strings.Trim(path.Clean(to), "/"), "/"), rest...)
		}
	}
	p := filepath.Join(e.root, at)
	st, err := os.Stat(p)
	return p, err == nil && st.Mode().IsRegular()
}

// libraries are the changed files that a stock program can load: programs are
// started by the reproducer.
func (p *Package) libraries() []string {
	var out []string
	for _, f := range p.Files {
		if strings.Contains(path.Base(f.Path), ".so") && !strings.HasPrefix(path.Base(f.Path), "ld-linux") {
			out = append(out, f.Path)
		}
	}
	return out
}
