// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/kbuild"
)

// scope says how far reach looks.
type scope struct {
	sourcesOnly bool // at .c files of the fixes alone
	few         int  // at so many objects beside, those of the kernel proper first; 0: at all
}

// reach finds the objects that the fixes touch, and notes which of their files
// mean nothing on this target. It tells which objects it did not look at.
func (b *build) reach(ctx context.Context, how scope) ([]kbuild.Object, kbuild.Rest, error) {
	r, err := kbuild.Reach(ctx, b.req.Target, b.fix, kbuild.ReachOptions{
		MaxObjects: b.req.MaxObjects, Tree: b.req.Kernel.Tree(), SourcesOnly: how.sourcesOnly, Few: how.few,
	}, b.rep)
	if err != nil {
		return nil, kbuild.Rest{}, err
	}
	for _, f := range r.Files {
		if f.Outcome != kbuild.Built {
			b.report.Unbuilt = append(b.report.Unbuilt, Unbuilt{Path: f.Path, Outcome: string(f.Outcome), Why: f.Why})
		}
	}
	return r.Objects, r.Rest, nil
}
