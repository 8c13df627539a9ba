// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"go.uber.org/goleak"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/agent/host"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/server"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a real service behind TLS.
type site struct {
	t     *testing.T
	pub   *publish.Service
	web   *httptest.Server
	admin *client.Client
	ca    []byte
	root  []byte
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t}
	set, err := publish.NewKeySet(publish.KeySetOptions{
		Dir: filepath.Join(dir, "keys"), OfflineDir: filepath.Join(dir, "offline"),
		Tiers: []string{"edge", "beta", "candidate", "stable"}, Lifetimes: repo.DefaultLifetimes(), Now: time.Now(),
	})
	qt.Assert(t, qt.IsNil(err))
	s.root = set.Root
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "db"))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(db.Close())) })
	files, err := blob.OpenFolder(filepath.Join(dir, "blobs"))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(files.Close())) })
	s.pub, err = publish.New(publish.Options{Store: db, Blobs: files, Keys: set.Keys})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(s.pub.Init(t.Context(), set.Root)))
	secret := api.NewCredential(api.OperatorCredential)
	_, err = db.CreateOperator(t.Context(), "ann", store.OperatorAdmin, api.HashCredential(secret))
	qt.Assert(t, qt.IsNil(err))
	s.web = httptest.NewUnstartedServer(nil)
	s.web.StartTLS()
	s.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.web.Certificate().Raw})
	srv, err := server.New(t.Context(), server.Options{
		Store: db, Blobs: files, Publish: s.pub, URL: s.web.URL, CA: s.ca, Version: "test", Log: slog.New(slog.DiscardHandler), Key: make([]byte, 32),
		Jobs: jobs.NewQueue(jobs.QueueOptions{Store: db, Blobs: files, Log: slog.New(slog.DiscardHandler)}),
	})
	qt.Assert(t, qt.IsNil(err))
	s.web.Config.Handler = srv.HTTP().Handler
	s.web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of handshakes that clients refuse
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { qt.Check(t, qt.IsNil(srv.Run(ctx))) })
	t.Cleanup(func() { stop(); wg.Wait(); s.web.Close() })
	httpc, err := client.NewHTTP(client.HTTPOptions{CA: s.ca, Proxy: "none"})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(httpc.CloseIdleConnections)
	s.admin, err = client.New(client.Options{URL: s.web.URL, Credential: secret, HTTP: httpc})
	qt.Assert(t, qt.IsNil(err))
	return s
}

func (s *site) word() string {
	s.t.Helper()
	made, err := s.admin.CreateToken(s.t.Context(), api.NewToken{Name: "t", Tier: "edge"})
	qt.Assert(s.t, qt.IsNil(err))
	return made.Enroll
}

const buildID = "abababababababababababababababababababab"

func (s *site) publish(version int) *api.LivePatch {
	s.t.Helper()
	name := "tsugi_v" + string(rune('0'+version))
	p, err := livepatch.New(livepatch.Manifest{
		Name: name, Version: version,
		Target:    livepatch.TargetRef{Name: "debian:6.1.0-55-amd64", Release: "6.1.0-55-amd64", PackageVersion: "6.1.192-1", Arch: "x86_64", BuildID: buildID},
		Fixes:     []livepatch.FixRef{{ID: "fix", CVEs: []string{"CVE-2026-12345"}}},
		Functions: []livepatch.Function{{Object: "vmlinux", Name: "f"}},
	}, name+".ko", bytes.Repeat([]byte{byte(version)}, 5000), map[string][]byte{"fix": []byte("diff")})
	qt.Assert(s.t, qt.IsNil(err))
	b, err := p.Bytes()
	qt.Assert(s.t, qt.IsNil(err))
	lp, err := s.admin.Publish(s.t.Context(), client.Publication{Artifact: b})
	qt.Assert(s.t, qt.IsNil(err))
	return lp
}

// kernel takes every live patch.
type kernel struct {
	mu     sync.Mutex
	loaded []agent.Loaded
}

func (k *kernel) set(l ...agent.Loaded) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loaded = l
}

func (k *kernel) Load(_ context.Context, _ []byte, name string) error {
	k.set(agent.Loaded{Name: name, Enabled: true})
	return nil
}

func (k *kernel) Watch(context.Context, string, time.Duration, func([]api.Stall)) (agent.Transition, error) {
	return agent.Transition{Done: true, Duration: time.Millisecond}, nil
}

func (k *kernel) Revert(context.Context, string, time.Duration, func([]api.Stall)) (agent.Transition, error) {
	k.set()
	return agent.Transition{Done: true}, nil
}

