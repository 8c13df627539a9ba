// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"fmt"
	"io/fs"
	"os"

	"github.com/tsugi-project/tsugi/internal/kernel"
)

// ForKernel reads of a prepared kernel target what this package needs.
func ForKernel(t *kernel.Target) (*Target, error) {
	img, err := t.Image()
	if err != nil {
		return nil, err
	}
	syms, err := img.Kallsyms()
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t.Name, err)
	}
	exports, err := t.Symvers()
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t.Name, err)
	}
	out := &Target{
		Name: t.Name, Image: img, Symbols: syms, Exports: exports,
		Link: KbuildLinker(t.MakeArgs()),
		Module: func(name string) ([]byte, error) {
			path, ok := t.ModulePath(name)
			if !ok {
				return nil, fmt.Errorf("module %s: %w", name, fs.ErrNotExist)
			}
			return os.ReadFile(path)
		},
	}
	if ms := t.Modules(); len(ms) > 0 {
		out.AnyModule = ms[0].Name
	}
	return out, nil
}
