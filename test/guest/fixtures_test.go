// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
	"github.com/tsugi-project/tsugi/internal/userland/local"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// fixture is what all machines of the tests have.
type fixture struct {
	programs []string
	files    []vm.File
}

var made = sync.OnceValues(func() (fixture, error) { return build(initDir) })

func fixtures(t *testing.T) fixture {
	t.Helper()
	need.Program(t, "gcc")
	f, err := made()
	qt.Assert(t, qt.IsNil(err))
	return fixture{f.programs[:len(f.programs):len(f.programs)], f.files[:len(f.files):len(f.files)]}
}

const scenarios = "../scenarios/testdata"

// build compiles the programs, and what patches each of them.
func build(dir string) (fixture, error) {
	header, err := os.ReadFile(filepath.Join(scenarios, "control.h"))
	if err != nil {
		return fixture{}, err
	}
	if err := os.WriteFile(filepath.Join(dir, "control.h"), header, 0o644); err != nil {
		return fixture{}, err
	}
	var f fixture
	for _, p := range []struct {
		name  string
		kind  local.Kind
		files []string
		flags []string // of the compiler
		link  []string
	}{
		{name: "states", kind: local.PIE, files: []string{"testdata/states.c", scenarios + "/control.c"}, link: []string{"-pthread"}},
		{name: "still", kind: local.Exec, files: []string{"testdata/states.c", scenarios + "/control.c"}, link: []string{"-static", "-pthread"}},
		{name: "ring", kind: local.PIE, files: []string{"testdata/ring.c", scenarios + "/control.c"}, link: []string{"-pthread"}},
		{name: "late.so", kind: local.Shared, files: []string{scenarios + "/library.c"}, flags: []string{"-DLATE"}},
	} {
		o := local.Options{Dir: dir, Name: p.name, Kind: p.kind, CFlags: p.flags, LDFlags: p.link}
		for i, file := range p.files {
			text, err := os.ReadFile(file)
			if err != nil {
				return f, err
			}
			level := func(n int) string { return fmt.Sprintf("#define LEVEL %d\n#line 1\n%s", n, text) }
			s := local.Source{Name: filepath.Base(file), Original: level(0), Patched: level(0)}
			if i == 0 { // control.c is the same in both
				s.Patched = level(1)
			}
			o.Sources = append(o.Sources, s)
		}
		r, err := local.Build(context.Background(), o)
		if err != nil {
			return f, fmt.Errorf("%s: %w", p.name, err)
		}
		patch, err := r.Splice.Encode()
		if err != nil {
			return f, err
		}
		f.files = append(f.files, vm.File{Path: patchOf(p.name), Data: patch})
		if p.kind == local.Shared {
			f.files = append(f.files, vm.File{Path: "/lib/" + p.name, From: r.ELF, Mode: 0o755})
		} else {
			f.programs = append(f.programs, r.ELF)
		}
	}
	bits := filepath.Join(dir, "bits32")
	args := []string{"-m32", "-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie", "-fno-stack-protector", "-o", bits, "testdata/bits32.c"}
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		return f, fmt.Errorf("%w\n%s", err, out)
	}
	f.programs = append(f.programs, bits)
	return f, nil
}
