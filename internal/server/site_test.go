// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"go.uber.org/goleak"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/people"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const target = "debian:6.1.0-55-amd64"

var testKernel = api.Kernel{Release: "6.1.0-55-amd64", BuildID: strings.Repeat("ab", 20), Arch: "x86_64"}

// site is a whole service: store, blobs, publication, queue, and a server that
// runs behind a real listener.
type site struct {
	*Server
	t      testing.TB
	dir    string
	db     *store.Store
	files  *blob.Folder
	pub    *publish.Service
	queue  *jobs.Queue
	web    *httptest.Server
	admin  *client.Client
	secret string // of the admin
	log    *bytes.Buffer
	logMu  sync.Mutex
	shift  atomic.Int64
	root   []byte
	keys   publish.Keys
}

func (s *site) clock() time.Time { return time.Now().Add(time.Duration(s.shift.Load())) }

func newSite(t testing.TB, change ...func(*Options)) *site {
	t.Helper()
	return siteOn(t, "sqlite:"+filepath.Join(t.TempDir(), "db"), change...)
}

func siteOn(t testing.TB, dsn string, change ...func(*Options)) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), log: &bytes.Buffer{}}
	set, err := publish.NewKeySet(publish.KeySetOptions{
		Dir: filepath.Join(s.dir, "keys"), OfflineDir: filepath.Join(s.dir, "offline"),
		Tiers: []string{"edge", "beta", "candidate", "stable"}, Lifetimes: repo.DefaultLifetimes(), Now: time.Now(),
	})
	qt.Assert(t, qt.IsNil(err))
	s.root, s.keys = set.Root, set.Keys
	s.db, err = store.Open(t.Context(), dsn, store.WithClock(s.clock))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(s.db.Close())) })
	s.files, err = blob.OpenFolder(filepath.Join(s.dir, "blobs"))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(s.files.Close())) })
	s.pub, err = publish.New(publish.Options{Store: s.db, Blobs: s.files, Keys: set.Keys, Now: s.clock})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(s.pub.Init(t.Context(), set.Root)))
	s.secret = api.NewCredential(api.OperatorCredential)
	_, err = s.db.CreateOperator(t.Context(), "ann", store.OperatorAdmin, api.HashCredential(s.secret))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(s.db.SetSetting(t.Context(), store.SettingPlanMachines, store.PlanUnlimited)))
	s.start(change...)
	return s
}

