// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
)

// kindBuild is the kind of jobs that builds are.
const kindBuild = "build"

// Publication is what a job that asks for it publishes, into the first tier.
type Publication struct {
	Artifact, Proof, Report []byte
	Consoles                [][]byte // of the proof's machines, as far as they were handed in
	Job, Actor              string   // id, and "job:" and the id
	Selection               string   // digest of the choice that it was built for; "": none
}

// QueueOptions make a Queue.
type QueueOptions struct {
	Store *store.Store
	Blobs blob.Store
	// Publish publishes and returns the id of the live patch. An error that is
	// store.ErrConflict says that its version is taken.
	Publish func(context.Context, Publication) (string, error)
	// Series is what is pushed under a digest; nil: nothing is.
	Series func(ctx context.Context, digest string) ([]byte, error)
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
	// Lease is how long a worker may be silent; 0: one minute.
	Lease time.Duration
	// Attempts is how often a job is begun; 0: store.DefaultAttempts.
	Attempts int
}

// Queue holds the jobs of a service. It is a Backend for workers in its own
// process. Several queues may share one store.
type Queue struct {
	opt QueueOptions

	mu      sync.Mutex
	wake    chan struct{} // closed and replaced when something has changed
	closing chan struct{}
	once    sync.Once
}

// NewQueue makes a queue.
func NewQueue(o QueueOptions) *Queue {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Lease == 0 {
		o.Lease = time.Minute
	}
	return &Queue{opt: o, wake: make(chan struct{}), closing: make(chan struct{})}
}

// Wake tells those who wait that a job has changed: the server calls it for
// changes that another replica made.
func (q *Queue) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.wake)
	q.wake = make(chan struct{})
}

// Close lets go who waits; the queue still answers what is asked.
func (q *Queue) Close() { q.once.Do(func() { close(q.closing) }) }

func (q *Queue) changed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.wake
}

