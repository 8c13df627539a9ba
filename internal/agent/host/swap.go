// SPDX-License-Identifier: Apache-2.0

package host

import (
	"cmp"
	"context"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/preflight"
)

// Fit judges a fixed module against this kernel.
func (m Modules) Fit(_ context.Context, r livepatch.Replacement, ko []byte) []*code.Problem {
	h, err := hostinfo.Read(cmp.Or(m.Root, "/"))
	if err != nil {
		return []*code.Problem{asProblem(err)}
	}
	f, err := preflight.ReadModule(ko)
	if err != nil {
		return []*code.Problem{asProblem(err)}
	}
	return preflight.Problems(preflight.Replacement(h, r, f))
}

// InUse says what uses a module.
func (m Modules) InUse(name string) string { return hostinfo.InUse(cmp.Or(m.Root, "/"), name) }

// Swap unloads a module by the kernel's own rules and loads the one on the
// disk, with what modprobe's configuration says of it. Once it is unloaded
// nothing interrupts that: the machine would be left without the module.
func (m Modules) Swap(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if use := m.InUse(name); use != "" {
		return code.New("TS9433", name, use)
	}
	remove := m.Remove
	if remove == nil {
		remove = func(name string) error { return unix.DeleteModule(name, unix.O_NONBLOCK) }
	}
	if err := remove(name); err != nil {
		return code.New("TS9433", name, "the kernel does not let it go").With(err)
	}
	return m.Restore(ctx, name)
}

// Restore loads a module, whatever ends meanwhile.
func (m Modules) Restore(ctx context.Context, name string) error {
	if err := m.run(context.WithoutCancel(ctx), "modprobe", name); err != nil {
		return code.New("TS9433", name, "").With(err)
	}
	return nil
}
