// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store/query"
)

// Rollout is a live patch on its way through a tier.
type Rollout struct {
	ID        string
	LivePatch string
	Tier      string
	Plan      []byte // JSON
	State     []byte // JSON: what was decided, without the machines
	Summary   []byte // JSON: how it stood when it was saved; nil: never yet
	Phase     string // of the state: "done" and "aborted" are the ends
	Revision  int64  // grows by one with each change; 1 is the first
	Steps     int64  // in its log
	Created   int64
	CreatedBy string
	Changed   int64
}

// RolloutMachine is a machine that was offered a rollout's live patch.
type RolloutMachine struct {
	Rollout  string
	Machine  string
	Revision int64 // of the rollout when this changed last
	Status   string
	Wave     int
	Body     []byte // JSON
}

// RolloutStep is a line of a rollout's log.
type RolloutStep struct {
	Rollout  string
	Seq      int64 // 1 is the first
	Time     int64
	What     string
	Wave     int
	Machines int
	Failure  string
	Why      string
	Actor    string
}

// RolloutFilter chooses rollouts; zero fields choose all. The newest come
// first.
type RolloutFilter struct {
	LivePatch string
	Tier      string
	Open      bool   // only those that are not over
	Before    string // id: the older ones
	Limit     int    // 0: 1,000
}

// RolloutMachineFilter chooses machines of a rollout; zero fields choose all.
// They come in the order of their ids.
type RolloutMachineFilter struct {
	Status string
	Wave   *int
	After  string
	Limit  int // 0: 1,000
}

// CreateRollout stores a rollout; id, revision and times are made here, unless
// it has an id. ErrConflict if the live patch is on its way through the tier
// already, ErrNotFound if there is no such live patch.
func (tx *Tx) CreateRollout(ctx context.Context, r Rollout) (Rollout, error) {
	r.Created, r.Changed, r.Revision, r.Steps, r.Summary = tx.now, tx.now, 1, 0, nil
	tx.changed(KindRollout, r.ID)
	return r, named(tx.s.translate(tx.q.InsertRollout(ctx, query.InsertRolloutParams{
		ID: r.ID, Livepatch: r.LivePatch, Tier: r.Tier, Plan: text(string(r.Plan)), State: text(string(r.State)), Phase: r.Phase,
		Created: r.Created, CreatedBy: text(r.CreatedBy),
	})), "rollout of %s in tier %s", r.LivePatch, r.Tier)
}

// SaveRollout stores what was decided: state, summary and phase, the machines
// that it changes, and the lines of the log. r.Revision is the one that it was
// decided by. ErrConflict if that is not the stored one any more: another
// server, or a person, was faster. TS8106 if it was over and would begin again
// while another one takes the live patch through the tier. It returns the new
// revision.
func (tx *Tx) SaveRollout(ctx context.Context, r Rollout, machines []RolloutMachine, steps []RolloutStep) (Rollout, error) {
	n, err := tx.q.UpdateRollout(ctx, query.UpdateRolloutParams{
		ID: r.ID, Revision: r.Revision, State: text(string(r.State)), Summary: text(string(r.Summary)), Phase: r.Phase,
		Added: int64(len(steps)), Changed: tx.now,
	})
	switch err = tx.s.translate(err); {
	case errors.Is(err, ErrConflict): // rollouts_open
		return r, code.New("TS8106", r.LivePatch, "in tier "+r.Tier).With(err)
	case err == nil && n == 0:
		err = ErrConflict
	}
	if err != nil {
		return r, named(err, "rollout %s", r.ID)
	}
	r.Revision, r.Changed = r.Revision+1, tx.now
	for _, m := range machines {
		if err := tx.q.SaveRolloutMachine(ctx, query.SaveRolloutMachineParams{
			Rollout: r.ID, Machine: m.Machine, Revision: r.Revision, Status: m.Status, Wave: int64(m.Wave), Body: text(string(m.Body)),
		}); err != nil {
			return r, named(tx.s.translate(err), "machine %s of rollout %s", m.Machine, r.ID)
		}
	}
	for _, s := range steps {
		r.Steps++
		if err := tx.q.InsertRolloutStep(ctx, query.InsertRolloutStepParams{
			Rollout: r.ID, Seq: r.Steps, Time: tx.now, What: s.What, Wave: int64(s.Wave), Machines: int64(s.Machines),
			Failure: s.Failure, Why: text(s.Why), Actor: text(s.Actor),
		}); err != nil {
			return r, named(tx.s.translate(err), "log of rollout %s", r.ID)
		}
	}
	tx.changed(KindRollout, r.ID)
	return r, nil
}

