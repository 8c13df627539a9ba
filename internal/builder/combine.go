// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"os"
	"path/filepath"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
)

// combine applies the fixes one after the other to the target's source, in
// memory, and makes one fix of the result: two fixes may touch one file, even
// one function. What a hunk needed beyond its exact place becomes a note.
// Documentation, other architectures and the like are left out before that,
// because a target's source need not hold them.
func (b *build) combine() error {
	source := b.req.Target.Source
	sum := fix.NewSum(func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(source, path)) })
	var last *fix.Fix
	for _, f := range b.req.Fixes {
		part, outcomes, err := kbuild.Relevant(b.req.Target, f)
		if err != nil {
			return err
		}
		for _, o := range outcomes {
			if o.Why != "" { // the others are for Reach to judge
				b.report.Unbuilt = append(b.report.Unbuilt, Unbuilt{Path: o.Path, Outcome: string(o.Outcome), Why: o.Why})
			}
		}
		last = part
		if len(part.Files) == 0 {
			continue
		}
		notes, err := sum.Add(part)
		if err != nil {
			return err
		}
		for _, n := range notes {
			b.report.Notes = append(b.report.Notes, f.ID+": "+n)
		}
	}
	b.sources = sum.Changes()
	if len(b.req.Fixes) == 1 {
		b.fix = last
		return nil
	}
	var err error
	b.fix, err = asFix(b.report.Name, b.sources)
	return err
}
