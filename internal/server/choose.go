// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
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
// needed for it, until the context ends. Every replica does; the store sees to
// it that each selection is built once.
func (s *Server) keepChoosing(ctx context.Context) error {
	ticker := time.NewTicker(chooseInterval)
	defer ticker.Stop()
	for {
		if err := s.choose(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("policies could not be followed", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-s.choosing:
		}
	}
}

// choose does it once.
func (s *Server) choose(ctx context.Context) error {
	if err := s.readBook(ctx); err != nil {
		return err
	}
	wanted, err := s.publish.Choose(ctx)
	if err != nil {
		return err
	}
	if err := s.jobs.DropUnwanted(ctx); err != nil {
		return err
	}
	for _, w := range wanted {
		u := api.JobUpdate{
			Series: w.Updates, Selection: w.Selection, Policy: jobs.PolicyWire(w.Policy), At: w.At.UnixMilli(), Policies: w.Policies,
		}
		made, err := s.jobs.SubmitUpdate(ctx, w.Target, w.Title, u, w.Pushed)
		if err != nil {
			return err
		}
		if made {
			s.log.Info("selection is to be built", "target", w.Target, "selection", w.Selection, "policies", w.Policies)
		}
	}
	return nil
}
