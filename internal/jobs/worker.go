// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// WorkerOptions make a Worker.
type WorkerOptions struct {
	Backend  Backend
	Executor Executor
	// Name is unique for each worker and each run of its program.
	Name string
	Log  *slog.Logger
	// Heartbeat is the pause between two heartbeats; 0: five seconds.
	Heartbeat time.Duration
	// Grace is how long results are handed in again while the server does not
	// answer; 0: two minutes.
	Grace time.Duration
}

// Worker does jobs, one at a time.
type Worker struct{ opt WorkerOptions }

// NewWorker makes a worker.
func NewWorker(o WorkerOptions) *Worker {
	if o.Heartbeat == 0 {
		o.Heartbeat = 5 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = 2 * time.Minute
	}
	return &Worker{o}
}

// Why a job under way is stopped.
var (
	errCancelled = errors.New("the job was cancelled")
	errLeaseLost = errors.New("the lease is lost")
)

// Run takes jobs until ctx ends. A job that is under way then is stopped and
// given back. Errors of the server are waited out.
func (w *Worker) Run(ctx context.Context) error {
	pause := time.Second
	for {
		lease, err := w.opt.Backend.Lease(ctx, w.opt.Name, 25*time.Second)
		switch {
		case ctx.Err() != nil:
			if lease != nil { // it came with the end
				w.giveBack(ctx, lease.Job)
			}
			return nil
		case err != nil:
			w.opt.Log.Warn("no jobs can be had", "err", err, "again", pause)
			if !sleep(ctx, pause) {
				return nil
			}
			pause = min(2*pause, time.Minute)
			continue
		}
		pause = time.Second
		if lease != nil {
			w.do(ctx, lease)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// do does one job.
func (w *Worker) do(ctx context.Context, l *api.Lease) {
	log := newLog(l, w.opt.Name, time.Now)
	log.Printf("attempt %d on worker %s", l.Attempt, w.opt.Name)
	jobCtx, stop := context.WithCancelCause(ctx)
	var side sync.WaitGroup
	// The keeper and the stream outlive the end of ctx: what a stopped job said
	// last is wanted, too.
	keep, release := context.WithCancel(context.WithoutCancel(ctx))
	side.Go(func() { log.stream(keep, w.opt.Backend, 300*time.Millisecond) })
	side.Go(func() { w.keep(keep, l, log, stop) })
	w.opt.Log.Info("job begun", "job", l.Job, "target", l.Spec.Target, "attempt", l.Attempt)
	out, err := w.execute(jobCtx, l, log)
	cause := context.Cause(jobCtx)
	stop(nil)
	switch {
	case errors.Is(cause, errLeaseLost):
		w.opt.Log.Warn("job lost", "job", l.Job)
	case ctx.Err() != nil && err != nil && !errors.Is(cause, errCancelled):
		log.Printf("the worker is stopped; the job goes back to the queue")
		w.flush(keep, log)
		w.giveBack(ctx, l.Job)
	default:
		w.handIn(ctx, l, log, out, err, cause)
	}
	release()
	side.Wait()
}

// execute runs the executor; its panic is a problem of the job alone.
func (w *Worker) execute(ctx context.Context, l *api.Lease, log *Log) (out *Outcome, err error) {
	defer func() {
		if r := recover(); r != nil {
			w.opt.Log.Error("job panicked", "job", l.Job, "panic", r, "stack", string(debug.Stack()))
			out, err = nil, code.New("TS7509", l.Job, fmt.Sprint(r))
		}
	}()
	return w.opt.Executor.Execute(ctx, l, log, w.opt.Backend)
}

// keep sends heartbeats. It stops the job when it is cancelled or lost: told so
// by the server, or silent for as long as the lease lasts.
func (w *Worker) keep(ctx context.Context, l *api.Lease, log *Log, stop context.CancelCauseFunc) {
	within := time.Duration(l.Within) * time.Millisecond
	pause := min(w.opt.Heartbeat, within/4)
	last := time.Now()
	for sleep(ctx, pause) {
		beat, cancel := context.WithTimeout(ctx, max(within/4, time.Second))
		sent := time.Now()
		a, err := w.opt.Backend.Heartbeat(beat, l.Job, api.Heartbeat{Worker: w.opt.Name, Stage: log.Stage()})
		cancel()
		switch {
		case err == nil && a.Cancelled:
			last = sent
			stop(errCancelled)
		case err == nil:
			last = sent
		case code.Of(err) == "TS7503" || code.Of(err) == "TS7501":
			stop(errLeaseLost)
			return
		case time.Since(last) > within:
			w.opt.Log.Warn("job's heartbeat was not heard", "job", l.Job, "err", err)
			stop(errLeaseLost)
			return
		}
	}
}

// handIn uploads what a job made and ends it.
func (w *Worker) handIn(ctx context.Context, l *api.Lease, log *Log, out *Outcome, err, cause error) {
	r := api.JobResult{Worker: w.opt.Name, State: api.JobDone}
	var p *code.Problem
	switch {
	case errors.Is(cause, errCancelled):
		r.State, r.Problem = api.JobCancelled, problemOf(code.New("TS7504", "", ""))
		log.Printf("cancelled")
	case errors.As(err, &p):
		r.State, r.Problem = api.JobFailed, problemOf(p)
		log.Problem(p)
	case err != nil:
		r.State, r.Problem = api.JobFailed, problemOf(code.New("TS7509", "", "").With(err))
		log.Printf("%v", err)
	}
	if out != nil {
		r.Verdict, r.Proven, r.Omitted = out.Verdict, out.Proven, out.Omitted
	}
	// A stopping worker hands in what it has finished.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.opt.Grace)
	defer cancel()
	if r.State != api.JobCancelled && out != nil {
		for name, b := range map[string][]byte{api.JobArtifact: out.Artifact, api.JobReport: out.Report, api.JobProof: out.Proof, api.JobBefore: out.Before, api.JobAfter: out.After} {
			if len(b) == 0 {
				continue
			}
			f := api.JobFile{Worker: w.opt.Name, Attempt: l.Attempt, Name: name}
			if err := w.insist(end, func() error {
				return w.opt.Backend.PutFile(end, l.Job, f, bytes.NewReader(b), int64(len(b)))
			}); err != nil {
				w.opt.Log.Error("result of a job cannot be uploaded", "job", l.Job, "file", name, "err", err)
				return // the lease ends and the job is done again
			}
		}
	}
	w.flush(end, log)
	if err := w.insist(end, func() error { return w.opt.Backend.Finish(end, l.Job, r) }); err != nil {
		w.opt.Log.Error("job cannot be ended", "job", l.Job, "err", err)
		return
	}
	w.opt.Log.Info("job done", "job", l.Job, "state", r.State, "verdict", r.Verdict)
}

// flush sends the rest of the log.
func (w *Worker) flush(ctx context.Context, log *Log) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := w.insist(ctx, func() error { return log.send(ctx, w.opt.Backend) }); err != nil {
		w.opt.Log.Warn("end of a job's log is lost", "job", log.job, "err", err)
	}
}

// insist repeats what fails because the server is away, until ctx ends.
func (w *Worker) insist(ctx context.Context, do func() error) error {
	for pause := 200 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := do()
		if err == nil || final(err) || !sleep(ctx, pause) {
			return err
		}
	}
}

// final reports whether asking again can't help.
func final(err error) bool {
	switch code.Of(err) {
	case "TS7501", "TS7502", "TS7503", "TS7508":
		return true
	}
	return false
}

func (w *Worker) giveBack(ctx context.Context, job string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := w.opt.Backend.Release(ctx, job, w.opt.Name); err != nil {
		w.opt.Log.Warn("job cannot be given back, it is taken up when its lease ends", "job", job, "err", err)
	}
}