// wait calls look until it is done, the wait is over or ctx ends. Changes of
// this process are seen at once, those of others within the second.
func (q *Queue) wait(ctx context.Context, wait time.Duration, look func() (done bool, err error)) error {
	end := time.NewTimer(wait)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		changed := q.changed()
		if done, err := look(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case <-q.closing:
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// Submit queues a build. What can't be built whatever the worker is refused
// here.
func (q *Queue) Submit(ctx context.Context, n api.NewJob, actor string) (api.Job, error) {
	if err := checkJob(n); err != nil {
		return api.Job{}, err
	}
	spec, err := json.Marshal(n)
	if err != nil {
		return api.Job{}, err
	}
	title := n.Fixes[0].Title
	if title == "" {
		title = n.Fixes[0].ID
	}
	if more := len(n.Fixes) - 1; more > 0 {
		title += fmt.Sprintf(" and %d more", more)
	}
	j, err := q.opt.Store.CreateJob(ctx, store.Job{Kind: kindBuild, Target: n.Target, Title: title, Spec: spec, CreatedBy: actor, MaxAttempts: q.opt.Attempts})
	if err != nil {
		return api.Job{}, err
	}
	q.Wake()
	return JobOf(j), nil
}

func checkJob(n api.NewJob) error {
	switch kind, release, _ := strings.Cut(n.Target, ":"); {
	case kind == "tree":
		return code.New("TS7505", n.Target, "a directory means another thing on each worker").WithFix("name the kernel of a distribution: debian:RELEASE")
	case kind != "debian" || release == "":
		return code.New("TS2301", n.Target, "")
	}
	if len(n.Fixes) == 0 {
		return code.New("TS1107", "", "no fix was given")
	}
	if _, err := parseFixes(n.Fixes); err != nil {
		return err
	}
	if n.Publish && !n.Prove {
		return code.New("TS7505", "publish", "only a proven live patch is published by a job").WithFix("ask for the proof as well, or publish the artifact by hand when the job is done: tsugictl publish")
	}
	if n.Name != "" && !validName(n.Name) {
		return code.New("TS7505", n.Name, "not a module name of at most 45 letters, digits and underscores")
	}
	if wrong := code.NotRefusals(n.Accept); len(wrong) > 0 {
		return code.New("TS7505", strings.Join(wrong, ", "), "nothing can be accepted by that: no code of a refusal")
	}
	return nil
}

func validName(s string) bool {
	for _, r := range s {
		if r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return len(s) <= 45 // and room for _v and the version in 55
}

// parseFixes reads the diffs of a job.
func parseFixes(diffs []api.JobDiff) ([]*fix.Fix, error) {
	var all []*fix.Fix
	for i, d := range diffs {
		f, err := fix.Parse(d.ID, []byte(d.Diff))
		if err != nil {
			return nil, fmt.Errorf("fix %d, %s: %w", i+1, d.ID, err)
		}
		f.ID = d.ID
		if d.Title != "" {
			f.Title = d.Title
		}
		if len(d.CVEs) > 0 {
			f.CVEs = d.CVEs
		}
		all = append(all, f)
	}
	return all, nil
}

// Job returns a job.
func (q *Queue) Job(ctx context.Context, id string) (api.Job, error) {
	j, err := q.opt.Store.Job(ctx, id)
	if err != nil {
		return api.Job{}, unknownJob(id, err)
	}
	out := JobOf(j)
	var s spec
	if err := json.Unmarshal(j.Spec, &s); err == nil { // its worker tells if it is not readable
		out.Accept = s.Accept
	}
	return out, nil
}

func unknownJob(id string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return code.New("TS7501", id, "").With(err)
	}
	return err
}

// Jobs lists jobs, the newest first.
func (q *Queue) Jobs(ctx context.Context, f store.JobFilter) ([]api.Job, error) {
	found, err := q.opt.Store.Jobs(ctx, f)
	all := make([]api.Job, len(found))
	for i, j := range found {
		all[i] = JobOf(j)
	}
	return all, err
}

// Cancel ends a job, or has its worker end it.
func (q *Queue) Cancel(ctx context.Context, id string) error {
	err := q.opt.Store.CancelJob(ctx, id)
	if errors.Is(err, store.ErrConflict) {
		return code.New("TS7502", id, "").With(err)
	}
	q.Wake()
	return unknownJob(id, err)
}

// Log returns what a job's log says after a Seq, 0 for all of it, and waits
// for more when there is nothing and the job has not ended.
func (q *Queue) Log(ctx context.Context, id string, after int64, wait time.Duration) ([]api.LogChunk, error) {
	var chunks []api.LogChunk
	err := q.wait(ctx, wait, func() (bool, error) {
		j, err := q.opt.Store.Job(ctx, id) // before the log: nothing comes after its end
		if err != nil {
			return false, unknownJob(id, err)
		}
		lines, err := q.opt.Store.Log(ctx, id, after)
		for _, l := range lines {
			chunks = append(chunks, api.LogChunk{Seq: l.Position, Attempt: l.Attempt, Text: l.Text})
		}
		return len(chunks) > 0 || ended(j.State), err
	})
	return chunks, err
}

func ended(s store.JobState) bool {
	return s == store.JobDone || s == store.JobFailed || s == store.JobCancelled
}

// JobOf is a job as it travels.
func JobOf(j store.Job) api.Job {
	out := api.Job{
		ID: j.ID, Target: j.Target, Title: j.Title, State: api.JobState(j.State), Stage: j.Stage, Attempt: j.Attempt,
		Worker: j.Worker, Created: j.Created, Started: j.Started, Ended: j.Ended, Verdict: j.Verdict, Patch: j.Patch,
		Artifact: j.Artifact, Selection: j.Selection, Cancelling: j.Cancel && j.State == store.JobRunning,
	}
	if j.Selection != "" {
		var s spec
		if json.Unmarshal(j.Spec, &s) == nil && s.Update != nil {
			out.Policies = s.Update.Policies
		}
	}
	if len(j.Omitted) > 0 {
		_ = json.Unmarshal(j.Omitted, &out.Omitted) // what is not readable is not shown
	}
	if len(j.Problem) > 0 {
		p := new(api.Problem)
		if json.Unmarshal(j.Problem, p) == nil {
			out.Problem = p
		}
	}
	return out
}
