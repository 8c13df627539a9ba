// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/tsugi-project/tsugi/internal/code"
)

// get asks for a thing.
func get[T any](ctx context.Context, c *Client, path string, q url.Values) (*T, error) {
	var out T
	_, err := c.do(ctx, call{method: http.MethodGet, path: path, query: q, out: &out})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// post sends in, if it is not nil, and reads what comes of it.
func post[T any](ctx context.Context, c *Client, method, path string, in any) (*T, error) {
	var out T
	_, err := c.do(ctx, call{method: method, path: path, in: in, out: &out})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// upload sends a body of a kind and reads what comes of it.
func upload[T any](ctx context.Context, c *Client, path string, q url.Values, body []byte, kind string) (*T, error) {
	var out T
	_, err := c.do(ctx, call{
		method: http.MethodPost, path: path, query: q, header: http.Header{"Content-Type": {kind}},
		body: bytes.NewReader(body), length: int64(len(body)), out: &out,
	})
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// remove deletes a thing.
func (c *Client) remove(ctx context.Context, path string) error {
	_, err := c.do(ctx, call{method: http.MethodDelete, path: path})
	return err
}

// bytes gets a file of at most so many bytes.
func (c *Client) bytes(ctx context.Context, path string, q url.Values, limit int64) ([]byte, error) {
	question := call{method: http.MethodGet, path: path, query: q}
	res, err := c.send(ctx, question)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, transportProblem(c.base.Host, err)
	}
	if int64(len(b)) > limit {
		return nil, code.New("TS7614", c.where(question), fmt.Sprintf("the answer is longer than %d bytes", limit))
	}
	return b, nil
}
