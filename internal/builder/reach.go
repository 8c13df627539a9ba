// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/kbuild"
)

// reach finds the objects that the fixes touch, and notes which of their files
// mean nothing on this target. With sourcesOnly, it looks at .c files of the
// fixes alone.
func (b *build) reach(ctx context.Context, sourcesOnly bool) ([]kbuild.Object, error) {
	r, err := kbuild.Reach(ctx, b.req.Target, b.fix, kbuild.ReachOptions{
		MaxObjects: b.req.MaxObjects, Tree: b.req.Kernel.Tree(), SourcesOnly: sourcesOnly,
	}, b.rep)
	if err != nil {
		return nil, err
	}
	for _, f := range r.Files {
		if f.Outcome != kbuild.Built {
			b.report.Unbuilt = append(b.report.Unbuilt, Unbuilt{Path: f.Path, Outcome: string(f.Outcome), Why: f.Why})
		}
	}
	return r.Objects, nil
}
