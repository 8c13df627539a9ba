// SPDX-License-Identifier: Apache-2.0

package klp

import "context"

func build(ctx context.Context, t *Target, opts Options, inputs []Input) (*Module, error) {
	return nil, nil
}
