// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store/query"
)

// DefaultAttempts is how often a job is begun at most.
const DefaultAttempts = 3

// CreateJob queues a job: its kind, target, title, spec, creator and number of
// attempts (0: DefaultAttempts) are the caller's.
func (tx *Tx) CreateJob(ctx context.Context, j Job) (Job, error) {
	var err error
	if j.ID, err = id(); err != nil {
		return Job{}, err
	}
	if j.MaxAttempts < 1 {
		j.MaxAttempts = DefaultAttempts
	}
	if err := tx.q.InsertJob(ctx, query.InsertJobParams{
		ID: j.ID, Kind: j.Kind, Target: text(j.Target), Title: text(j.Title), Spec: text(string(j.Spec)),
		MaxAttempts: int64(j.MaxAttempts), Created: tx.now, CreatedBy: text(j.CreatedBy), Selection: j.Selection,
	}); err != nil {
		return Job{}, tx.s.translate(err)
	}
	tx.changed(KindJob, j.ID)
	return tx.Job(ctx, j.ID)
}

// CreateJob queues a job: see Tx.
func (s *Store) CreateJob(ctx context.Context, j Job) (made Job, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		made, err = tx.CreateJob(ctx, j)
		return err
	})
	return made, err
}

// Job returns a job.
func (r Reader) Job(ctx context.Context, id string) (Job, error) {
	row, err := r.q.Job(ctx, id)
	return job(row), named(r.s.translate(err), "job %s", id)
}

// Jobs lists jobs, the newest first.
func (r Reader) Jobs(ctx context.Context, f JobFilter) ([]Job, error) {
	found, err := r.q.Jobs(ctx, query.JobsParams{
		Newest: f.Before == "", Before: f.Before, AnyState: f.State == "", State: string(f.State),
		AnyTarget: f.Target == "", Target: f.Target, RowLimit: rows(f.Limit),
	})
	all := make([]Job, len(found))
	for i, row := range found {
		all[i] = job(row)
	}
	return all, r.s.translate(err)
}

// CountJobs counts jobs by their state.
func (r Reader) CountJobs(ctx context.Context) (map[JobState]int, error) {
	found, err := r.q.CountJobs(ctx)
	all := map[JobState]int{}
	for _, row := range found {
		all[JobState(row.State)] = int(row.Jobs)
	}
	return all, r.s.translate(err)
}

// LeaseJob gives a worker the oldest job of one of these kinds that waits, or
// whose lease has expired, and nil when there is none. Each lease is one
// attempt. A job that lost the worker of its last attempt has failed, one that
// lost its worker and was to be cancelled is cancelled.
func (s *Store) LeaseJob(ctx context.Context, worker string, kinds []string, until int64) (*Job, error) {
	const look = 100
	for {
		found, err := s.q.WaitingJobs(ctx, query.WaitingJobsParams{Now: s.now().UnixMilli(), RowLimit: look})
		if err != nil {
			return nil, s.translate(err)
		}
		moved := false // something was claimed or given up: there may be others behind
		for _, c := range found {
			switch {
			case c.Cancel || c.Attempt >= c.MaxAttempts:
				gave, err := s.giveUp(ctx, c)
				if err != nil {
					return nil, err
				}
				moved = moved || gave
			case slices.Contains(kinds, c.Kind):
				j, err := s.claim(ctx, c.ID, worker, until)
				if j != nil || err != nil {
					return j, err
				}
				moved = true // another worker's now
			}
		}
		if !moved {
			return nil, nil
		}
	}
}

// claim takes a job if it is still to be had; nil if not.
func (s *Store) claim(ctx context.Context, id, worker string, until int64) (*Job, error) {
	var j *Job
	err := s.Update(ctx, func(tx *Tx) error {
		row, err := tx.q.LeaseJob(ctx, query.LeaseJobParams{Worker: worker, Until: until, Now: tx.now, ID: id})
		if err = tx.s.translate(err); err != nil {
			return err
		}
		leased := job(row)
		j = &leased
		tx.changed(KindJob, id)
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return j, err
}

// giveUp ends a job that lost its worker and will have no other one.
func (s *Store) giveUp(ctx context.Context, c query.WaitingJobsRow) (gave bool, err error) {
	p := query.GiveUpJobParams{ID: c.ID, State: string(JobCancelled)}
	if !c.Cancel {
		why, err := json.Marshal(code.New("TS7409", "", fmt.Sprintf("%d attempts", c.Attempt)))
		if err != nil {
			return false, fmt.Errorf("problem of job %s: %w", c.ID, err)
		}
		p.State, p.Problem = string(JobFailed), string(why)
	}
	err = s.Update(ctx, func(tx *Tx) error {
		p.Now = tx.now
		n, err := tx.q.GiveUpJob(ctx, p)
		if gave = n > 0; gave {
			tx.changed(KindJob, c.ID)
		}
		return err
	})
	return gave, err
}

// SweepJobs ends the jobs that lost their last worker; those that may be begun
// again wait for the next LeaseJob.
func (s *Store) SweepJobs(ctx context.Context) error {
	_, err := s.LeaseJob(ctx, "", nil, 0)
	return err
}

// Heartbeat extends a lease and says whether the job is to be cancelled.
// ErrLost if the worker does not have the job any more.
func (s *Store) Heartbeat(ctx context.Context, id, worker string, until int64) (cancelled bool, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		cancelled, err = tx.q.HeartbeatJob(ctx, query.HeartbeatJobParams{ID: id, Worker: worker, Until: until})
		return err
	})
	if errors.Is(err, ErrNotFound) {
		err = ErrLost
	}
	return cancelled, named(err, "job %s", id)
}

