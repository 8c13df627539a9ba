// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"context"
	"fmt"
	"sync"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/kimage"
)

// Vmlinux is the name of the kernel proper where livepatch wants an object's name.
const Vmlinux = "vmlinux"

// Target is the kernel that a live patch is for, as this package needs it.
// Symbol tables are indexed once and kept, so a Target serves many builds; its
// methods may be called concurrently.
type Target struct {
	Name    string // for messages
	Image   *kimage.Image
	Symbols []kimage.Symbol          // kallsyms, in its own order
	Exports map[string]kernel.Export // Module.symvers
	// Module returns the bytes of a shipped module, decompressed; an error
	// that wraps fs.ErrNotExist when the target has no such module.
	Module func(name string) ([]byte, error)
	// AnyModule names a shipped module, which shows what the loader wants.
	AnyModule string
	// Link runs the kernel's own Kbuild over the external module directory dir
	// ("make M=dir") and returns what make printed.
	Link func(ctx context.Context, dir string) ([]byte, error)

	mu     sync.Mutex
	owners map[string]*owner
	sealed map[string]seals
}

// owner returns the symbol space of a module, or of the kernel proper for "".
func (t *Target) owner(name string) (*owner, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.owners[name]; o != nil {
		return o, nil
	}
	o, err := t.open(name)
	if err != nil {
		return nil, err
	}
	if t.owners == nil {
		t.owners = map[string]*owner{}
	}
	t.owners[name] = o
	return o, nil
}

func (t *Target) open(name string) (*owner, error) {
	if name == "" {
		return newKernelOwner(t.Image, t.Symbols), nil
	}
	ko, err := t.Module(name)
	if err != nil {
		return nil, code.New("TS5101", name, fmt.Sprintf("module of %s", t.Name)).With(err)
	}
	f, err := elfobj.Read(ko)
	if err != nil {
		return nil, code.New("TS5101", name, fmt.Sprintf("module of %s", t.Name)).With(err)
	}
	return newModuleOwner(name, f), nil
}
