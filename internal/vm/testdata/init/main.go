// SPDX-License-Identifier: Apache-2.0

// Command init is process 1 in the virtual machines of this package's tests.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/tsugi-project/tsugi/internal/vm/guest"
)

func main() {
	guest.Main(map[string]guest.Verb{"get": get, "dial": dial})
	os.Exit(1)
}

// get fetches a URL, whoever answers.
func get(ctx context.Context, _ *guest.Env, args json.RawMessage) (any, error) {
	var url string
	if err := json.Unmarshal(args, &url); err != nil {
		return nil, err
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

// dial tells for each address whether a connection comes about.
func dial(ctx context.Context, _ *guest.Env, args json.RawMessage) (any, error) {
	var addresses []string
	if err := json.Unmarshal(args, &addresses); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, a := range addresses {
		d := net.Dialer{Timeout: 2 * time.Second}
		c, err := d.DialContext(ctx, "tcp", a)
		if err == nil {
			c.Close()
		}
		out[a] = err == nil
	}
	return out, nil
}
