// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// outer is what every request goes through: it is counted, logged, answered
// with the headers that keep browsers from doing harm, and a defect in a
// handler becomes one clear answer.
func (s *Server) outer(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		body := r.Body // handlers put a bounded one over it
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if strings.HasPrefix(r.URL.Path, "/v1/") {
			h.Set("Cache-Control", "no-store")
		}
		defer func() {
			if p := recover(); p != nil {
				s.recovered(rec, r, p)
			}
			took := time.Since(start)
			s.metrics.request(r.Pattern, rec.code(), took)
			if s.log.Enabled(r.Context(), levelAccess) {
				s.log.LogAttrs(r.Context(), levelAccess, "request",
					attr("method", r.Method), attr("path", r.URL.Path), attr("status", strconv.Itoa(rec.code())),
					attr("bytes", strconv.FormatInt(rec.bytes, 10)), attr("took", took.String()), attr("from", s.clientAddr(r).String()))
			}
		}()
		if err := s.origins.Check(r); err != nil {
			s.writeFault(rec, r, refuse("TS8229", "", ""))
			return
		}
		rec.request = r
		if p := r.URL.Path; strings.Contains(p, "//") || strings.Contains(p, "/.") {
			rec.unrouted = http.StatusNotFound // the mux would send the client, and its credential, to a cleaner path
		} else {
			mux.ServeHTTP(rec, r)
		}
		if rec.unrouted != 0 {
			s.unrouted(rec, r)
		}
		if rec.code() == http.StatusRequestEntityTooLarge {
			drain(body)
		}
	})
}

// maxDrain bounds how much of a body that was refused for its size is read.
const maxDrain = 4 << 20

// drain reads what a client still sends of a body that was refused. It is busy
// writing until then: closing the connection under it would reset it, and the
// answer that says why would be lost. The server's read timeout holds here too.
func drain(body io.Reader) {
	_, _ = io.CopyN(io.Discard, body, maxDrain)
}

// unrouted answers what no handler is for, in our words. The mux has said
// already whether it is 404, 405 or a redirect to a cleaner path; the recorder
// kept that back.
func (s *Server) unrouted(w *recorder, r *http.Request) {
	status := w.unrouted
	w.unrouted, w.request = 0, nil
	h := w.Header()
	h.Del("Location")
	h.Del("Content-Length")
	if status == http.StatusMethodNotAllowed {
		s.writeFault(w, r, refuse("TS7606", r.URL.Path, r.Method+" is not for this path, "+h.Get("Allow")+" is"))
		return
	}
	h.Del("Allow")
	s.writeFault(w, r, refuse("TS7605", "", "nothing has the path "+quoted(r.URL.Path)))
}

func quoted(s string) string {
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strconv.Quote(s)
}

// recovered answers for a handler that panicked.
func (s *Server) recovered(w *recorder, r *http.Request, p any) {
	if p == http.ErrAbortHandler { //nolint:errorlint // it is thrown, never wrapped
		panic(p)
	}
	s.metrics.panics.Inc()
	s.log.Error("handler panicked", "method", r.Method, "path", r.URL.Path, "err", fmt.Sprint(p), "stack", string(debug.Stack()))
	if w.status == 0 {
		s.writeFault(w, r, refuse("TS7609", "", ""))
	}
}

// recorder notes what is answered, and keeps back what the mux says itself:
// that is what is written while the request has no pattern.
type recorder struct {
	http.ResponseWriter
	request  *http.Request
	status   int
	unrouted int // status of the mux's own answer
	bytes    int64
}

func (r *recorder) WriteHeader(status int) {
	if r.request != nil && r.request.Pattern == "" {
		r.unrouted = status
		return
	}
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.unrouted != 0 {
		return len(b), nil
	}
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

// size is a number of bytes as the limits are written.
func size(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return strconv.FormatInt(n>>20, 10) + " MiB"
	case n >= 1<<10 && n%(1<<10) == 0:
		return strconv.FormatInt(n>>10, 10) + " KiB"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

// sameOrigin keeps the pages of other sites from having the browser of somebody
// who is signed in here change something: it would send the cookie along. What
// comes from no browser passes, for it has no cookie that it does not mean.
func sameOrigin(address string) (*http.CrossOriginProtection, error) {
	p := http.NewCrossOriginProtection()
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	// A proxy may give us another Host than browsers see.
	return p, p.AddTrustedOrigin(u.Scheme + "://" + u.Host)
}
