// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
)

// Lease asks for a job and waits for one; nil: none came.
func (c *Client) Lease(ctx context.Context, worker string, wait time.Duration) (*api.Lease, error) {
	wait = min(wait, api.MaxJobWait*time.Second)
	ctx, cancel := context.WithTimeout(ctx, wait+30*time.Second)
	defer cancel()
	var l api.Lease
	res, err := c.do(ctx, call{
		method: http.MethodPost, path: "/v1/worker/lease",
		in: api.LeaseRequest{Worker: worker, Wait: int(wait / time.Second)}, out: &l,
	})
	if err != nil || res.StatusCode == http.StatusNoContent {
		return nil, err
	}
	return &l, nil
}

// Heartbeat keeps a job.
func (c *Client) Heartbeat(ctx context.Context, job string, h api.Heartbeat) (api.HeartbeatAnswer, error) {
	var a api.HeartbeatAnswer
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("v1", "worker", "jobs", job, "heartbeat"), in: h, out: &a})
	return a, err
}

// AppendLog adds to the log of a job.
func (c *Client) AppendLog(ctx context.Context, job string, l api.JobLog) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("v1", "worker", "jobs", job, "log"), in: l})
	return err
}

// PutFile uploads a result of a job.
func (c *Client) PutFile(ctx context.Context, job string, f api.JobFile, r io.Reader, size int64) error {
	_, err := c.do(ctx, call{
		method: http.MethodPut, path: path("v1", "worker", "jobs", job, "files", f.Name),
		query:  url.Values{"worker": {f.Worker}, "attempt": {strconv.Itoa(f.Attempt)}},
		header: http.Header{"Content-Type": {"application/octet-stream"}}, body: r, length: size,
	})
	return err
}

// Finish ends a job.
func (c *Client) Finish(ctx context.Context, job string, r api.JobResult) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("v1", "worker", "jobs", job, "finish"), in: r})
	return err
}

// Release gives a job back.
func (c *Client) Release(ctx context.Context, job, worker string) error {
	_, err := c.do(ctx, call{method: http.MethodPost, path: path("v1", "worker", "jobs", job, "release"), in: api.WorkerName{Worker: worker}})
	return err
}

// Previous is the live patch that the one of the job supersedes.
func (c *Client) Previous(ctx context.Context, job string) ([]byte, error) {
	return c.bytes(ctx, path("v1", "worker", "jobs", job, "previous"), nil, api.MaxArtifact)
}

// Series is what is pushed under a digest.
func (c *Client) Series(ctx context.Context, digest string) ([]byte, error) {
	return c.bytes(ctx, path("v1", "worker", "updates", digest), nil, api.MaxUpdate)
}

// CacheGet is an entry of the shared object cache; nil: there is none.
func (c *Client) CacheGet(ctx context.Context, key string) ([]byte, error) {
	b, err := c.bytes(ctx, path("v1", "worker", "cache", key), nil, api.MaxObject)
	if e, ok := errors.AsType[*StatusError](err); ok && e.Status == http.StatusNotFound {
		return nil, nil
	}
	return b, err
}

// CachePut adds an entry to the shared object cache.
func (c *Client) CachePut(ctx context.Context, key string, b []byte) error {
	_, err := c.do(ctx, call{
		method: http.MethodPut, path: path("v1", "worker", "cache", key),
		header: http.Header{"Content-Type": {"application/octet-stream"}}, body: bytes.NewReader(b), length: int64(len(b)),
	})
	return err
}
