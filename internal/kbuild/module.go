// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// BuiltModule is an external module as kbuild made it.
type BuiltModule struct {
	Path   string // of the .ko
	Output string // what make printed, with the warnings of modpost
}

// Module builds the external module in dir, which holds a Kbuild file with
// one obj-m, against a target. Symbols that modpost cannot resolve are
// warnings, for a live patch resolves them otherwise: look for them in
// Output. Equal sources in any directory give equal bytes: no debug
// information, no BTF, no time and no path goes into the module.
func Module(ctx context.Context, t *kernel.Target, dir string) (*BuiltModule, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(dir, " \t\n:$#\\'\"") {
		return nil, code.New("TS3110", dir, "make takes no directory with such a character in its name")
	}
	args := append(t.MakeArgs(),
		fmt.Sprintf("-j%d", runtime.NumCPU()), "M="+dir, "KBUILD_MODPOST_WARN=1",
		"KCFLAGS=-g0 -ffile-prefix-map="+dir+"/=", "KAFLAGS=-g0 -ffile-prefix-map="+dir+"/=",
		"CONFIG_DEBUG_INFO_BTF_MODULES=", "modules")
	out, err := kernel.Command{Name: "make", Args: args, Merge: true}.Run(ctx)
	if err != nil {
		return nil, buildProblem("TS3110", filepath.Base(dir), err, dir, t.Source)
	}
	kos, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return nil, err
	}
	if len(kos) != 1 {
		return nil, code.New("TS3110", filepath.Base(dir), fmt.Sprintf("%d modules were built, one was expected", len(kos)))
	}
	return &BuiltModule{Path: kos[0], Output: string(out)}, nil
}
