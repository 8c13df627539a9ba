// SPDX-License-Identifier: Apache-2.0

package updater

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// httpSource reads a repository from a web server.
type httpSource struct {
	base   string
	client *http.Client
	rate   int64 // bytes a second, over the window
	window time.Duration

	mu    sync.Mutex
	known bool
	ahead time.Duration // the server's clock minus ours, when it last answered
	now   func() time.Time
}

func newHTTPSource(o Options) *httpSource {
	s := &httpSource{base: strings.TrimSuffix(o.BaseURL, "/") + "/", client: o.HTTP, rate: o.MinRate, window: o.RateWindow, now: o.Now}
	if s.client == nil {
		s.client = http.DefaultClient
	}
	if s.rate <= 0 {
		s.rate = 1000
	}
	if s.window <= 0 {
		s.window = 20 * time.Second
	}
	return s
}

var errSlow = errors.New("too slow")

// Fetch reads a file of at most max bytes. The server must keep the lowest
// rate in every window, the first byte included: a connection that trickles
// can't hold a machine up.
func (s *httpSource) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	u, err := url.Parse(s.base + (&url.URL{Path: path}).EscapedPath())
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	req.Header.Set("Accept-Encoding", "identity") // a length is a length

	var got atomic.Int64
	stop := s.watch(&got, cancel)
	defer stop()

	b, err := s.read(req, max, &got)
	if err != nil && errors.Is(context.Cause(ctx), errSlow) {
		return nil, code.New("TS7116", path, fmt.Sprintf("less than %d bytes in %s", s.rate*int64(s.window/time.Second), s.window))
	}
	return b, err
}

// watch cancels a request that brings too little in a window.
func (s *httpSource) watch(got *atomic.Int64, cancel context.CancelCauseFunc) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(s.window)
		defer tick.Stop()
		var last int64
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				n := got.Load()
				if float64(n-last) < float64(s.rate)*s.window.Seconds() {
					cancel(errSlow)
					return
				}
				last = n
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

func (s *httpSource) read(req *http.Request, max int64, got *atomic.Int64) ([]byte, error) {
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	s.hear(res)
	switch {
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusGone:
		return nil, ErrNotFound
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the server answers %s", res.Status)
	case res.ContentLength > max:
		return nil, tooLong(req.URL.Path, max)
	}
	return readBounded(io.TeeReader(res.Body, counter{got}), req.URL.Path, max)
}

// hear notes what the server believes the time to be.
func (s *httpSource) hear(res *http.Response) {
	if t, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.known, s.ahead = true, t.Sub(s.now())
	}
}

func (s *httpSource) serverTime() (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().Add(s.ahead), s.known
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// FSSource reads a repository from a file system: a directory or a bundle.
type FSSource struct{ FS fs.FS }

// Fetch reads a file.
func (s FSSource) Fetch(_ context.Context, path string, max int64) ([]byte, error) {
	f, err := s.FS.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readBounded(f, path, max)
}

func readBounded(r io.Reader, path string, max int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > max {
		return nil, tooLong(path, max)
	}
	return b, nil
}

func tooLong(path string, max int64) error {
	return code.New("TS7114", path, fmt.Sprintf("more than %d", max))
}
