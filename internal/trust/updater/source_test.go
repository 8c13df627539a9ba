// SPDX-License-Identifier: Apache-2.0

package updater_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

// trickle answers every request with a body that gives some bytes now and
// then, without end.
type trickle struct {
	bytes int
	every time.Duration
	first time.Duration // until the header comes
}

func (s trickle) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(s.first):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if strings.Contains(r.URL.Path, "root.json") {
		return &http.Response{StatusCode: 404, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
	}
	return &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{}, Body: &trickleBody{s, r}, Request: r}, nil
}

type trickleBody struct {
	trickle
	r *http.Request
}

func (b *trickleBody) Read(p []byte) (int, error) {
	select {
	case <-time.After(b.every):
		return min(b.bytes, len(p)), nil
	case <-b.r.Context().Done():
		return 0, b.r.Context().Err()
	}
}

func (b *trickleBody) Close() error { return nil }

func TestSlowRetrieval(t *testing.T) {
	for name, c := range map[string]struct {
		from trickle
		want code.Code
	}{
		"a byte a second":               {trickle{bytes: 1, every: time.Second}, "TS7116"},
		"just below the lowest rate":    {trickle{bytes: 499, every: time.Second}, "TS7116"},
		"no answer at all":              {trickle{first: 365 * 24 * time.Hour}, "TS7116"},
		"a header and then nothing":     {trickle{every: 365 * 24 * time.Hour}, "TS7116"},
		"slow enough, but without end":  {trickle{bytes: 100, every: 100 * time.Millisecond}, "TS7114"},
		"fast, and without end":         {trickle{bytes: 4096, every: time.Millisecond}, "TS7114"},
		"a burst, then a byte a second": {trickle{bytes: 12000, every: 40 * time.Second}, "TS7116"},
	} {
		t.Run(name, func(t *testing.T) {
			w := attacked(t)
			before := w.disk()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				u, err := updater.New(updater.Options{
					Dir: w.dir, BaseURL: "http://server/tuf", HTTP: &http.Client{Transport: c.from}, Now: func() time.Time { return w.now },
					MinRate: 500, RateWindow: 10 * time.Second,
				})
				qt.Assert(t, qt.IsNil(err))
				err = u.Refresh(t.Context())
				qt.Assert(t, qt.Equals(code.Of(err), c.want), qt.Commentf("%v", err))
				qt.Assert(t, qt.IsTrue(time.Since(start) < time.Minute), qt.Commentf("%s", time.Since(start)))
			})
			qt.Assert(t, qt.DeepEquals(w.disk(), before))
		})
	}
}

func TestAServerThatIsNotWell(t *testing.T) {
	w := attacked(t)
	before := w.disk()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   code.Code
	}{
		"errors":   {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(500) }, "TS7120"},
		"forbids":  {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(403) }, "TS7120"},
		"hangs up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "TS7120"},
		"hangs up in the middle": {func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = rw.Write([]byte("{"))
			_ = http.NewResponseController(rw).Flush()
			panic(http.ErrAbortHandler)
		}, "TS7120"},
		"announces too much":        {func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("Content-Length", "99999999999") }, "TS7114"},
		"is a page that says hello": {func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "<html>") }, "TS7121"},
		"has nothing":               {http.NotFound, "TS7115"},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(c.answer)
			defer web.Close()
			u, err := updater.New(updater.Options{Dir: w.dir, BaseURL: web.URL, HTTP: web.Client(), Now: func() time.Time { return w.now }})
			qt.Assert(t, qt.IsNil(err))
			err = u.Refresh(t.Context())
			qt.Assert(t, qt.Equals(code.Of(err), c.want), qt.Commentf("%v", err))
		})
	}
	u, err := updater.New(updater.Options{Dir: w.dir, BaseURL: "http://127.0.0.1:1", Now: func() time.Time { return w.now }})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(code.Of(u.Refresh(t.Context())), "TS7120"))
	qt.Assert(t, qt.DeepEquals(w.disk(), before))
}

func TestTheServersDateTellsAWrongClock(t *testing.T) {
	w := attacked(t)
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Date", w.now.UTC().Format(http.TimeFormat))
		b, ok := w.files[strings.TrimPrefix(r.URL.Path, "/tuf/")]
		if !ok {
			rw.WriteHeader(404)
			return
		}
		_, _ = rw.Write(b)
	}))
	defer web.Close()
	u, err := updater.New(updater.Options{Dir: w.dir, BaseURL: web.URL + "/tuf", Now: func() time.Time { return w.now.AddDate(3, 0, 0) }})
	qt.Assert(t, qt.IsNil(err))
	err = u.Refresh(t.Context())
	qt.Assert(t, qt.Equals(code.Of(err), "TS7119"), qt.Commentf("%v", err))
}

func TestWhyASourceFailedIsTold(t *testing.T) {
	w := newWorld(t)
	w.answer = func(p string, _ int64) ([]byte, error) {
		return nil, fmt.Errorf("cable cut: %w", errors.ErrUnsupported)
	}
	_, err := w.update("edge")
	qt.Assert(t, qt.Equals(code.Of(err), "TS7120"))
	qt.Assert(t, qt.ErrorIs(err, errors.ErrUnsupported))
}
