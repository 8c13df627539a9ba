// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/klp"
)

// Kernel is what builds for one target share: its makefiles, symbol tables and
// types, which take seconds to read. Builds may use it at the same time.
type Kernel struct {
	tree   *kbuild.Tree
	types  *kernelTypes
	target *klp.Target
}

// NewKernel reads what builds for a target share.
func NewKernel(ctx context.Context, t *kernel.Target) (*Kernel, error) {
	tree, err := kbuild.Open(ctx, t)
	if err != nil {
		return nil, err
	}
	types, err := loadTypes(t)
	if err != nil {
		return nil, err
	}
	target, err := klp.ForKernel(t)
	if err != nil {
		return nil, err
	}
	return &Kernel{tree: tree, types: types, target: target}, nil
}

// Tree is what the target's makefiles and source say.
func (k *Kernel) Tree() *kbuild.Tree {
	if k == nil {
		return nil
	}
	return k.tree
}
