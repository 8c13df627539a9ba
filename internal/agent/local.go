// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// The local API is HTTP over a unix socket that everybody may open. Who asks
// is known from the kernel (SO_PEERCRED): reads are for all, changes for root.
// Only one answer is JSON in another form: an error is an api.Problem.
const (
	maxLocalBody = api.MaxBody
	readWithin   = 2 * time.Minute // a live patch file over a socket
)

type peerKey struct{}

// Listen makes the socket.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, code.New("TS9402", path, "").With(err)
	}
	// The lock of the state says that nobody listens here any more.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, code.New("TS9402", path, "").With(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, code.New("TS9402", path, "").With(err)
	}
	// The unit makes the directory for root alone to write; systemd's umask
	// and mode of RuntimeDirectory may have closed it for readers.
	if err := errors.Join(os.Chmod(filepath.Dir(path), 0o755), os.Chmod(path, 0o666)); err != nil {
		return nil, errors.Join(code.New("TS9402", path, "").With(err), l.Close())
	}
	return l, nil
}

// Serve answers on l until ctx ends.
func (a *Agent) Serve(ctx context.Context, l net.Listener) error {
	s := &http.Server{
		Handler: a.Handler(ctx), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: readWithin,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, peer(c))
		},
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// peer is the user at the other end; nobody if the kernel does not say.
func peer(c net.Conn) int64 {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return -1
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return -1
	}
	uid := int64(-1)
	if err := raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int64(cred.Uid)
		}
	}); err != nil {
		return -1
	}
	return uid
}

// Handler answers the local API. What was begun goes on when the one who
// asked has gone, until ctx ends.
func (a *Agent) Handler(ctx context.Context) http.Handler {
	d := Direct{a}
	mux := http.NewServeMux()
	read := func(path string, f func(context.Context) (any, error)) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { answer(w, r, f) })
	}
	change := func(path string, limit int64, f func(context.Context, *http.Request, []byte) (any, error)) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			if uid, _ := r.Context().Value(peerKey{}).(int64); uid != int64(os.Geteuid()) && uid != 0 {
				refuse(w, http.StatusForbidden, code.New("TS9426", "", ""))
				return
			}
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
			if err != nil {
				refuse(w, http.StatusBadRequest, code.New("TS9400", path, "the request could not be read").With(err))
				return
			}
			answer(w, r, func(context.Context) (any, error) { return f(ctx, r, body) })
		})
	}
	read("/v1/status", func(ctx context.Context) (any, error) { return d.Status(ctx) })
	read("/v1/history", func(ctx context.Context) (any, error) { return d.History(ctx) })
	read("/v1/fixed", func(ctx context.Context) (any, error) { return d.Fixed(ctx) })
	change("/v1/enroll", maxLocalBody, func(ctx context.Context, _ *http.Request, b []byte) (any, error) {
		var e Enrollment
		if err := json.Unmarshal(b, &e); err != nil {
			return nil, code.New("TS9405", "", "").With(err)
		}
		return d.Enroll(ctx, e)
	})
	change("/v1/leave", 0, func(ctx context.Context, r *http.Request, _ []byte) (any, error) {
		return nothing{}, d.Leave(ctx, r.URL.Query().Get("force") == "true")
	})
	change("/v1/refresh", 0, func(ctx context.Context, _ *http.Request, _ []byte) (any, error) {
		return nothing{}, d.Refresh(ctx)
	})
	change("/v1/revert", 0, func(ctx context.Context, r *http.Request, _ []byte) (any, error) {
		if name := r.URL.Query().Get("package"); name != "" {
			return d.RevertPackage(ctx, name)
		}
		return d.Revert(ctx)
	})
	change("/v1/hold", 0, func(ctx context.Context, r *http.Request, _ []byte) (any, error) {
		return nothing{}, d.Hold(ctx, r.URL.Query().Get("on") == "true")
	})
	change("/v1/clear", 0, func(ctx context.Context, r *http.Request, _ []byte) (any, error) {
		return d.Clear(ctx, r.URL.Query().Get("what"))
	})
	change("/v1/apply", api.MaxArtifact, func(ctx context.Context, r *http.Request, b []byte) (any, error) {
		return d.ApplyFile(ctx, b, r.URL.Query().Get("local") == "true")
	})
	change("/v1/bundle", api.MaxArtifact, func(ctx context.Context, _ *http.Request, b []byte) (any, error) {
		return d.ApplyBundle(ctx, b)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, code.New("TS9400", r.Method+" "+clip(r.URL.Path, 200), "the agent does not know this request").
			WithFix("use the tsugi program of the same version as the agent"))
	})
	return mux
}

type nothing struct{}

func answer(w http.ResponseWriter, r *http.Request, f func(context.Context) (any, error)) {
	v, err := f(r.Context())
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, problemOf("TS9400", "", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return // the one who asked has gone
	}
}

func refuse(w http.ResponseWriter, status int, p *code.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(wire(p)); err != nil {
		return
	}
}

// Local is the Control of the agent that listens on a socket.
type Local struct{ c *http.Client }

// Dial finds the agent that runs. TS9425: there is none.
func Dial(ctx context.Context, socket string) (*Local, error) {
	dialer := &net.Dialer{Timeout: 2 * time.Second}
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, code.New("TS9425", socket, "").With(err)
	}
	conn.Close()
	return &Local{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}}, nil
}

// do asks; the context bounds it.
func do[T any](ctx context.Context, l *Local, method, path string, body io.Reader) (T, error) {
	var out T
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, body)
	if err != nil {
		return out, err
	}
	res, err := l.c.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		return out, code.New("TS9425", "", "it did not answer").With(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return out, code.New("TS9425", "", "its answer broke off").With(err)
	}
	if res.StatusCode != http.StatusOK {
		var p api.Problem
		if err := json.Unmarshal(b, &p); err != nil || p.Code == "" {
			return out, code.New("TS9400", "", fmt.Sprintf("the agent answers %s", res.Status))
		}
		return out, unwire(&p)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, code.New("TS9400", "", "the agent's answer is not understood").With(err)
	}
	return out, nil
}
