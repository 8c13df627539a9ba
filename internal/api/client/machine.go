// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
)

// MaxWait is the longest that Wait may ask for.
const MaxWait = 5 * time.Minute

// Enroll makes a machine known by its token; the client needs no credential.
func (c *Client) Enroll(ctx context.Context, r api.EnrollRequest) (api.EnrollAnswer, error) {
	var a api.EnrollAnswer
	_, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/enroll", in: r, out: &a})
	return a, err
}

// CheckIn says what the machine is and asks what it should have. With the
// ETag of the last answer it returns nil if that answer still holds. A 401
// (Status) says that the server does not know this machine any more.
func (c *Client) CheckIn(ctx context.Context, in api.CheckIn, etag string) (*api.Assignment, string, error) {
	q := call{method: http.MethodPost, path: "/v1/machine/check-in", in: in}
	if etag != "" {
		q.header = http.Header{"If-None-Match": {etag}}
	}
	var a api.Assignment
	q.out = &a
	res, err := c.do(ctx, q)
	switch {
	case err != nil:
		return nil, "", err
	case res.StatusCode == http.StatusNotModified:
		return nil, etag, nil
	}
	return &a, res.Header.Get("ETag"), nil
}

// Wait returns true as soon as the answer to a check-in is not the one with
// this ETag any more, and false after the timeout. TS7610 with RetryAfter says
// that too many machines wait: check in at the interval instead.
func (c *Client) Wait(ctx context.Context, etag string, timeout time.Duration) (bool, error) {
	// The server answers in time; a connection that died under the request
	// must not keep it forever.
	ctx, cancel := context.WithTimeout(ctx, min(timeout, MaxWait)+30*time.Second)
	defer cancel()
	q := url.Values{"etag": {etag}, "timeout": {strconv.Itoa(int(min(timeout, MaxWait) / time.Second))}}
	res, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/machine/wait", query: q})
	if err != nil {
		return false, err
	}
	return res.StatusCode != http.StatusNotModified, nil
}

// Report delivers reports and returns the ids of those that are stored now.
func (c *Client) Report(ctx context.Context, reports []api.Report) ([]string, error) {
	var a api.ReportsAnswer
	_, err := c.do(ctx, call{method: http.MethodPost, path: "/v1/machine/reports", in: api.Reports{Reports: reports}, out: &a})
	return a.Stored, err
}

// Unenroll decommissions this machine; its credential is worth nothing then.
func (c *Client) Unenroll(ctx context.Context) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: "/v1/machine"})
	return err
}
