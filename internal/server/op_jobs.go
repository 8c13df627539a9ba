// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

type newJob struct{ Body api.NewJob }

type jobsInput struct {
	State string `query:"state" enum:"queued,running,done,failed,cancelled"`
	Page
}

type logInput struct {
	ID    string `path:"id" maxLength:"255"`
	After int64  `query:"after" minimum:"0" doc:"seq of the last piece that is known"`
	Wait  int    `query:"wait" minimum:"0" maximum:"30" doc:"seconds to wait for more while the job runs"`
}

type leaseInput struct{ Body api.LeaseRequest }

type leaseOutput struct {
	Status int
	Body   *api.Lease
}

type heartbeatInput struct {
	ID   string `path:"id" maxLength:"255"`
	Body api.Heartbeat
}

type jobLogInput struct {
	ID   string `path:"id" maxLength:"255"`
	Body api.JobLog
}

type finishInput struct {
	ID   string `path:"id" maxLength:"255"`
	Body api.JobResult
}

type releaseInput struct {
	ID   string `path:"id" maxLength:"255"`
	Body api.WorkerName
}

const jobWait = api.MaxJobWait * time.Second

func (s *Server) jobOperations(o *operations) {
	answer(o, op{id: "list-jobs", method: "GET", path: "/v1/jobs", summary: "Build jobs, the newest first", may: look},
		func(ctx context.Context, _ operator, in *jobsInput) (api.List[api.Job], error) {
			items, err := s.jobs.Jobs(ctx, store.JobFilter{State: store.JobState(in.State), Before: in.After, Limit: in.Limit})
			return listOf(items, in.Limit, func(j api.Job) string { return j.ID }), err
		})
	answer(o, op{id: "create-job", method: "POST", path: "/v1/jobs", summary: "Queue a build", may: change, status: 201, limit: api.MaxJob},
		func(ctx context.Context, who operator, in *newJob) (api.Job, error) {
			j, err := s.jobs.Submit(ctx, in.Body, who.name)
			if err == nil {
				detail := in.Body.Target
				if len(in.Body.Accept) > 0 {
					detail += ", accepting " + strings.Join(in.Body.Accept, ", ")
				}
				s.audit(ctx, who.name, "job.create", j.ID, detail)
			}
			return j, err
		})
	answer(o, op{id: "get-job", method: "GET", path: "/v1/jobs/{id}", summary: "One build job", may: look},
		func(ctx context.Context, _ operator, in *byID) (api.Job, error) { return s.jobs.Job(ctx, in.ID) })
	answer(o, op{id: "get-job-log", method: "GET", path: "/v1/jobs/{id}/log", summary: "What a job said after a position; waits for more while it runs", may: look, wait: jobWait},
		func(ctx context.Context, _ operator, in *logInput) (api.List[api.LogChunk], error) {
			items, err := s.jobs.Log(ctx, in.ID, in.After, s.waitOf(in.Wait))
			return listOf(items, 0, nil), err
		})
	answer(o, op{id: "cancel-job", method: "POST", path: "/v1/jobs/{id}/cancel", summary: "Stop a build", may: change},
		func(ctx context.Context, who operator, in *byID) (api.Job, error) {
			if err := s.jobs.Cancel(ctx, in.ID); err != nil {
				return api.Job{}, err
			}
			s.audit(ctx, who.name, "job.cancel", in.ID, "")
			return s.jobs.Job(ctx, in.ID)
		})
}

// waitOf is how long a worker or a reader of a log may wait: not at all when
// the server is about to end.
func (s *Server) waitOf(seconds int) time.Duration {
	select {
	case <-s.closing:
		return 0
	default:
		return time.Duration(seconds) * time.Second
	}
}

// worker binds what a worker calls itself to the credential that it has: no
// worker can speak for another one's jobs.
func worker(who operator, name string) string { return who.name + "/" + name }