// Rollout returns a rollout.
func (r Reader) Rollout(ctx context.Context, id string) (Rollout, error) {
	row, err := r.q.Rollout(ctx, id)
	return rolloutOf(row), named(r.s.translate(err), "rollout %s", id)
}

// Rollouts lists rollouts, the newest first.
func (r Reader) Rollouts(ctx context.Context, f RolloutFilter) ([]Rollout, error) {
	found, err := r.q.Rollouts(ctx, query.RolloutsParams{
		Newest: f.Before == "", Before: f.Before, AnyLivepatch: f.LivePatch == "", Livepatch: f.LivePatch,
		AnyTier: f.Tier == "", Tier: f.Tier, OverToo: !f.Open, RowLimit: rows(f.Limit),
	})
	all := make([]Rollout, len(found))
	for i, row := range found {
		all[i] = rolloutOf(row)
	}
	return all, r.s.translate(err)
}

func rolloutOf(row query.Rollout) Rollout {
	return Rollout{
		ID: row.ID, LivePatch: row.Livepatch, Tier: row.Tier, Plan: bytesOrNil([]byte(row.Plan)), State: bytesOrNil([]byte(row.State)),
		Summary: bytesOrNil([]byte(row.Summary)), Phase: row.Phase, Revision: row.Revision, Steps: row.Steps,
		Created: row.Created, CreatedBy: row.CreatedBy, Changed: row.Changed,
	}
}

// RolloutRevisions are the revisions of all rollouts of a tier, by id.
func (r Reader) RolloutRevisions(ctx context.Context, tier string) (map[string]int64, error) {
	found, err := r.q.RolloutRevisions(ctx, tier)
	all := make(map[string]int64, len(found))
	for _, row := range found {
		all[row.ID] = row.Revision
	}
	return all, r.s.translate(err)
}

// RolloutMachinesSince calls f with the machines of a rollout that changed
// after a revision of it.
func (r Reader) RolloutMachinesSince(ctx context.Context, rollout string, revision int64, f func(RolloutMachine) error) error {
	const page = 5000
	for after := ""; ; {
		found, err := r.q.RolloutMachinesSince(ctx, query.RolloutMachinesSinceParams{
			Rollout: rollout, Revision: revision, After: after, RowLimit: page,
		})
		if err != nil {
			return r.s.translate(err)
		}
		for _, row := range found {
			after = row.Machine
			if err := f(rolloutMachine(row)); err != nil {
				return err
			}
		}
		if len(found) < page {
			return nil
		}
	}
}

// RolloutMachines lists machines of a rollout.
func (r Reader) RolloutMachines(ctx context.Context, rollout string, f RolloutMachineFilter) ([]RolloutMachine, error) {
	p := query.RolloutMachinesPageParams{
		Rollout: rollout, After: f.After, AnyStatus: f.Status == "", Status: f.Status, AnyWave: f.Wave == nil, RowLimit: rows(f.Limit),
	}
	if f.Wave != nil {
		p.Wave = int64(*f.Wave)
	}
	found, err := r.q.RolloutMachinesPage(ctx, p)
	all := make([]RolloutMachine, len(found))
	for i, row := range found {
		all[i] = rolloutMachine(row)
	}
	return all, r.s.translate(err)
}