func (k *kernel) Remove(context.Context, string) error { return nil }

func (k *kernel) Loaded(context.Context) ([]agent.Loaded, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.loaded, nil
}

func (k *kernel) Complaint(ctx context.Context, _ time.Time, _ string, _ []string) (string, error) {
	<-ctx.Done()
	return "", nil
}

// system is a machine whose kernel the live patches are for.
type system struct{ id string }

func (s system) Host(context.Context) (*agent.Host, error) {
	return &agent.Host{
		Kernel: api.Kernel{Release: "6.1.0-55-amd64", BuildID: buildID, Arch: "x86_64"},
		BootID: "boot", MachineID: strings.Repeat(s.id, 32), Hostname: "h", Booted: time.Now(),
	}, nil
}

func (system) Preflight(context.Context, *livepatch.Patch, []*livepatch.Manifest) []*code.Problem {
	return nil
}

// machine is an agent with the real link and real keys.
func machine(t *testing.T, dir string) *agent.Agent {
	t.Helper()
	c := agent.DefaultConfig()
	c.Health.Watch = agent.Duration(10 * time.Millisecond)
	a, err := agent.Open(t.Context(), agent.Options{
		Dir: dir, Config: c, System: system{"ab"}, Kernel: &kernel{}, Crypt: host.Crypt{}, Version: "1",
		Link: host.Link{Dir: filepath.Join(dir, "tuf"), Proxy: "direct"},
	})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func enroll(t *testing.T, a *agent.Agent, word string) error {
	t.Helper()
	e, err := agent.ParseEnrollment(word)
	qt.Assert(t, qt.IsNil(err))
	_, err = a.Enroll(t.Context(), e)
	return err
}

// refresh has a machine check in until it is protected by what was published a
// moment ago: the server has to notice that, which takes a while where its
// processor has much to do. Till then the machine is told to wait, or gets no key.
func refresh(t *testing.T, a *agent.Agent) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		err := a.Refresh(t.Context())
		if err == nil && protection(a) == api.Protected {
			return
		}
		if err != nil && code.Of(err) != "TS9414" || time.Now().After(deadline) {
			t.Fatalf("%s, %s: %v", protection(a), a.Status().Reason, err)
		}
	}
}

func protection(a *agent.Agent) api.Protection { return a.Status().Protection }

func TestFromWordToLivePatchOverTLS(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	a := machine(t, dir)
	qt.Assert(t, qt.IsNil(enroll(t, a, s.word())))
	qt.Check(t, qt.IsNil(a.Refresh(t.Context())))
	qt.Check(t, qt.Equals(protection(a), api.NotCovered))
	lp := s.publish(1)
	refresh(t, a)
	qt.Assert(t, qt.Equals(protection(a), api.Protected), qt.Commentf("%+v", a.Status().Problems))
	qt.Check(t, qt.Equals(a.Status().Applied.ID, lp.ID))
	_, err := a.Revert(t.Context())
	qt.Check(t, qt.IsNil(err))

	// Over an offline bundle, with the server gone: a newer version.
	second := s.publish(2)
	id := a.Status().Server.Machine
	b, err := s.admin.Bundle(t.Context(), "edge", nil, []string{id})
	qt.Assert(t, qt.IsNil(err))
	s.web.CloseClientConnections()
	s.web.Listener.Close()
	p, err := a.ApplyBundle(t.Context(), b)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(p, 1))
	qt.Check(t, qt.Equals(p[0].ID, second.ID))
	// A byte of it changed is refused, whichever it is.
	for _, at := range []int{600, len(b) / 3, len(b) / 2, len(b) * 3 / 4} {
		bad := bytes.Clone(b)
		bad[at] ^= 1
		fresh := machine(t, t.TempDir())
		_, err := fresh.ApplyBundle(t.Context(), bad)
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9416"))) // and not at all without an enrolment
	}
	qt.Check(t, qt.Equals(code.Of(a.Refresh(t.Context())), code.Code("TS7612")))
	qt.Check(t, qt.Equals(a.Status().Applied.ID, second.ID))
}

