// SPDX-License-Identifier: Apache-2.0

package servercli_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/google/uuid"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/testenv/port"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// site is a server as a real process, made by init.
type site struct {
	t        testing.TB
	dir      string
	url      string
	environ  []string
	ca       []byte
	operator string
	enroll   api.Enrollment
	dsn      string
	program  string // "tsugi-server" is this test as that program

	mu      sync.Mutex
	process *exec.Cmd
	log     *bytes.Buffer
}

// onBoth runs a test with SQLite and a folder, and with PostgreSQL and S3.
func onBoth(t *testing.T, test func(*testing.T, *site)) {
	if testing.Short() {
		t.Skip("processes that are killed, again and again: not with -short")
	}
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		test(t, newSite(t, filepath.Join(dir, "srv"), "sqlite:tsugi.db", "storage: {kind: folder}\n"))
	})
	t.Run("postgresql", func(t *testing.T) {
		t.Parallel()
		test(t, newSite(t, filepath.Join(t.TempDir(), "srv"), testenv.Postgres(t), s3Config(t)))
	})
}

// s3Config starts an S3 server and is the configuration of it.
func s3Config(t testing.TB) string {
	backend := s3mem.New()
	qt.Assert(t, qt.IsNil(backend.CreateBucket("tsugi")))
	s := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(s.Close)
	return fmt.Sprintf("storage: {kind: s3, s3: {endpoint: %q, bucket: tsugi, prefix: a/b, access_key: key, secret_key: secret}}\n", s.URL)
}

func newSite(t testing.TB, dir, database, storage string) *site {
	p, err := port.Reserve()
	qt.Assert(t, qt.IsNil(err))
	s := &site{t: t, dir: dir, url: fmt.Sprintf("https://localhost:%d", p), dsn: database}
	if database == "sqlite:tsugi.db" {
		s.dsn = "sqlite:" + filepath.Join(dir, "tsugi.db")
	}
	file := filepath.Join(t.TempDir(), "my.yaml")
	text := fmt.Sprintf("url: %s\nlisten: 127.0.0.1:%d\ndatabase: %q\n%sworkers: {count: 0, lease: 2s, attempts: 100}\nlog: {level: debug}\n", s.url, p, database, storage)
	qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte(text), 0o600)))
	out, err := exec.Command("tsugi-server", "init", "--dir", dir, "--config", file, "--no-root-passphrase", "--tier", "edge", "--json").Output()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", problemOf(err)))
	var made struct {
		Result struct {
			Operator string `json:"operator_token"`
			Enroll   string `json:"enroll"`
		} `json:"result"`
	}
	qt.Assert(t, qt.IsNil(json.Unmarshal(out, &made)))
	s.operator = made.Result.Operator
	s.enroll, err = api.ParseEnrollment(made.Result.Enroll)
	qt.Assert(t, qt.IsNil(err))
	s.ca, err = os.ReadFile(filepath.Join(dir, "ca", "ca.pem"))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(s.kill)
	return s
}

func problemOf(err error) string {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(e.Stderr)
	}
	return fmt.Sprint(err)
}

// start runs the server and waits until it is ready.
func (s *site) start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = new(bytes.Buffer)
	s.process = exec.Command(cmp.Or(s.program, "tsugi-server"), "serve", "--dir", s.dir)
	s.process.Env = append(os.Environ(), s.environ...)
	s.process.Stderr = s.log
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	qt.Assert(s.t, qt.IsNil(s.process.Start()))
	c := s.client("")
	for range 3000 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := c.Root(ctx)
		cancel()
		if err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
	s.t.Fatalf("the server does not come up:\n%s", s.log)
}

// kill is SIGKILL.
func (s *site) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait() // it was killed
		s.process = nil
	}
}

// stop is SIGTERM, after which the server has to end well.
func (s *site) stop() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	qt.Assert(s.t, qt.IsNil(s.process.Process.Signal(syscall.SIGTERM)))
	qt.Check(s.t, qt.IsNil(s.process.Wait()), qt.Commentf("%s", s.log))
	s.process = nil
}

func (s *site) client(credential string) *client.Client {
	httpc, err := client.NewHTTP(client.HTTPOptions{CA: s.ca})
	qt.Assert(s.t, qt.IsNil(err))
	httpc.Timeout = 20 * time.Second
	c, err := client.New(client.Options{URL: s.url, Credential: credential, HTTP: httpc})
	qt.Assert(s.t, qt.IsNil(err))
	return c
}

func (s *site) admin() *client.Client { return s.client(s.operator) }

