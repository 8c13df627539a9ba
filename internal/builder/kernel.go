// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/klp"
)

// Kernel is what builds for one target share: its symbol tables and its types,
// which take seconds to read. Builds may use it at the same time.
type Kernel struct {
	types  *kernelTypes
	target *klp.Target
}

// NewKernel reads what builds for a target share.
func NewKernel(t *kernel.Target) (*Kernel, error) {
	types, err := loadTypes(t)
	if err != nil {
		return nil, err
	}
	target, err := klp.ForKernel(t)
	if err != nil {
		return nil, err
	}
	return &Kernel{types: types, target: target}, nil
}
