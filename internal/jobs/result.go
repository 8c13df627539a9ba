// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
)

// blobName is where a result of an attempt is kept.
func blobName(job string, attempt int, name string) string {
	return path.Join("jobs", job, strconv.Itoa(attempt), name)
}

// artifactName is where a published artifact is kept.
func artifactName(digest string) string { return path.Join("artifacts", digest+".tsugi") }

func maxFile(name string) int64 {
	switch name {
	case api.JobArtifact:
		return api.MaxArtifact
	case api.JobReport, api.JobProof:
		return api.MaxJobFiles
	case api.JobBefore, api.JobAfter:
		return api.MaxConsole
	}
	return 0
}

// PutFile keeps a result of a job.
func (q *Queue) PutFile(ctx context.Context, job string, f api.JobFile, r io.Reader, size int64) error {
	if limit := maxFile(f.Name); size < 1 || size > limit {
		return code.New("TS7508", job, fmt.Sprintf("%q of %d bytes", f.Name, size))
	}
	if _, err := q.holds(ctx, job, f.Worker, f.Attempt); err != nil {
		return err
	}
	return q.opt.Blobs.Put(ctx, blobName(job, f.Attempt, f.Name), r, size)
}

// readFile reads a result of an attempt.
func (q *Queue) readFile(ctx context.Context, job string, attempt int, name string) ([]byte, error) {
	r, info, err := q.opt.Blobs.Open(ctx, blobName(job, attempt, name))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if info.Size > maxFile(name) {
		return nil, code.New("TS7508", name, fmt.Sprintf("%d bytes", info.Size))
	}
	return io.ReadAll(r)
}

// Finish ends a job. What it was to publish is published first: a job that is
// done has its live patch in the first tier. When its version was taken
// meanwhile, by another job or by hand, it goes back to the queue for the next.
func (q *Queue) Finish(ctx context.Context, job string, r api.JobResult) error {
	j, err := q.opt.Store.Job(ctx, job)
	if err != nil {
		return unknownJob(job, err)
	}
	if j.Worker == r.Worker && string(j.State) == string(r.State) {
		return nil // the answer to the first time was lost
	}
	if j, err = q.holds(ctx, job, r.Worker, 0); err != nil {
		return err
	}
	defer q.Wake()
	result := store.JobResult{State: store.JobState(r.State), Verdict: r.Verdict}
	if _, err := q.opt.Blobs.Stat(ctx, blobName(job, j.Attempt, api.JobArtifact)); err == nil {
		result.Artifact = blobName(job, j.Attempt, api.JobArtifact)
	} else if !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	problem := r.Problem
	if r.State == api.JobDone && r.Verdict == "live" {
		id, err := q.publish(ctx, j, r)
		switch {
		case errors.Is(err, store.ErrConflict) && q.newer(ctx, j):
			q.opt.Log.Info("version of a job is taken, it is built again", "job", job)
			return lost(job, q.opt.Store.ReleaseJob(ctx, job, r.Worker))
		case err != nil:
			p, ok := errors.AsType[*code.Problem](err)
			if !ok || ctx.Err() != nil || strings.HasPrefix(string(p.Code), "TS74") {
				return err // of the store, not of the live patch: the worker asks again
			}
			result.State = store.JobFailed
			problem = problemOf(p)
		}
		result.Patch = id
	}
	if len(r.Omitted) > 0 {
		if result.Omitted, err = json.Marshal(r.Omitted); err != nil {
			return err
		}
	}
	if problem != nil {
		if result.Problem, err = json.Marshal(problem); err != nil {
			return err
		}
	}
	if err := q.opt.Store.FinishJob(ctx, job, r.Worker, result); err != nil {
		return lost(job, err)
	}
	q.opt.Log.Info("job ended", "job", job, "state", result.State, "verdict", result.Verdict, "patch", result.Patch)
	return nil
}

// newer reports whether building a job again would make a higher version than
// it has made. If not, its version is not what stands in the way.
func (q *Queue) newer(ctx context.Context, j store.Job) bool {
	b, err := q.readFile(ctx, j.ID, j.Attempt, api.JobArtifact)
	if err != nil {
		return false
	}
	p, err := livepatch.Read(b)
	if err != nil {
		return false
	}
	next, err := q.opt.Store.NextVersion(ctx, j.Target)
	return err == nil && next > p.Manifest.Version
}

