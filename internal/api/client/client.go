// SPDX-License-Identifier: Apache-2.0

// Package client speaks the HTTP API: one method for each operation, for
// machines (machine.go), operators (operator.go) and what anybody may ask
// (public.go). It retries nothing; its callers know what waiting is worth.
// Every error is a *code.Problem: the server's own where it answered, TS7612
// where it did not, TS7613 where somebody else did.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// maxAnswer bounds the bytes of an answer that is not a file.
const maxAnswer = 32 << 20

// Options of a client.
type Options struct {
	URL        string       // https://host:8443, without a path or with the one that a proxy adds
	Credential string       // "": only what anybody may ask, or Session
	Session    string       // secret of a person's session, in the place of Credential
	HTTP       *http.Client // nil: NewHTTP(HTTPOptions{}), the system's CAs
	UserAgent  string
	// Prove has the person of a session prove again who they are, when the
	// server asks for that; then the request is sent once more. nil: TS8206 is
	// what the caller gets.
	Prove func(context.Context) error
}

// Client speaks to one server with one credential. It is safe for concurrent
// use.
type Client struct {
	base     *url.URL
	opts     Options
	httpc    *http.Client
	approval string // see Approved
}

// New makes a client; nothing is sent.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, code.New("TS7612", o.URL, "this is not the address of a server").WithFix("give one like https://tsugi.example.org:8443")
	}
	c := &Client{base: u, opts: o, httpc: o.HTTP}
	if c.httpc == nil {
		if c.httpc, err = NewHTTP(HTTPOptions{}); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// URL is the server's address.
func (c *Client) URL() string { return c.base.String() }

// StatusError is a problem that came as an HTTP answer, and reads like it.
type StatusError struct {
	Status     int
	RetryAfter time.Duration // 0: the server did not say
	Problem    *code.Problem
}

func (e *StatusError) Error() string { return e.Problem.Error() }

func (e *StatusError) Unwrap() error { return e.Problem }

// Status returns the HTTP status that an error came with; 0: no answer.
func Status(err error) int {
	if e, ok := errors.AsType[*StatusError](err); ok {
		return e.Status
	}
	return 0
}

// call is one request.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	in           any       // JSON, or nil
	body         io.Reader // instead of in
	length       int64     // of body
	out          any       // what a success's JSON is read into, or nil
}

// do sends a request, reads the answer and returns its status and headers.
func (c *Client) do(ctx context.Context, q call) (*http.Response, error) {
	res, err := c.send(ctx, q)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if q.out == nil || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified {
		_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer)) // the connection is used again
	} else {
		var b []byte
		if b, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1)); err == nil {
			if len(b) > maxAnswer {
				return nil, code.New("TS7614", c.where(q), fmt.Sprintf("the answer is longer than %d bytes", maxAnswer))
			}
			if err := json.Unmarshal(b, q.out); err != nil {
				return nil, code.New("TS7614", c.where(q), "").With(err)
			}
		}
	}
	if err != nil {
		return nil, transportProblem(c.base.Host, err)
	}
	return res, nil
}

// send sends a request; the answer is a success or 304, and the caller closes
// its body.
func (c *Client) send(ctx context.Context, q call) (*http.Response, error) {
	res, err := c.once(ctx, q)
	if code.Of(err) != "TS8206" || c.opts.Prove == nil || q.body != nil {
		return res, err
	}
	if err := c.opts.Prove(ctx); err != nil {
		return nil, err
	}
	return c.once(ctx, q)
}

func (c *Client) once(ctx context.Context, q call) (*http.Response, error) {
	u := c.base.JoinPath(q.path)
	u.RawQuery = q.query.Encode()
	if c.approval != "" {
		values := u.Query()
		values.Set("approval", c.approval)
		u.RawQuery = values.Encode()
	}
	body := q.body
	if q.in != nil {
		b, err := json.Marshal(q.in)
		if err != nil {
			return nil, fmt.Errorf("request %s: %w", q.path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", q.path, err)
	}
	if q.length > 0 {
		req.ContentLength = q.length
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	if q.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.opts.Credential != "" {
		req.Header.Set("Authorization", "Bearer "+c.opts.Credential)
	} else if c.opts.Session != "" {
		req.AddCookie(&http.Cookie{Name: api.SessionCookie, Value: c.opts.Session})
	}
	if c.opts.UserAgent != "" {
		req.Header.Set("User-Agent", c.opts.UserAgent)
	}
	res, err := c.httpc.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, transportProblem(c.base.Host, err)
	}
	if res.StatusCode < 300 || res.StatusCode == http.StatusNotModified {
		return res, nil
	}
	defer res.Body.Close()
	return nil, c.problem(q, res)
}

func (c *Client) where(q call) string { return c.base.Host + "/" + strings.TrimPrefix(q.path, "/") }

// problem makes an error of an answer: the server's own words if they are in
// it, else what a proxy or something else that is no tsugi-server said.
func (c *Client) problem(q call, res *http.Response) error {
	answered := func(p *code.Problem) error {
		return &StatusError{Status: res.StatusCode, RetryAfter: retryAfter(res.Header.Get("Retry-After")), Problem: p}
	}
	b, _ := io.ReadAll(io.LimitReader(res.Body, api.MaxBody))
	var e api.Error
	if ct, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); ct == "application/problem+json" && json.Unmarshal(b, &e) == nil && e.Code != "" {
		p := code.New(e.Code, e.Where, e.Detail)
		if e.Title != "" {
			p.What = e.Title
		}
		if e.Fix != "" {
			p.Fix = e.Fix
		}
		for _, d := range e.Problems {
			p.Why = joinWords(p.Why, joinWords(d.Location, d.Message, ": "), "; ")
		}
		return answered(p)
	}
	status := fmt.Sprintf("HTTP %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	switch res.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusTooManyRequests:
		return answered(code.New("TS7610", c.where(q), "something before the server answered "+status))
	}
	return answered(code.New("TS7614", c.where(q), status))
}

func joinWords(a, b, sep string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + sep + b
}

// retryAfter reads a number of seconds, the only form that our server sends.
func retryAfter(s string) time.Duration {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 24*3600 {
		return 0
	}
	return time.Duration(n) * time.Second
}

// path joins segments, each escaped.
func path(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}
