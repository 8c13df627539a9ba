// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"
	"path"
	"slices"

	"github.com/tsugi-project/tsugi/internal/fix"
)

// assessSources judges a fix with headers by the objects of its own .c files
// alone. When those can't be live, and the kernel proper is among them, no
// other object would change the verdict or who is served by a module, and the
// thousands that include the headers need not be looked at. It reports whether
// that is so, or there is no answer for one of them; if not, nothing of it is
// left in the report.
func (b *build) assessSources(ctx context.Context) (bool, error) {
	if !b.req.Assess || !slices.ContainsFunc(b.fix.Files, func(d fix.FileDiff) bool { return path.Ext(d.Path) == ".h" }) {
		return false, nil
	}
	before := *b.report
	objs, err := b.reach(ctx, true)
	if err != nil {
		return false, err
	}
	pairs, err := b.compile(ctx, objs)
	if err != nil {
		return false, err
	}
	if err := b.compare(ctx, pairs); err != nil {
		return false, err
	}
	if _, err := b.fitStructs(ctx, objs, pairs, before); err != nil {
		return false, err
	}
	if len(b.report.Failed) > 0 {
		return true, nil
	}
	inKernel := slices.ContainsFunc(b.report.Objects, func(o Object) bool { return o.Diff != nil && o.Module == "" })
	if len(b.report.Refusals) > 0 && inKernel {
		return true, nil
	}
	*b.report = before
	b.inputs, b.spare = nil, nil
	return false, nil
}