func TestPinsHoldBeforeAnythingIsTrusted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	good, err := agent.ParseEnrollment(s.word())
	qt.Assert(t, qt.IsNil(err))
	for name, c := range map[string]struct {
		change func(*agent.Enrollment)
		want   code.Code
	}{
		"another CA":       {func(e *agent.Enrollment) { e.CADigest = strings.Repeat("ab", 32) }, "TS7613"},
		"another root":     {func(e *agent.Enrollment) { e.RootDigest = strings.Repeat("ab", 32) }, "TS7111"},
		"no CA at all":     {func(e *agent.Enrollment) { e.CADigest = "" }, "TS7613"},
		"a root of nobody": {func(e *agent.Enrollment) { e.RootDigest, e.Root = "", []byte("{}") }, "TS7131"},
		"another token":    {func(e *agent.Enrollment) { e.Token = agent.Credential(api.NewCredential(api.TokenCredential)) }, "TS7621"},
		"nobody there":     {func(e *agent.Enrollment) { e.Server = "https://127.0.0.1:1" }, "TS7612"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			a := machine(t, dir)
			e := good
			c.change(&e)
			_, err := a.Enroll(t.Context(), e)
			qt.Check(t, qt.Equals(code.Of(err), c.want), qt.Commentf("%v", err))
			for _, f := range []string{"machine.json", "identity", "identity.new", "tuf"} {
				_, err := os.Stat(filepath.Join(dir, f))
				qt.Check(t, qt.ErrorIs(err, os.ErrNotExist), qt.Commentf("%s is left", f))
			}
			// And the right word still works.
			_, err = a.Enroll(t.Context(), good)
			qt.Check(t, qt.IsNil(err))
		})
	}
}

func TestAfterTheServerChanged(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.publish(1)
	dir := t.TempDir()
	a := machine(t, dir)
	qt.Assert(t, qt.IsNil(enroll(t, a, s.word())))
	refresh(t, a)

	// Decommissioned on the server: told, and nothing is taken away.
	id := a.Status().Server.Machine
	qt.Assert(t, qt.IsNil(s.admin.Decommission(t.Context(), id)))
	err := a.Refresh(t.Context())
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS7623")), qt.Commentf("%v", err))
	qt.Check(t, qt.IsNotNil(a.Status().Applied))

	// Enrolled again: a new word of the same server, the same trust.
	qt.Assert(t, qt.IsNil(enroll(t, a, s.word())))
	qt.Check(t, qt.IsNil(a.Refresh(t.Context())))
	qt.Check(t, qt.Equals(protection(a), api.Protected))

	// Another server has another root: not without leaving the first.
	other := newSite(t)
	err = enroll(t, a, other.word())
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS7123")), qt.Commentf("%v", err))
	qt.Assert(t, qt.IsNil(a.Leave(t.Context(), false)))
	qt.Check(t, qt.IsNil(enroll(t, a, other.word())))
	qt.Check(t, qt.IsNil(a.Refresh(t.Context())))

	// Somebody else's certificate at the same address.
	b, err := os.ReadFile(filepath.Join(dir, "machine.json"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(a.Close()))
	wrong := strings.ReplaceAll(string(b), other.web.URL, newStranger(t))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "machine.json"), []byte(wrong), 0o600)))
	a = machine(t, dir)
	err = a.Refresh(t.Context())
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS7613")), qt.Commentf("%v", err))
	qt.Check(t, qt.IsFalse(errors.Is(err, context.DeadlineExceeded)))
}

// newStranger is a server with a certificate of its own that nobody pinned.
func newStranger(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	qt.Assert(t, qt.IsNil(err))
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	qt.Assert(t, qt.IsNil(err))
	web := httptest.NewUnstartedServer(nil)
	web.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.StartTLS()
	t.Cleanup(web.Close)
	return web.URL
}

// TestABundleSaysTheMachinesPolicy: that of the recipient that asks.
func TestABundleSaysTheMachinesPolicy(t *testing.T) {
	t.Parallel()
	info := trust.BundleInfo{Format: 1, Tier: "stable"}
	info.SetPolicy("mine", "db")
	info.SetPolicy("another's", "web")
	about, err := json.Marshal(info)
	qt.Assert(t, qt.IsNil(err))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name string
		body []byte
	}{{trust.BundleAbout, about}, {trust.BundleKeys("mine"), []byte(`{"id":"key"}`)}, {trust.BundleKeys("plain"), []byte(`{}`)}} {
		qt.Assert(t, qt.IsNil(w.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.body))})))
		_, err := w.Write(f.body)
		qt.Assert(t, qt.IsNil(err))
	}
	qt.Assert(t, qt.IsNil(w.Close()))
	for recipient, want := range map[string]string{"mine": "db", "plain": ""} {
		_, got, err := host.Link{Dir: t.TempDir()}.Bundle(t.Context(), b.Bytes(), recipient)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(got.Policy, want))
		qt.Check(t, qt.Equals(got.Tier, "stable"))
	}
}
