// SPDX-License-Identifier: Apache-2.0

// Package jobs builds live patches for a server: the queue that jobs wait in,
// and the workers that take them, in the server's process or on other hosts.
//
// A worker leases a job and keeps the lease by heartbeats. When they stop,
// because the worker was killed, lost its network or its host, the job is
// taken up by another as its next attempt, until its attempts are used up.
// What a worker hands in after it lost its lease is refused. So a job is done
// by exactly one worker, and its live patch is published exactly once.
package jobs

import (
	"context"
	"io"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
)

// Backend is what a worker knows of the service: a *Queue in the server's own
// process, a *client.Client on another host.
type Backend interface {
	// Lease returns a job, or nil when none came within the wait.
	Lease(ctx context.Context, worker string, wait time.Duration) (*api.Lease, error)
	// Heartbeat extends the lease. The error has code TS7503 when it is lost.
	Heartbeat(ctx context.Context, job string, h api.Heartbeat) (api.HeartbeatAnswer, error)
	AppendLog(ctx context.Context, job string, l api.JobLog) error
	PutFile(ctx context.Context, job string, f api.JobFile, r io.Reader, size int64) error
	Finish(ctx context.Context, job string, r api.JobResult) error
	// Release gives a job back as if this attempt had not been.
	Release(ctx context.Context, job, worker string) error
	// Previous is the live patch that Lease.Previous names.
	Previous(ctx context.Context, job string) ([]byte, error)
	// Series is what is pushed under a digest that Lease.Update names.
	Series(ctx context.Context, digest string) ([]byte, error)
	// CacheGet is an entry of the shared object cache; nil: there is none.
	CacheGet(ctx context.Context, key string) ([]byte, error)
	CachePut(ctx context.Context, key string, b []byte) error
}

// Outcome is what an attempt made.
type Outcome struct {
	Verdict  string        // live, reboot, not-affected
	Artifact []byte        // of a live one
	Report   []byte        // report.json
	Proof    []byte        // proof.json; nil: none was asked for
	Before   []byte        // console of the proof's machine without the live patch
	After    []byte        // and with it
	Proven   bool          // the proof holds
	Omitted  []api.LeftFix // what of a choice the build left out
}

// Executor does the work of a job. An Outcome may come with an error: what
// was found before it is kept.
type Executor interface {
	Execute(ctx context.Context, l *api.Lease, log *Log, b Backend) (*Outcome, error)
}
