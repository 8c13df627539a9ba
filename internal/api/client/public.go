// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"io"
	"net/http"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// CA gets the certificate that the server's own comes from, as PEM. A server
// with a certificate of somebody else's CA has none and says 404.
func (c *Client) CA(ctx context.Context) ([]byte, error) { return c.file(ctx, "/v1/ca.pem") }

// Root gets the first TUF root, which machines pin by its digest.
func (c *Client) Root(ctx context.Context) ([]byte, error) { return c.file(ctx, "/v1/root.json") }

// Ready asks whether the server can do its work.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.file(ctx, "/readyz")
	return err
}

// file gets a small file.
func (c *Client) file(ctx context.Context, path string) ([]byte, error) {
	q := call{method: http.MethodGet, path: path}
	res, err := c.send(ctx, q)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, api.MaxBody+1))
	if err != nil {
		return nil, transportProblem(c.base.Host, err)
	}
	if len(b) > api.MaxBody {
		return nil, code.New("TS7614", c.where(q), "the answer is too long")
	}
	return b, nil
}