func (s *Server) workerOperations(o *operations) {
	s.leaseOperation(o)
	answer(o, op{id: "heartbeat", method: "POST", path: "/v1/worker/jobs/{id}/heartbeat", summary: "Keep a job; says whether it was cancelled", may: work},
		func(ctx context.Context, who operator, in *heartbeatInput) (api.HeartbeatAnswer, error) {
			in.Body.Worker = worker(who, in.Body.Worker)
			return s.jobs.Heartbeat(ctx, in.ID, in.Body)
		})
	quiet(o, op{id: "append-log", method: "POST", path: "/v1/worker/jobs/{id}/log", summary: "Add to the log of a job", may: work},
		func(ctx context.Context, who operator, in *jobLogInput) error {
			in.Body.Worker = worker(who, in.Body.Worker)
			return s.jobs.AppendLog(ctx, in.ID, in.Body)
		})
	quiet(o, op{id: "finish-job", method: "POST", path: "/v1/worker/jobs/{id}/finish", summary: "End a job", may: work},
		func(ctx context.Context, who operator, in *finishInput) error {
			in.Body.Worker = worker(who, in.Body.Worker)
			err := s.jobs.Finish(ctx, in.ID, in.Body)
			s.kick() // it may have published
			return err
		})
	quiet(o, op{id: "release-job", method: "POST", path: "/v1/worker/jobs/{id}/release", summary: "Give a job back", may: work},
		func(ctx context.Context, who operator, in *releaseInput) error {
			return s.jobs.Release(ctx, in.ID, worker(who, in.Body.Worker))
		})
}

// jobArtifact answers GET /v1/jobs/{id}/artifact.
func (s *Server) jobArtifact(w http.ResponseWriter, r *http.Request, _ operator) error {
	f, n, err := s.jobs.OpenArtifact(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	defer f.Close()
	extend(w, transferTime(n))
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

// putJobFile answers PUT /v1/worker/jobs/{id}/files/{name}.
func (s *Server) putJobFile(w http.ResponseWriter, r *http.Request, who operator) error {
	f := api.JobFile{Worker: worker(who, r.URL.Query().Get("worker")), Name: r.PathValue("name")}
	limit := int64(api.MaxJobFiles)
	switch f.Name {
	case api.JobArtifact:
		limit = api.MaxArtifact
	case api.JobReport, api.JobProof:
	case api.JobBefore, api.JobAfter:
		limit = api.MaxConsole
	default:
		return noFile(r)
	}
	var err error
	if f.Attempt, err = strconv.Atoi(r.URL.Query().Get("attempt")); err != nil || f.Attempt < 1 {
		return refuse("TS7601", "query.attempt", "a number from 1 is expected")
	}
	body, err := upload(w, r, limit)
	if err != nil {
		return err
	}
	if err := s.jobs.PutFile(r.Context(), r.PathValue("id"), f, body, r.ContentLength); err != nil {
		return uploadError(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// upload bounds the body of an upload, whose length has to be announced.
func upload(w http.ResponseWriter, r *http.Request, limit int64) (io.Reader, error) {
	if r.ContentLength < 0 {
		f := refuse("TS7601", "header.Content-Length", "the length of an upload has to be announced")
		f.body.Status = http.StatusLengthRequired
		return nil, f
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	extend(w, transferTime(r.ContentLength))
	return http.MaxBytesReader(w, r.Body, limit), nil
}

// uploadError tells a body that did not come whole from a store that fails.
func uploadError(err error) error {
	if f := toFault(err); f.body.Status == http.StatusInternalServerError && bodyBroke(err) {
		return bodyError(err)
	}
	return err
}

// previous answers GET /v1/worker/jobs/{id}/previous.
func (s *Server) previous(w http.ResponseWriter, r *http.Request, _ operator) error {
	b, err := s.jobs.Previous(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.sendBytes(w, r, b)
}

var cacheKey = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

// cacheGet answers GET /v1/worker/cache/{key}.
func (s *Server) cacheGet(w http.ResponseWriter, r *http.Request, _ operator) error {
	key := r.PathValue("key")
	if !cacheKey.MatchString(key) {
		return noFile(r)
	}
	b, err := s.jobs.CacheGet(r.Context(), key)
	if err != nil {
		return err
	}
	return s.sendBytes(w, r, b)
}

func (s *Server) sendBytes(w http.ResponseWriter, r *http.Request, b []byte) error {
	if b == nil {
		return noFile(r)
	}
	extend(w, transferTime(int64(len(b))))
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	return nil
}

// cachePut answers PUT /v1/worker/cache/{key}.
func (s *Server) cachePut(w http.ResponseWriter, r *http.Request, _ operator) error {
	key := r.PathValue("key")
	if !cacheKey.MatchString(key) {
		return refuse("TS7601", "path.key", "not the name of an object")
	}
	body, err := upload(w, r, api.MaxObject)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return bodyError(err)
	}
	if err := s.jobs.CachePut(r.Context(), key, b); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
