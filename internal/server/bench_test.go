// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/go-quicktest/qt"
)

// BenchmarkUnchangedCheckIn is the server's part of a check-in that says
// nothing new, without the connection and TLS. test/bench-server.sh measures
// all of it.
func BenchmarkUnchangedCheckIn(b *testing.B) {
	s := newSite(b, func(o *Options) { o.Log = slog.New(slog.DiscardHandler) })
	h := s.enroll(s.token().Secret, "a")
	s.publishVersion(1)
	h.checkIn(b)
	h.checkIn(b)
	body, err := json.Marshal(h.report)
	qt.Assert(b, qt.IsNil(err))
	handler := s.Handler()
	w := &discard{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/v1/machine/check-in", io.NopCloser(bytes.NewReader(body)))
		qt.Assert(b, qt.IsNil(err))
		r.RemoteAddr = "127.0.0.1:1"
		r.Header["Authorization"] = []string{"Bearer " + h.enrolled.Credential}
		r.Header["If-None-Match"] = []string{h.etag}
		clear(w.header)
		handler.ServeHTTP(w, r)
		if w.status != http.StatusNotModified {
			b.Fatalf("HTTP status %d", w.status)
		}
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
