// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// keepOld is how long a file stays after no metadata names it any more: a
// machine that began to fetch, or a mirror that copies, may still need it.
const keepOld = 7 * 24 * time.Hour

// freshen is the age from which a file that is named again is written again,
// so that no other server removes it as old in that moment.
const freshen = 24 * time.Hour

// Prune removes what is named by nothing for a week: of what is served below
// tuf/ old metadata, indexes and live patches that were blocked, and what was
// pushed and has been replaced. Roots stay for ever.
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
	if err := s.pushedNames(ctx, named); err != nil {
		return err
	}
	var old []blob.Info
	for _, dir := range []string{metadataDir, targetsDir, updateDir} {
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
		s.log.Info("old files removed", "count", len(old))
	}
	return nil
}

// pushedNames adds what was pushed and is still chosen from, or is being built
// by a job that will ask for it.
func (s *Service) pushedNames(ctx context.Context, named map[string]bool) error {
	updates, err := s.store.Updates(ctx, "")
	if err != nil {
		return err
	}
	for _, u := range updates {
		named[pushedName(u.Digest)] = true
	}
	for _, state := range []store.JobState{store.JobQueued, store.JobRunning} {
		f := store.JobFilter{State: state}
		for {
			jobs, err := s.store.Jobs(ctx, f)
			if err != nil {
				return err
			}
			for _, j := range jobs {
				var spec struct { // of package jobs
					Update *struct {
						Series []string `json:"series"`
					} `json:"update"`
				}
				if json.Unmarshal(j.Spec, &spec) == nil && spec.Update != nil {
					for _, digest := range spec.Update.Series {
						named[pushedName(digest)] = true
					}
				}
			}
			if len(jobs) == 0 {
				break
			}
			f.Before = jobs[len(jobs)-1].ID
		}
	}
	return nil
}