// SetStage says what a job is doing. ErrLost as with Heartbeat.
func (s *Store) SetStage(ctx context.Context, id, worker, stage string) error {
	return s.asWorker(ctx, id, func(tx *Tx) (int64, error) {
		return tx.q.StageJob(ctx, query.StageJobParams{ID: id, Worker: worker, Stage: text(stage)})
	})
}

// FinishJob ends a job. ErrLost if the worker does not have it any more;
// ending it twice in the same way is no error.
func (s *Store) FinishJob(ctx context.Context, id, worker string, result JobResult) error {
	if !slices.Contains([]JobState{JobDone, JobFailed, JobCancelled}, result.State) {
		return fmt.Errorf("job %s: %q is not how a job ends", id, result.State)
	}
	return s.asWorker(ctx, id, func(tx *Tx) (int64, error) {
		n, err := tx.q.FinishJob(ctx, query.FinishJobParams{
			ID: id, Worker: worker, State: string(result.State), Ended: tx.now, Verdict: text(result.Verdict),
			Problem: text(string(result.Problem)), Patch: result.Patch, Artifact: result.Artifact, Omitted: text(string(result.Omitted)),
		})
		if err != nil || n > 0 {
			return n, err
		}
		was, err := tx.Job(ctx, id)
		if err == nil && was.Worker == worker && was.State == result.State {
			n = 1
		}
		return n, err
	})
}

// ReleaseJob gives a job back to the queue, as if the attempt had not been: a
// worker that shuts down does so. ErrLost as with Heartbeat.
func (s *Store) ReleaseJob(ctx context.Context, id, worker string) error {
	return s.asWorker(ctx, id, func(tx *Tx) (int64, error) {
		return tx.q.ReleaseJob(ctx, query.ReleaseJobParams{ID: id, Worker: worker})
	})
}

func (s *Store) asWorker(ctx context.Context, id string, change func(*Tx) (int64, error)) error {
	return s.Update(ctx, func(tx *Tx) error {
		tx.changed(KindJob, id)
		n, err := change(tx)
		if err == nil && n == 0 {
			err = ErrLost
		}
		return named(err, "job %s", id)
	})
}

// CancelJob ends a job that waits, and asks the worker of one that runs to
// stop. ErrConflict if it has ended.
func (tx *Tx) CancelJob(ctx context.Context, id string) error {
	tx.changed(KindJob, id)
	n, err := tx.q.CancelQueuedJob(ctx, query.CancelQueuedJobParams{ID: id, Ended: tx.now})
	if err != nil || n > 0 {
		return err
	}
	if n, err = tx.q.CancelRunningJob(ctx, id); err != nil || n > 0 {
		return err
	}
	j, err := tx.Job(ctx, id)
	if err != nil {
		return err
	}
	return fmt.Errorf("job %s is %s: %w", id, j.State, ErrConflict)
}

// CancelJob ends a job, or asks its worker to: see Tx.
func (s *Store) CancelJob(ctx context.Context, id string) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.CancelJob(ctx, id) })
}

// AppendLog adds text to the log of a job. seq counts within an attempt and
// makes a repetition harmless.
func (s *Store) AppendLog(ctx context.Context, id string, attempt, seq int, line string) error {
	line = text(line)
	return s.group.do(ctx, func(ctx context.Context, tx *Tx) error {
		return named(tx.q.InsertLog(ctx, query.InsertLogParams{
			Job: id, Position: position(attempt, seq), Time: tx.now, Text: line,
		}), "log of job %s", id)
	})
}

// Log returns up to 1,000 lines of a job after a position; 0 is the start.
func (r Reader) Log(ctx context.Context, id string, after int64) ([]LogLine, error) {
	found, err := r.q.Log(ctx, query.LogParams{Job: id, After: after, RowLimit: rows(0)})
	all := make([]LogLine, len(found))
	for i, row := range found {
		all[i] = LogLine{
			Position: row.Position, Attempt: int(row.Position >> 32), Seq: int(row.Position&0xffffffff) - 1, Time: row.Time, Text: row.Text,
		}
	}
	return all, r.s.translate(err)
}

// position is never 0, which stands for before the first.
func position(attempt, seq int) int64 { return int64(attempt)<<32 | int64(uint32(seq+1)) }

func job(j query.Job) Job {
	return Job{
		ID: j.ID, Kind: j.Kind, Target: j.Target, Title: j.Title, Spec: bytesOrNil([]byte(j.Spec)), State: JobState(j.State),
		Stage: j.Stage, Attempt: int(j.Attempt), MaxAttempts: int(j.MaxAttempts), Worker: j.Worker, LeasedUntil: j.LeasedUntil,
		Cancel: j.Cancel, Created: j.Created, CreatedBy: j.CreatedBy, Started: j.Started, Ended: j.Ended, Verdict: j.Verdict,
		Problem: bytesOrNil([]byte(j.Problem)), Patch: j.Patch, Artifact: j.Artifact, Selection: j.Selection, Version: int(j.Version),
		Omitted: bytesOrNil([]byte(j.Omitted)),
	}
}
