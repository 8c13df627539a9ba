// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/jobs"
)

// chooseInterval is how often is looked whether time has changed what policies
// choose: exclusions end by themselves.
const chooseInterval = time.Minute

// chooseSoon has policies looked at soon, because something has changed.
func (s *Server) chooseSoon() { poke(s.choosing) }

// keepChoosing brings up to date what policies choose, and has built what is
// needed for it, until the context ends. Every replica does: what two do at
// the same time is settled in the store, which has one open job of a choice.
func (s *Server) keepChoosing(ctx context.Context) error {
	ticker := time.NewTicker(chooseInterval)
	defer ticker.Stop()
	said := ""
	for {
		err := s.choose(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			s.chosen.Store(s.now().UnixMilli())
			said = ""
		default:
			s.metrics.chooseFailures.Inc()
			if err.Error() != said { // not every minute the same
				s.log.Error("policies could not all be followed", "err", err)
			}
			said = err.Error()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-s.choosing:
		}
	}
}

// choose does it once. What can't be done for one policy or target does not
// keep the others from it.
func (s *Server) choose(ctx context.Context) error {
	s.exposures.clear() // exclusions may have ended
	if err := s.readBook(ctx); err != nil {
		return err
	}
	wanted, failed := s.publish.Choose(ctx)
	failed = errors.Join(failed, s.jobs.DropUnwanted(ctx))
	for _, w := range wanted {
		u := api.JobUpdate{
			Series: w.Updates, Selection: w.Selection, Again: w.Again, Policy: jobs.PolicyWire(w.Policy), At: w.At.UnixMilli(), Policies: w.Policies,
		}
		made, err := s.jobs.SubmitUpdate(ctx, w.Target, w.Title, u, w.Pushed)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("job for %s: %w", w.Target, err))
		}
		if made {
			s.log.Info("selection is to be built", "target", w.Target, "selection", w.Selection, "policies", w.Policies)
		}
	}
	return failed
}
