// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

func actor(job string) string { return "job:" + job }

// Lease gives a worker the oldest job that waits.
func (q *Queue) Lease(ctx context.Context, worker string, wait time.Duration) (*api.Lease, error) {
	var lease *api.Lease
	err := q.wait(ctx, wait, func() (bool, error) {
		until := q.opt.Now().Add(q.opt.Lease).UnixMilli()
		j, err := q.opt.Store.LeaseJob(ctx, worker, []string{kindBuild}, until)
		if err != nil || j == nil {
			return false, err
		}
		lease, err = q.prepare(ctx, j)
		return lease != nil, err
	})
	return lease, err
}

// prepare makes the lease of a job. It returns nil for one that was as good
// as done: its last worker, or the server, ended between publishing and saying so.
func (q *Queue) prepare(ctx context.Context, j *store.Job) (*api.Lease, error) {
	q.opt.Log.Info("job leased", "job", j.ID, "target", j.Target, "worker", j.Worker, "attempt", j.Attempt)
	l := &api.Lease{Job: j.ID, Attempt: j.Attempt, Within: q.opt.Lease.Milliseconds()}
	var s spec
	if err := json.Unmarshal(j.Spec, &s); err != nil {
		return nil, q.fail(ctx, j, code.New("TS7505", j.ID, "").With(err))
	}
	l.Spec, l.Update = s.NewJob, s.Update
	known, err := q.opt.Store.LivePatches(ctx, store.LivePatchFilter{Target: j.Target})
	if err != nil {
		return nil, err
	}
	for _, p := range known {
		if p.CreatedBy == actor(j.ID) {
			return nil, q.opt.Store.FinishJob(ctx, j.ID, j.Worker, store.JobResult{
				State: store.JobDone, Verdict: "live", Patch: p.ID, Artifact: artifactName(p.Digest),
			})
		}
	}
	if p := previousOf(*j, known); p != nil {
		l.Previous = p.ID
	}
	if l.Version, err = q.version(ctx, j); err != nil {
		return nil, err
	}
	l.LogFrom, err = q.lastLog(ctx, j.ID, j.Attempt)
	return l, err
}

// version is the number that a job's live patch gets: its own, so that jobs of
// several selections can run side by side. One that has been overtaken gets
// another.
func (q *Queue) version(ctx context.Context, j *store.Job) (version int, err error) {
	err = q.opt.Store.Update(ctx, func(tx *store.Tx) error {
		next, err := tx.NextVersion(ctx, j.Target)
		if err != nil {
			return err
		}
		if version = j.Version; version >= next {
			return nil
		}
		if version, err = tx.DrawVersion(ctx, j.Target); err != nil {
			return err
		}
		return tx.SetJobVersion(ctx, j.ID, j.Worker, version)
	})
	return version, err
}

// previousOf is the live patch that the one of a job comes after: the newest of
// those that the machines it is for may have.
func previousOf(j store.Job, known []store.LivePatch) *store.LivePatch {
	var s spec
	_ = json.Unmarshal(j.Spec, &s) // whoever leased it has read it
	var last *store.LivePatch
	for i := range known {
		p := &known[i]
		ours := s.Update == nil || slices.ContainsFunc(p.Policies, func(name string) bool { return slices.Contains(s.Update.Policies, name) })
		if p.Blocked == 0 && ours && (last == nil || p.Version > last.Version) {
			last = p
		}
	}
	return last
}

// lastLog is the Seq that an attempt's log has come to.
func (q *Queue) lastLog(ctx context.Context, id string, attempt int) (int, error) {
	last, after := 0, int64(attempt)<<32
	for {
		lines, err := q.opt.Store.Log(ctx, id, after)
		if err != nil || len(lines) == 0 {
			return last, err
		}
		end := lines[len(lines)-1]
		last, after = end.Seq, end.Position
	}
}

func (q *Queue) fail(ctx context.Context, j *store.Job, why *code.Problem) error {
	b, err := json.Marshal(problemOf(why))
	if err != nil {
		return err
	}
	return q.opt.Store.FinishJob(ctx, j.ID, j.Worker, store.JobResult{State: store.JobFailed, Problem: b})
}

// lost gives a lost lease its code.
func lost(job string, err error) error {
	if errors.Is(err, store.ErrLost) {
		return code.New("TS7503", job, "").With(err)
	}
	return err
}

// Heartbeat extends a lease.
func (q *Queue) Heartbeat(ctx context.Context, job string, h api.Heartbeat) (api.HeartbeatAnswer, error) {
	until := q.opt.Now().Add(q.opt.Lease).UnixMilli()
	cancelled, err := q.opt.Store.Heartbeat(ctx, job, h.Worker, until)
	if err != nil {
		return api.HeartbeatAnswer{}, lost(job, err)
	}
	if h.Stage != "" {
		if j, err := q.opt.Store.Job(ctx, job); err == nil && j.Stage == h.Stage {
			return api.HeartbeatAnswer{Cancelled: cancelled}, nil
		}
		err = q.opt.Store.SetStage(ctx, job, h.Worker, h.Stage)
	}
	return api.HeartbeatAnswer{Cancelled: cancelled}, lost(job, err)
}

// holds finds out whether a worker has a job in its attempt: what comes late,
// after another worker took over, is refused.
func (q *Queue) holds(ctx context.Context, job, worker string, attempt int) (store.Job, error) {
	j, err := q.opt.Store.Job(ctx, job)
	if err != nil {
		return j, unknownJob(job, err)
	}
	if j.Worker != worker || j.State != store.JobRunning || attempt != 0 && j.Attempt != attempt {
		return j, code.New("TS7503", job, fmt.Sprintf("attempt %d of worker %s", attempt, worker))
	}
	return j, nil
}

// AppendLog adds to the log of a job.
func (q *Queue) AppendLog(ctx context.Context, job string, l api.JobLog) error {
	if l.Seq < 1 || len(l.Text) > api.MaxJobLog {
		return code.New("TS7508", job, fmt.Sprintf("log piece %d of %d bytes", l.Seq, len(l.Text)))
	}
	if _, err := q.holds(ctx, job, l.Worker, l.Attempt); err != nil {
		return err
	}
	defer q.Wake()
	return q.opt.Store.AppendLog(ctx, job, l.Attempt, l.Seq, l.Text)
}

// Release gives a job back.
func (q *Queue) Release(ctx context.Context, job, worker string) error {
	defer q.Wake()
	return lost(job, q.opt.Store.ReleaseJob(ctx, job, worker))
}

// Expire ends the leases of workers that are known to be gone: those of an
// earlier process of this server. Their jobs are taken up again at once and
// not when the leases would have ended.
func (q *Queue) Expire(ctx context.Context, gone func(worker string) bool) error {
	running, err := q.opt.Store.Jobs(ctx, store.JobFilter{State: store.JobRunning})
	if err != nil {
		return err
	}
	for _, j := range running {
		if !gone(j.Worker) {
			continue
		}
		_, err := q.opt.Store.Heartbeat(ctx, j.ID, j.Worker, q.opt.Now().UnixMilli()-1)
		if err != nil && !errors.Is(err, store.ErrLost) {
			return err
		}
		q.opt.Log.Info("job lost its worker", "job", j.ID, "worker", j.Worker, "attempt", j.Attempt)
	}
	return nil
}
