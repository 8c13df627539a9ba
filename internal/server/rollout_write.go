// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
)

// commit stores a step and what it changes, in parts that are each a step of
// their own, before memory and machines learn of it.
func (s *Server) commit(ctx context.Context, r *moving, st rollout.Step, now time.Time) error {
	for first := true; first || len(st.Machines) > 0; first = false {
		part := st
		part.Machines = st.Machines[:min(len(st.Machines), maxStep)]
		st.Machines = st.Machines[len(part.Machines):]
		line := store.RolloutStep{
			What: string(part.What), Wave: part.Wave + 1, Machines: len(part.Machines), Failure: string(part.Failure), Why: part.Why, Actor: rolloutActor,
		}
		err := s.write(ctx, r, &line, func(head *rollout.State, records map[string]*rollout.Record) map[string]*rollout.Record {
			head.Records = map[string]*rollout.Record{}
			for _, m := range part.Machines {
				if rec := records[m.Machine]; rec != nil {
					c := *rec
					head.Records[m.Machine] = &c
				}
			}
			head.Take(part, now)
			return head.Records
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// changer makes of a rollout what it shall be: see write.
type changer func(head *rollout.State, records map[string]*rollout.Record) map[string]*rollout.Record

// write stores what change makes of a rollout, under the revision that it was
// made from, and then lets memory and machines have it. change returns the
// machines that it changes, as copies; refused, if it is not nil, is asked then
// whether there is anything to store. checks are asked with what is stored.
func (s *Server) write(ctx context.Context, r *moving, line *store.RolloutStep, change changer, refused func() error, checks ...rolloutCheck) error {
	r.mu.RLock()
	head, row := *r.state, r.row
	head.Approvals = slices.Clone(head.Approvals)
	before := head.Phase
	changed := change(&head, r.state.Records)
	r.mu.RUnlock()
	if refused != nil {
		if err := refused(); err != nil {
			return err
		}
	}
	head.Records = nil
	b, err := json.Marshal(head)
	if err != nil {
		return err
	}
	row.State, row.Phase = b, string(head.Phase)
	if head.Phase != before || head.Phase.Over() || row.Summary == nil {
		if b := s.summary(ctx, r, head, changed); b != nil {
			row.Summary = b
		}
	}
	rows := make([]store.RolloutMachine, 0, len(changed))
	for _, id := range slices.Sorted(maps.Keys(changed)) {
		rec := changed[id]
		b, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		rows = append(rows, store.RolloutMachine{Machine: id, Status: string(rec.Status), Wave: rec.Wave, Body: b})
	}
	base := row
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		if row, err = tx.SaveRollout(ctx, base, rows, []store.RolloutStep{*line}); err != nil {
			return err
		}
		for _, check := range checks {
			if err := check(ctx, tx, &head, row); err != nil {
				return err
			}
		}
		if !told(line) {
			return nil
		}
		return tx.Audit(ctx, store.AuditEntry{
			Actor: line.Actor, Action: "rollout." + line.What, Object: r.id, Detail: fmt.Sprintf("%s in tier %s: %s", r.patch, r.tier, line.Why),
		})
	})
	if err != nil {
		return err
	}
	if line.Actor == rolloutActor {
		s.metrics.rolloutSteps.WithLabelValues(line.What).Inc()
	}
	moved := r.take(row, head, changed)
	if head.Phase != before {
		s.log.Info("rollout", "rollout", r.id, "patch", r.patch, "tier", r.tier, "phase", string(head.Phase), "why", head.Reason)
	}
	if head.Phase == rollout.Done && before != rollout.Done {
		s.wakeSoon()
	}
	for _, id := range moved {
		s.waiters.wake(id)
	}
	return nil
}

// told reports whether a line is one for the audit log: what was decided, and
// not what was seen of machines or follows from a decision that is there.
func told(line *store.RolloutStep) bool {
	switch rollout.What(line.What) {
	case rollout.Offer, rollout.Withdraw, rollout.MarkLate, rollout.MarkLeft, rollout.MarkOn, rollout.MarkBack, rollout.MarkWell:
		return false
	}
	return true
}
