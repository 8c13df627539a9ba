// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// serve answers on a real socket until the test ends.
func serve(t *testing.T, a *Agent) string {
	t.Helper()
	path := t.TempDir() + "/run/agent.sock"
	l, err := Listen(path)
	qt.Assert(t, qt.IsNil(err))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return path
}

func TestTheSocketIsOpenForAllAndAsksTheKernelWho(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := serve(t, w.open())
	info, err := os.Stat(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(info.Mode().Perm(), fs.FileMode(0o666)))
	c, err := Dial(t.Context(), path)
	qt.Assert(t, qt.IsNil(err))
	s, err := c.Status(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(s.Kernel.BuildID, testBuildID))
	qt.Check(t, qt.IsNil(c.Hold(t.Context(), true))) // the test is whom the agent runs as
	s, err = c.Status(t.Context())
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(s.Hold))
	h, err := c.History(t.Context())
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(h, 1))
	conn, err := net.Dial("unix", path)
	qt.Assert(t, qt.IsNil(err))
	defer conn.Close()
	qt.Check(t, qt.Equals(peer(conn), int64(os.Geteuid())))
	qt.Check(t, qt.Equals(peer(nil), -1))
}

func TestOthersMayReadAndNotChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.open()
	ask := func(method, path string, uid any) (int, string) {
		r := httptest.NewRequest(method, "http://agent"+path, strings.NewReader(""))
		if uid != nil {
			r = r.WithContext(context.WithValue(r.Context(), peerKey{}, uid))
		}
		rec := httptest.NewRecorder()
		a.Handler(t.Context()).ServeHTTP(rec, r)
		return rec.Code, rec.Body.String()
	}
	for _, uid := range []any{int64(-1), int64(65534)} {
		for _, path := range []string{"/v1/status", "/v1/history", "/v1/fixed"} {
			status, body := ask("GET", path, uid)
			qt.Check(t, qt.Equals(status, http.StatusOK), qt.Commentf("%s: %s", path, body))
		}
		for _, path := range []string{"/v1/enroll", "/v1/leave", "/v1/refresh", "/v1/revert", "/v1/hold?on=true", "/v1/clear?what=all", "/v1/apply", "/v1/bundle"} {
			status, body := ask("POST", path, uid)
			qt.Check(t, qt.Equals(status, http.StatusForbidden), qt.Commentf("%s: %s", path, body))
			qt.Check(t, qt.StringContains(body, "TS9426"))
		}
	}
	s, _ := a.journal.view()
	qt.Check(t, qt.Equals(s.Seq, int64(0)))
	status, body := ask("POST", "/v1/revert", int64(0))
	qt.Check(t, qt.Equals(status, http.StatusUnprocessableEntity))
	qt.Check(t, qt.StringContains(body, "TS9418"))
	status, _ = ask("DELETE", "/v1/status", int64(0))
	qt.Check(t, qt.Equals(status, http.StatusNotFound))
}

func TestVerbsOverTheSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.open()
	a.Look(t.Context())
	path := serve(t, a)
	c, err := Dial(t.Context(), path)
	qt.Assert(t, qt.IsNil(err))
	ctx := t.Context()
	qt.Check(t, qt.Equals(code.Of(c.Refresh(ctx)), code.Code("TS9416")))
	o := w.offer(1)
	e, err := c.Enroll(ctx, Enrollment{Server: "https://server:8443", Token: "t"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(e, &Enrolled{Machine: "m", Server: "https://server:8443", Tier: "stable"}))
	qt.Check(t, qt.IsNil(c.Refresh(ctx)))
	qt.Check(t, qt.DeepEquals(w.loaded(), []string{o.Name}))
	f, err := c.Fixed(ctx)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(f.Patch.ID, o.ID))
	_, err = c.ApplyFile(ctx, w.plain(o.ID), false)
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9421")))
	p, err := c.Revert(ctx)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(p.ID, o.ID))
	p, err = c.ApplyFile(ctx, w.plain(o.ID), false) // the index holds this very file
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(p.ID, o.ID))
	qt.Check(t, qt.Equals(p.State, api.Applied))
	_, err = c.Revert(ctx)
	qt.Check(t, qt.IsNil(err))
	_, err = c.Clear(ctx, "all")
	qt.Check(t, qt.IsNil(err))
	o2 := w.offer(2)
	ps, err := c.ApplyBundle(ctx, []byte("bundle"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(ps, 1))
	qt.Check(t, qt.Equals(ps[0].ID, o2.ID))
	qt.Check(t, qt.IsNil(c.Leave(ctx, false)))
	s, err := c.Status(ctx)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(s.Server))
	qt.Check(t, qt.Equals(s.Applied.State, api.Applied)) // no daemon, no watch
}

// TestACommandThatGivesUpDoesNotStopTheAgent: the one who asked goes, the
// transition does not.
func TestACommandThatGivesUpDoesNotStopTheAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.offer(1)
	w.stuck[o.Name] = true
	a := w.open()
	path := serve(t, a)
	c, err := Dial(t.Context(), path)
	qt.Assert(t, qt.IsNil(err))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gaveUp := make(chan error, 1)
	go func() {
		_, err := c.ApplyFile(ctx, w.plain(o.ID), true)
		gaveUp <- err
	}()
	underWay := func() bool {
		s, err := c.Status(t.Context())
		qt.Assert(t, qt.IsNil(err))
		return s.Patch != nil && s.Patch.State == api.Transitioning
	}
	for end := time.Now().Add(time.Minute); !underWay() && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	qt.Check(t, qt.ErrorIs(<-gaveUp, context.Canceled))
	qt.Check(t, qt.IsTrue(underWay()))
	w.set(func() { clear(w.stuck) })
	for range 1200 {
		if s, err := c.Status(t.Context()); err == nil && s.Applied != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	qt.Check(t, qt.DeepEquals(w.loaded(), []string{o.Name}))
	_, err = Dial(t.Context(), path+".other")
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9425")))
}
