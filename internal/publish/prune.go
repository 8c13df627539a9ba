// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// keepOld is how long a file stays after no metadata names it any more: a
// machine that began to fetch, or a mirror that copies, may still need it.
const keepOld = 7 * 24 * time.Hour

// freshen is the age from which a file that is named again is written again,
// so that no other server removes it as old in that moment.
const freshen = 24 * time.Hour

// Prune removes what is served below tuf/ and named by nothing for a week:
// old metadata, indexes, live patches that were blocked. Roots stay for ever.
func (s *Service) Prune(ctx context.Context) error {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	named := map[string]bool{}
	for name := range r.Files() {
		named[metadataDir+name] = true
	}
	for _, tier := range r.Tiers() {
		for path, t := range r.Targets(tier) {
			named[targetsDir+t.FilePath(path)] = true
		}
	}
	var old []blob.Info
	for _, dir := range []string{metadataDir, targetsDir} {
		for info, err := range s.blobs.List(ctx, dir) {
			if err != nil {
				return fmt.Errorf("list %s: %w", dir, err)
			}
			if !named[info.Name] && !strings.HasSuffix(info.Name, "."+repo.RoleRoot+".json") && s.now().Sub(info.Modified) > keepOld {
				old = append(old, info)
			}
		}
	}
	for _, info := range old {
		if err := s.blobs.Delete(ctx, info.Name); err != nil {
			return fmt.Errorf("delete %s: %w", info.Name, err)
		}
	}
	if len(old) > 0 {
		s.log.Info("old files of the repository removed", "count", len(old))
	}
	return nil
}