// publish publishes the live patch of a job that asked for it.
func (q *Queue) publish(ctx context.Context, j store.Job, r api.JobResult) (string, error) {
	var s spec
	if err := json.Unmarshal(j.Spec, &s); err != nil {
		return "", fmt.Errorf("spec of job %s: %w", j.ID, err)
	}
	if !s.Publish {
		return "", nil
	}
	if !r.Proven {
		return "", code.New("TS7506", j.ID, "")
	}
	p := Publication{Job: j.ID, Actor: actor(j.ID), Selection: j.Selection}
	for name, to := range map[string]*[]byte{api.JobArtifact: &p.Artifact, api.JobProof: &p.Proof, api.JobReport: &p.Report} {
		b, err := q.readFile(ctx, j.ID, j.Attempt, name)
		if errors.Is(err, blob.ErrNotFound) {
			return "", code.New("TS7508", j.ID, name+" was not uploaded")
		}
		if err != nil {
			return "", err
		}
		*to = b
	}
	for _, name := range []string{api.JobBefore, api.JobAfter} {
		b, err := q.readFile(ctx, j.ID, j.Attempt, name)
		if errors.Is(err, blob.ErrNotFound) {
			continue // an older worker, or one that ran but once
		}
		if err != nil {
			return "", err
		}
		p.Consoles = append(p.Consoles, b)
	}
	return q.opt.Publish(ctx, p)
}

// OpenArtifact opens the live patch that a job made.
func (q *Queue) OpenArtifact(ctx context.Context, id string) (io.ReadSeekCloser, int64, error) {
	j, err := q.opt.Store.Job(ctx, id)
	if err != nil {
		return nil, 0, unknownJob(id, err)
	}
	if j.Artifact == "" {
		return nil, 0, code.New("TS7507", id, "")
	}
	r, info, err := q.opt.Blobs.Open(ctx, j.Artifact)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, 0, code.New("TS7507", id, "").With(err)
	}
	return r, info.Size, err
}

// Previous is the live patch that the one of a job supersedes.
func (q *Queue) Previous(ctx context.Context, id string) ([]byte, error) {
	j, err := q.opt.Store.Job(ctx, id)
	if err != nil {
		return nil, unknownJob(id, err)
	}
	known, err := q.opt.Store.LivePatches(ctx, store.LivePatchFilter{Target: j.Target})
	if err != nil {
		return nil, err
	}
	if p := previousOf(j, known); p != nil {
		r, info, err := q.opt.Blobs.Open(ctx, artifactName(p.Digest))
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(io.LimitReader(r, info.Size))
	}
	return nil, code.New("TS7507", id, "the target has no live patch yet")
}

// CacheGet is an entry of the object cache.
func (q *Queue) CacheGet(ctx context.Context, key string) ([]byte, error) {
	if !cacheKey(key) {
		return nil, code.New("TS7508", key, "not a key of the object cache")
	}
	r, info, err := q.opt.Blobs.Open(ctx, path.Join("cache", "objects", key))
	if errors.Is(err, blob.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if info.Size > api.MaxObject {
		return nil, code.New("TS7508", key, fmt.Sprintf("%d bytes", info.Size))
	}
	return io.ReadAll(r)
}

// CachePut adds an entry to the object cache.
func (q *Queue) CachePut(ctx context.Context, key string, b []byte) error {
	if !cacheKey(key) || len(b) == 0 || len(b) > api.MaxObject {
		return code.New("TS7508", key, fmt.Sprintf("%d bytes for the object cache", len(b)))
	}
	return q.opt.Blobs.Put(ctx, path.Join("cache", "objects", key), bytes.NewReader(b), int64(len(b)))
}

// cacheKey reports whether a key is a SHA-256 in hex.
func cacheKey(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32 && hex.EncodeToString(b) == s
}

func problemOf(p *code.Problem) *api.Problem {
	why := p.Why
	if p.Err != nil {
		if why != "" {
			why += ": "
		}
		why += p.Err.Error()
	}
	return &api.Problem{Code: p.Code, What: p.What, Where: p.Where, Why: why, Fix: p.Fix}
}