// start starts the server of a site, or another one of it.
func (s *site) start(change ...func(*Options)) {
	s.t.Helper()
	s.queue = jobs.NewQueue(jobs.QueueOptions{Store: s.db, Blobs: s.files, Series: s.pub.Pushed, Log: slog.New(slog.DiscardHandler)})
	s.web = httptest.NewUnstartedServer(nil)
	o := Options{
		Store: s.db, Blobs: s.files, Publish: s.pub, Jobs: s.queue, Now: s.clock, Version: "test",
		Log: slog.New(slog.NewTextHandler(&lockedWriter{mu: &s.logMu, w: s.log}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		URL: "http://" + s.web.Listener.Addr().String(),
		Key: bytes.Repeat([]byte{7}, 32), Sessions: people.Limits{Argon: people.Argon{Memory: 64, Time: 1, Threads: 1}},
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	s.Server, err = New(s.t.Context(), o)
	qt.Assert(s.t, qt.IsNil(err))
	s.web.Config = s.HTTP()
	s.web.Start()
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	srv := s.Server
	wg.Go(func() { qt.Check(s.t, qt.IsNil(srv.Run(ctx))) })
	web := s.web
	s.t.Cleanup(func() {
		stop()
		wg.Wait()
		web.Close()
	})
	s.admin = s.client(s.secret)
	if srv.fleet.size() == 0 {
		return
	}
	// What is counted at the start is not what a test makes of it.
	eventually(s.t, "the fleet is counted", func() bool {
		srv.metrics.fleet.mu.Lock()
		defer srv.metrics.fleet.mu.Unlock()
		return srv.metrics.fleet.last != nil
	})
	s.recount()
}

type lockedWriter struct {
	mu *sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (s *site) client(credential string) *client.Client {
	s.t.Helper()
	httpc, err := client.NewHTTP(client.HTTPOptions{Proxy: "none"})
	qt.Assert(s.t, qt.IsNil(err))
	s.t.Cleanup(httpc.CloseIdleConnections)
	c, err := client.New(client.Options{URL: s.web.URL, Credential: credential, HTTP: httpc})
	qt.Assert(s.t, qt.IsNil(err))
	return c
}

func (s *site) token(change ...func(*api.NewToken)) *api.TokenMade {
	s.t.Helper()
	in := api.NewToken{Name: "t", Tier: "edge"}
	for _, c := range change {
		c(&in)
	}
	made, err := s.admin.CreateToken(s.t.Context(), in)
	qt.Assert(s.t, qt.IsNil(err))
	return made
}

// host is a machine as the agent would be.
type host struct {
	*client.Client
	enrolled api.EnrollAnswer
	id       trust.Identity
	etag     string
	report   api.CheckIn
}

func enrollment(t testing.TB, token, name string) (api.EnrollRequest, trust.Identity) {
	id, err := trust.NewIdentity()
	qt.Assert(t, qt.IsNil(err))
	return api.EnrollRequest{
		Token: token, MachineID: fmt.Sprintf("%064x", name), Hostname: name, Recipient: id.Recipient(),
		Agent: "1.0", OS: "Debian 12", Kernel: testKernel,
	}, id
}

func (s *site) enroll(token, name string) *host {
	s.t.Helper()
	in, id := enrollment(s.t, token, name)
	a, err := s.client("").Enroll(s.t.Context(), in)
	qt.Assert(s.t, qt.IsNil(err))
	return &host{Client: s.client(a.Credential), enrolled: a, id: id, report: checkInOf(name)}
}

func checkInOf(name string) api.CheckIn {
	return api.CheckIn{
		Agent: "1.0", BootID: "boot-of-" + name, Run: "run-of-" + name, Uptime: 100, Clock: 1, Kernel: testKernel, Able: true,
	}
}

// checkIn checks in with what the host has to say now; nil: nothing is new.
func (h *host) checkIn(t testing.TB) *api.Assignment {
	t.Helper()
	h.report.Uptime++
	h.report.Clock++
	a, etag, err := h.CheckIn(t.Context(), h.report, h.etag)
	qt.Assert(t, qt.IsNil(err))
	h.etag = etag
	return a
}

func artifact(t testing.TB, version int) []byte {
	m := livepatch.Manifest{
		Name: fmt.Sprintf("tsugi_ext4_v%d", version), Version: version, Compiler: "gcc 12.2.0", Builder: "tsugi 1",
		Target:    livepatch.TargetRef{Name: target, Release: testKernel.Release, PackageVersion: "6.1.192-1", Arch: "x86_64", BuildID: testKernel.BuildID, ConfigDigest: strings.Repeat("cd", 32)},
		Fixes:     []livepatch.FixRef{{ID: "deb-1154101", Title: "ext4: check", CVEs: []string{"CVE-2026-12345"}}},
		Functions: []livepatch.Function{{Object: "vmlinux", Name: "f", Change: "changed"}},
	}
	lp, err := livepatch.New(m, "tsugi_ext4.ko", bytes.Repeat([]byte{byte(version)}, 4000), map[string][]byte{"deb-1154101": []byte("diff")})
	qt.Assert(t, qt.IsNil(err))
	b, err := lp.Bytes()
	qt.Assert(t, qt.IsNil(err))
	return b
}

func (s *site) publishVersion(version int) *api.LivePatch {
	s.t.Helper()
	p, err := s.admin.Publish(s.t.Context(), client.Publication{Artifact: artifact(s.t, version)})
	qt.Assert(s.t, qt.IsNil(err))
	return p
}

// refused asserts the status and the code of an error.
func refused(t testing.TB, err error, status int, c code.Code) {
	t.Helper()
	qt.Assert(t, qt.IsNotNil(err))
	qt.Check(t, qt.Equals(client.Status(err), status), qt.Commentf("%v", err))
	qt.Check(t, qt.Equals(code.Of(err), c), qt.Commentf("%v", err))
	p, ok := errors.AsType[*code.Problem](err)
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Not(qt.Equals(p.Fix, "")))
}

// eventually waits for what another goroutine does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("this did not happen: %s", what)
		}
	}
}

func do(t testing.TB, method, url, credential, kind string, body []byte) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	qt.Assert(t, qt.IsNil(err))
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	req.Header.Set("Last-Event-ID", strings.Repeat("9", 30)) // no stream: it would not end
	tr := &http.Transport{DisableKeepAlives: true}
	res, err := tr.RoundTrip(req)
	qt.Assert(t, qt.IsNil(err))
	defer res.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(res.Body)
	qt.Assert(t, qt.IsNil(err))
	return res, b.Bytes()
}
