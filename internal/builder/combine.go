// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"fmt"
	"io/fs"
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
	now := map[string]fix.Change{} // against the pristine source
	read := func(path string) ([]byte, error) {
		if c, ok := now[path]; ok {
			if c.Deleted {
				return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
			}
			return c.New, nil
		}
		return os.ReadFile(filepath.Join(b.req.Target.Source, path))
	}
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
		changes, err := part.Apply(read)
		if err != nil {
			return err
		}
		for _, c := range changes {
			for _, n := range c.Notes {
				b.report.Notes = append(b.report.Notes, fmt.Sprintf("%s: %s: %s", f.ID, c.Path, n))
			}
			c.Notes = nil
			if before, ok := now[c.Path]; ok {
				c.Old, c.Created = before.Old, before.Old == nil
			}
			now[c.Path] = c
		}
	}
	b.sources = now
	if len(b.req.Fixes) == 1 {
		b.fix = last
		return nil
	}
	var err error
	b.fix, err = asFix(b.report.Name, now)
	return err
}
