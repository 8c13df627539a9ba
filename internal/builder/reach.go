// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/kbuild"
)

func (b *build) reach(ctx context.Context) ([]kbuild.Object, error) {
	return []kbuild.Object{{Path: "fs/ext4/mballoc.o", Source: "fs/ext4/mballoc.c", Module: "ext4"}}, nil
}