// machine enrolls a machine and returns its client, id and credential.
func (s *site) machine(name string) (c *client.Client, machine, credential string) {
	s.t.Helper()
	id, err := trust.NewIdentity()
	qt.Assert(s.t, qt.IsNil(err))
	sum := sha256.Sum256([]byte(name + s.dir))
	a, err := s.client("").Enroll(s.t.Context(), api.EnrollRequest{
		Token: s.enroll.Token, MachineID: fmt.Sprintf("%x", sum), Hostname: name, Recipient: id.Recipient(), Agent: "test", Kernel: kernelOf(0),
	})
	qt.Assert(s.t, qt.IsNil(err))
	return s.client(a.Credential), a.Machine, a.Credential
}

func kernelOf(n int) api.Kernel {
	return api.Kernel{Release: fmt.Sprintf("6.1.0-%d-amd64", n), BuildID: fmt.Sprintf("%040x", 0xabc000+n), Arch: "x86_64"}
}

// makePatch is a small live patch for the kernel of this number.
func makePatch(kernel, version int, fix string) (artifact, proof []byte, err error) {
	k := kernelOf(kernel)
	p, err := livepatch.New(livepatch.Manifest{
		Name: fmt.Sprintf("tsugi_x_%d_v%d", kernel, version), Version: version, Builder: "tsugi devel",
		Target:    livepatch.TargetRef{Name: "debian:" + k.Release, Release: k.Release, PackageVersion: "1", Arch: k.Arch, BuildID: k.BuildID},
		Fixes:     []livepatch.FixRef{{ID: fix, Title: "x: check"}},
		Functions: []livepatch.Function{{Object: "vmlinux", Name: "f", Change: "changed"}},
	}, "x.ko", bytes.Repeat([]byte{7}, 4000), map[string][]byte{fix: []byte("diff")})
	if err != nil {
		return nil, nil, err
	}
	if artifact, err = p.Bytes(); err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(artifact)
	proof = fmt.Appendf(nil, `{"format":1,"verdict":"proved","patch":{"sha256":"%x","module_sha256":%q},"kernel":{"build_id":%q}}`, sum, p.Manifest.Module.Digest, k.BuildID)
	return artifact, proof, nil
}

// testWorker is a program: a worker over the network whose jobs take half a
// second and no kernel. Its arguments are URL, CA file, token, name.
func testWorker(ctx context.Context, args []string, streams command.Streams) int {
	ca, err := os.ReadFile(args[1])
	if err != nil {
		panic(err)
	}
	httpc, err := client.NewHTTP(client.HTTPOptions{CA: ca})
	if err != nil {
		panic(err)
	}
	c, err := client.New(client.Options{URL: args[0], Credential: args[2], HTTP: httpc})
	if err != nil {
		panic(err)
	}
	w := jobs.NewWorker(jobs.WorkerOptions{
		Backend: c, Executor: slowBuilds{}, Name: args[3] + "-" + uuid.NewString(), Heartbeat: 200 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(streams.Stderr, nil)),
	})
	if err := w.Run(ctx); err != nil {
		return 1
	}
	return 0
}

type slowBuilds struct{}

func (slowBuilds) Execute(ctx context.Context, l *api.Lease, log *jobs.Log, _ jobs.Backend) (*jobs.Outcome, error) {
	for i := range 5 {
		log.Printf("step %d of version %d", i, l.Version)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	var kernel int
	if _, err := fmt.Sscanf(l.Spec.Target, "debian:6.1.0-%d-amd64", &kernel); err != nil {
		return nil, err
	}
	out := &jobs.Outcome{Verdict: "live", Report: []byte(`{"verdict":"live"}`), Proven: true}
	var err error
	out.Artifact, out.Proof, err = makePatch(kernel, l.Version, l.Spec.Fixes[0].ID)
	return out, err
}

// startWorker runs a worker as a process; its result kills it.
func (s *site) startWorker(token, name string) (kill func()) {
	s.t.Helper()
	w := exec.Command("tsugi-test-worker", s.url, filepath.Join(s.dir, "ca", "ca.pem"), token, name)
	w.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	qt.Assert(s.t, qt.IsNil(w.Start()))
	kill = sync.OnceFunc(func() {
		_ = w.Process.Kill()
		_ = w.Wait() // it was killed
	})
	s.t.Cleanup(kill)
	return kill
}

// workerToken makes a worker without asking the server.
func (s *site) workerToken() string {
	s.t.Helper()
	out, err := exec.Command("tsugi-server", "operator", "new", "builder", "--role", "worker", "--dir", s.dir, "--json").Output()
	qt.Assert(s.t, qt.IsNil(err), qt.Commentf("%s", problemOf(err)))
	var made struct {
		Result api.OperatorMade `json:"result"`
	}
	qt.Assert(s.t, qt.IsNil(json.Unmarshal(out, &made)))
	return made.Result.Secret
}

// refused reports an answer of the server that asking again does not change.
func refused(err error) bool {
	var p *code.Problem
	return errors.As(err, &p) && client.Status(err) >= 400 && client.Status(err) < 500 && client.Status(err) != 429
}
