// SPDX-License-Identifier: Apache-2.0

package client

import (
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

func clientOf(t *testing.T, url string, ca []byte) *Client {
	t.Helper()
	httpc, err := NewHTTP(HTTPOptions{CA: ca, Proxy: "none"})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(httpc.CloseIdleConnections)
	c, err := New(Options{URL: url, HTTP: httpc, Credential: "tso_x"})
	qt.Assert(t, qt.IsNil(err))
	return c
}

// TestEveryAnswerBecomesAnErrorThatSaysWhatToDo goes through what a server, a
// proxy, or something else altogether may answer.
func TestEveryAnswerBecomesAnErrorThatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		code    code.Code
		status  int
		says    string
	}{
		{"the server's own words", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(403)
			_, _ = w.Write([]byte(`{"title":"the limit","status":403,"detail":"3 of 3","code":"TS7622","fix":"remove some","errors":[{"location":"body.x","message":"too long"}]}`))
		}, "TS7622", 403, "3 of 3; body.x: too long"},
		{"a proxy's", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) }, "TS7610", 502, ""},
		{"a page", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusNotFound) }, "TS7614", 404, ""},
		{"a page where JSON belongs", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "TS7614", 0, ""},
		{"a redirect, which nobody follows with a credential", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://elsewhere.example.org/", http.StatusFound)
		}, "TS7614", 302, ""},
		{"an answer that never ends", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, io.LimitReader(endless{}, maxAnswer+10))
		}, "TS7614", 0, "longer than"},
		{"a connection that breaks", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "TS7612", 0, "broke"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			web := httptest.NewServer(c.handler)
			defer web.Close()
			_, err := clientOf(t, web.URL, nil).Whoami(t.Context())
			qt.Assert(t, qt.IsNotNil(err))
			p, ok := errors.AsType[*code.Problem](err)
			qt.Assert(t, qt.IsTrue(ok), qt.Commentf("%v", err))
			qt.Check(t, qt.Equals(p.Code, c.code), qt.Commentf("%v", err))
			qt.Check(t, qt.Equals(Status(err), c.status))
			qt.Check(t, qt.Not(qt.Equals(p.Fix, "")))
			qt.Check(t, qt.IsTrue(strings.Contains(err.Error(), c.says)), qt.Commentf("%v", err))
			if c.status == 403 {
				e, ok := errors.AsType[*StatusError](err)
				qt.Assert(t, qt.IsTrue(ok))
				qt.Check(t, qt.Equals(e.RetryAfter, 7*time.Second))
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestOnlyThePinnedCAIsTrusted(t *testing.T) {
	t.Parallel()
	var web *httptest.Server
	web = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/ca.pem" {
			_, _ = w.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}))
			return
		}
		_, _ = w.Write([]byte(`{"name":"ann"}`))
	}))
	web.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail on purpose
	web.StartTLS()
	defer web.Close()
	_, err := clientOf(t, web.URL, nil).Whoami(t.Context())
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS7613")), qt.Commentf("%v", err))

	digest, err := CADigest(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}))
	qt.Assert(t, qt.IsNil(err))
	ca, err := FetchCA(t.Context(), web.URL, digest, "none")
	qt.Assert(t, qt.IsNil(err))
	me, err := clientOf(t, web.URL, ca).Whoami(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(me.Name, "ann"))

	_, err = FetchCA(t.Context(), web.URL, strings.Repeat("00", 32), "none")
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS7613")))
	_, err = NewHTTP(HTTPOptions{CA: []byte("no PEM")})
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS7613")))
	_, err = CADigest([]byte("no PEM"))
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS7614")))
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(nil)
	url := web.URL
	web.Close()
	err := clientOf(t, url, nil).Ready(t.Context())
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS7612")))
	for _, bad := range []string{"", "host:8443", "ftp://x", "https://", "https://user@host", "https://host/?x=y"} {
		_, err := New(Options{URL: bad})
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS7612")), qt.Commentf("%q", bad))
	}
	c := clientOf(t, "https://host/behind/a/proxy", nil)
	qt.Check(t, qt.Equals(c.URL(), "https://host/behind/a/proxy"))
}

func TestACheckInThatChangedNothingIsNil(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write([]byte(`{"machine":"m","tier":"edge","interval":60,"sequence":3,"time":1}`))
	}))
	defer web.Close()
	c := clientOf(t, web.URL, nil)
	a, etag, err := c.CheckIn(t.Context(), api.CheckIn{}, "")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(a.Sequence, 3))
	a, again, err := c.CheckIn(t.Context(), api.CheckIn{}, etag)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(a))
	qt.Check(t, qt.Equals(again, etag))
}
