// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"
	"path"
	"slices"

	"github.com/tsugi-project/tsugi/internal/fix"
)

// samples are the objects that are judged before all of them: they cost
// seconds, and tell the most common reason why a header can't change.
func samples() []scope { return []scope{{sourcesOnly: true}, {few: 4}, {few: 24}} }

// assessFew judges a fix with headers by the objects of its own .c files alone,
// and then by these and a few others. When those can't be live, no other object
// would make the fix live, and the thousands that include the headers need not
// be looked at, unless they could still tell whether the kernel proper changes:
// where it does not, fixed modules serve. It reports whether there is a verdict,
// or no answer for an object; if not, nothing of it is left in the report.
func (b *build) assessFew(ctx context.Context) (bool, error) {
	if !b.req.Assess || !slices.ContainsFunc(b.fix.Files, func(d fix.FileDiff) bool { return path.Ext(d.Path) == ".h" }) {
		return false, nil
	}
	before := *b.report
	all := samples()
	for i, how := range all {
		objs, rest, err := b.reach(ctx, how)
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
		if _, err := b.fitStructs(ctx, objs, pairs, before, true); err != nil {
			return false, err
		}
		b.report.Rest = rest
		if b.decided(i == len(all)-1) {
			return true, nil
		}
		*b.report = before
		b.inputs, b.spare = nil, nil
		if !rest.Any {
			break
		}
	}
	return false, nil
}

// decided tells whether what was found of some objects is the verdict of all.
func (b *build) decided(last bool) bool {
	switch {
	case len(b.report.Failed) > 0:
		return true
	case len(b.report.Refusals) == 0:
		return false
	}
	// With the last of them, that it takes a reboot is enough.
	return last || b.report.ChangesKernel() || !b.report.Rest.Kernel
}

// ChangesKernel tells whether an object of the kernel proper was found to change.
func (r *Report) ChangesKernel() bool {
	return slices.ContainsFunc(r.Objects, func(o Object) bool { return o.Diff != nil && o.Module == "" })
}