// RolloutMachine returns a machine of a rollout.
func (r Reader) RolloutMachine(ctx context.Context, rollout, machine string) (RolloutMachine, error) {
	row, err := r.q.RolloutMachine(ctx, query.RolloutMachineParams{Rollout: rollout, Machine: machine})
	return rolloutMachine(row), named(r.s.translate(err), "machine %s of rollout %s", machine, rollout)
}

func rolloutMachine(row query.RolloutMachine) RolloutMachine {
	return RolloutMachine{
		Rollout: row.Rollout, Machine: row.Machine, Revision: row.Revision, Status: row.Status, Wave: int(row.Wave),
		Body: bytesOrNil([]byte(row.Body)),
	}
}

// RolloutSteps lists the log of a rollout, the newest first. before is a Seq: the
// older ones; 0: the newest.
func (r Reader) RolloutSteps(ctx context.Context, rollout string, before int64, limit int) ([]RolloutStep, error) {
	found, err := r.q.RolloutSteps(ctx, query.RolloutStepsParams{Rollout: rollout, Newest: before == 0, Before: before, RowLimit: rows(limit)})
	all := make([]RolloutStep, len(found))
	for i, row := range found {
		all[i] = RolloutStep{
			Rollout: row.Rollout, Seq: row.Seq, Time: row.Time, What: row.What, Wave: int(row.Wave), Machines: int(row.Machines),
			Failure: row.Failure, Why: row.Why, Actor: row.Actor,
		}
	}
	return all, r.s.translate(err)
}

// Lease is work that one server of several does.
type Lease struct {
	Owner string
	Until int64
	Since int64 // since when it was somebody's without a break
}

// TakeLease takes the lease of a name, or keeps it, until a time, and says
// whose it is now. It is without a break if it was somebody's up to broken.
func (s *Store) TakeLease(ctx context.Context, name, owner string, until, broken int64) (l Lease, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		if _, err := tx.q.TakeLease(ctx, query.TakeLeaseParams{Name: name, Owner: owner, Until: until, Now: tx.now, Broken: broken}); err != nil {
			return err
		}
		row, err := tx.q.Lease(ctx, name)
		l = Lease{Owner: row.Owner, Until: row.Until, Since: row.Since}
		return err
	})
	return l, named(err, "lease %s", name)
}

// LeaveLease gives it up.
func (s *Store) LeaveLease(ctx context.Context, name, owner string) error {
	return s.Update(ctx, func(tx *Tx) error {
		return tx.q.LeaveLease(ctx, query.LeaveLeaseParams{Name: name, Owner: owner, Until: tx.now - 1})
	})
}

// ReadLease returns a lease. ErrNotFound if nobody ever had it.
func (r Reader) ReadLease(ctx context.Context, name string) (Lease, error) {
	row, err := r.q.Lease(ctx, name)
	return Lease{Owner: row.Owner, Until: row.Until, Since: row.Since}, named(r.s.translate(err), "lease %s", name)
}

// SeenSince calls f with the machines that were heard of since a time, as far
// as that is written down.
func (r Reader) SeenSince(ctx context.Context, since int64, f func(machine string, seen int64)) error {
	found, err := r.q.SeenSince(ctx, since)
	for _, row := range found {
		f(row.Machine, row.Seen)
	}
	return r.s.translate(err)
}

// Sightings calls f with what was reported of a live patch that says that a
// machine began to load it, or that something went wrong: the oldest first,
// from a time of reception on.
func (r Reader) Sightings(ctx context.Context, livePatch string, since int64, f func(Report) error) error {
	const page = 5000
	p := query.SightingsOfParams{Patch: livePatch, Received: since - 1, After: "", RowLimit: page}
	for {
		found, err := r.q.SightingsOf(ctx, p)
		if err != nil {
			return r.s.translate(err)
		}
		for _, row := range found {
			p.Received, p.After = row.Received, row.Seq
			if err := f(Report{
				Seq: row.Seq, Machine: row.Machine, Received: row.Received, Kind: row.Kind, Patch: livePatch, State: row.State,
				Body: bytesOrNil([]byte(row.Body)),
			}); err != nil {
				return err
			}
		}
		if len(found) < page {
			return nil
		}
	}
}
