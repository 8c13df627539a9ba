// SPDX-License-Identifier: Apache-2.0

package jobs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
	"github.com/tsugi-project/tsugi/internal/userland"
)

const (
	target = "debian:6.1.0-55-amd64"
	diff   = "--- a/fs/x.c\n+++ b/fs/x.c\n@@ -1 +1 @@\n-a\n+b\n"
)

// site is the part of a server that jobs need, with a clock that tests move.
type site struct {
	t     testing.TB
	db    *store.Store
	blobs blob.Store
	pub   *publish.Service
	queue *jobs.Queue
	// published is called before a job's live patch is published.
	published func()

	mu  sync.Mutex
	now time.Time
}

// onBoth runs a test on both engines.
func onBoth(t *testing.T, test func(*testing.T, *site)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, newSite(t, "sqlite:"+filepath.Join(t.TempDir(), "db")))
	})
	t.Run("postgresql", func(t *testing.T) {
		t.Parallel()
		test(t, newSite(t, testenv.Postgres(t)))
	})
}

func newSite(t testing.TB, dsn string) *site {
	s := &site{t: t, now: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
	dir := t.TempDir()
	set, err := publish.NewKeySet(publish.KeySetOptions{
		Dir: filepath.Join(dir, "keys"), OfflineDir: filepath.Join(dir, "offline"), Lifetimes: repo.DefaultLifetimes(), Now: s.now,
	})
	qt.Assert(t, qt.IsNil(err))
	s.db, err = store.Open(t.Context(), dsn, store.WithClock(s.clock))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(s.db.Close())) })
	s.blobs, err = blob.OpenFolder(filepath.Join(dir, "blobs"))
	qt.Assert(t, qt.IsNil(err))
	s.pub, err = publish.New(publish.Options{Store: s.db, Blobs: s.blobs, Keys: set.Keys, Now: s.clock})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(s.pub.Init(t.Context(), set.Root)))
	s.queue = jobs.NewQueue(jobs.QueueOptions{Store: s.db, Blobs: s.blobs, Publish: s.publish, Series: s.pub.Pushed, Log: slog.New(slog.DiscardHandler), Now: s.clock})
	return s
}

func (s *site) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *site) later(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *site) publish(ctx context.Context, p jobs.Publication) (string, error) {
	if s.published != nil {
		s.published()
	}
	made, err := s.pub.Publish(ctx, publish.PublishRequest{Artifact: p.Artifact, Proof: p.Proof, Report: p.Report, Job: p.Job, Actor: p.Actor, Selection: p.Selection})
	if c := code.Of(err); c == "TS7702" || c == "TS7706" {
		err = fmt.Errorf("%w: %w", store.ErrConflict, err)
	}
	return made.ID, err
}

func (s *site) submit(change ...func(*api.NewJob)) string {
	s.t.Helper()
	n := api.NewJob{Target: target, Fixes: []api.JobDiff{{ID: "fix-1", Title: "x: check", Diff: diff}}, Prove: true, Publish: true}
	for _, f := range change {
		f(&n)
	}
	j, err := s.queue.Submit(s.t.Context(), n, "ann")
	qt.Assert(s.t, qt.IsNil(err))
	return j.ID
}

func (s *site) job(id string) api.Job {
	s.t.Helper()
	j, err := s.queue.Job(s.t.Context(), id)
	qt.Assert(s.t, qt.IsNil(err))
	return j
}

// log is all that a job said.
func (s *site) log(id string) string {
	s.t.Helper()
	var b strings.Builder
	for after := int64(0); ; {
		chunks, err := s.queue.Log(s.t.Context(), id, after, 0)
		qt.Assert(s.t, qt.IsNil(err))
		if len(chunks) == 0 {
			return b.String()
		}
		for _, c := range chunks {
			b.WriteString(c.Text)
			after = c.Seq
		}
	}
}

// ended waits until a job has come to an end.
func (s *site) ended(id string) api.Job {
	s.t.Helper()
	return s.until(id, func(j api.Job) bool { return j.Ended != 0 })
}

func (s *site) until(id string, is func(api.Job) bool) api.Job {
	s.t.Helper()
	for range 6000 {
		if j := s.job(id); is(j) {
			return j
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.t.Fatalf("it never comes: %+v", s.job(id))
	return api.Job{}
}

// work runs a worker; the function that it returns stops it and waits.
func (s *site) work(e jobs.Executor, b jobs.Backend) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	w := jobs.NewWorker(jobs.WorkerOptions{
		Backend: b, Executor: e, Name: fmt.Sprintf("w%d", time.Now().UnixNano()), Log: slog.New(slog.DiscardHandler),
		Heartbeat: 10 * time.Millisecond,
	})
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		qt.Check(s.t, qt.IsNil(<-done))
	})
	s.t.Cleanup(stop)
	return stop
}

// executor is an Executor that is a function.
type executor func(ctx context.Context, l *api.Lease, log *jobs.Log, b jobs.Backend) (*jobs.Outcome, error)

func (e executor) Execute(ctx context.Context, l *api.Lease, log *jobs.Log, b jobs.Backend) (*jobs.Outcome, error) {
	return e(ctx, l, log, b)
}

// livePackage is live for a package.
func livePackage(l *api.Lease) (*jobs.Outcome, error) {
	const id = "1234567890123456789012345678901234567890"
	const path = "/usr/lib/x86_64-linux-gnu/libx.so.1"
	f := splice.File{
		Format: splice.Format, BuildID: id, Name: "libx.so.1", Path: path, Text: bytes.Repeat([]byte{0x90}, 16),
		Segments:  []splice.Segment{{Vaddr: 0x1000, Memsz: 0x1000, Filesz: 0x1000, Flags: 5}},
		Functions: []splice.Function{{Name: "f", Old: 0x1100, Size: 32, Room: 32, SHA256: strings.Repeat("0", 64), NewSize: 16, Policy: splice.Quiescent}},
	}
	b, err := f.Encode()
	if err != nil {
		return nil, err
	}
	m := livepatch.Manifest{
		Name: fmt.Sprintf("tsugi_x_v%d", l.Version), Version: l.Version, Builder: "tsugi devel",
		Target:    livepatch.TargetRef{Name: l.Spec.Target, PackageVersion: "1.0-1", Arch: "x86_64"},
		Files:     []livepatch.FileRef{{BuildID: id, Name: f.Name, Path: path, Package: "libx1"}},
		Functions: []livepatch.Function{{Object: f.Name, Name: "f", Change: "changed"}},
	}
	diffs := map[string][]byte{}
	for _, d := range l.Spec.Fixes {
		m.Fixes = append(m.Fixes, livepatch.FixRef{ID: d.ID, CVEs: d.CVEs})
		diffs[d.ID] = []byte(d.Diff)
	}
	p, err := livepatch.NewUserland(m, map[string][]byte{id: b}, diffs)
	if err != nil {
		return nil, err
	}
	out := &jobs.Outcome{Verdict: "live", Report: []byte(`{"verdict":"live"}`), Proven: true}
	if out.Artifact, err = p.Bytes(); err != nil {
		return nil, err
	}
	target, err := json.Marshal(m.Target)
	out.Proof = fmt.Appendf(nil, `{"format":1,"verdict":"proved","target":%s,"patch":{"sha256":"%x"},"package":{"files":[{"build_id":%q}]}}`, target, sha256.Sum256(out.Artifact), id)
	return out, err
}

// live makes a small live patch of the lease's version with a proof.
func live(l *api.Lease) (*jobs.Outcome, error) {
	if userland.IsName(l.Spec.Target) {
		return livePackage(l)
	}
	buildID := strings.Repeat("ab", 20)
	p, err := livepatch.New(livepatch.Manifest{
		Name: fmt.Sprintf("tsugi_x_v%d", l.Version), Version: l.Version, Builder: "tsugi devel",
		Target:    livepatch.TargetRef{Name: l.Spec.Target, Release: "6.1.0-55-amd64", PackageVersion: "1", Arch: "x86_64", BuildID: buildID},
		Fixes:     []livepatch.FixRef{{ID: l.Spec.Fixes[0].ID, Title: l.Spec.Fixes[0].Title}},
		Functions: []livepatch.Function{{Object: "vmlinux", Name: "f", Change: "changed"}},
	}, "x.ko", bytes.Repeat([]byte{7}, 4000), map[string][]byte{l.Spec.Fixes[0].ID: []byte(l.Spec.Fixes[0].Diff)})
	if err != nil {
		return nil, err
	}
	out := &jobs.Outcome{Verdict: "live", Report: []byte(`{"verdict":"live"}`), Proven: true}
	if out.Artifact, err = p.Bytes(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(out.Artifact)
	out.Proof = fmt.Appendf(nil, `{"format":1,"verdict":"proved","patch":{"sha256":"%x","module_sha256":%q},"kernel":{"build_id":%q}}`, sum, p.Manifest.Module.Digest, buildID)
	return out, nil
}

func builds() executor {
	return func(_ context.Context, l *api.Lease, log *jobs.Log, _ jobs.Backend) (*jobs.Outcome, error) {
		log.Printf("built version %d", l.Version)
		return live(l)
	}
}

// flaky is a backend whose calls fail now and then, before they arrive or
// after: then the caller does not know that they did.
type flaky struct {
	jobs.Backend
	mu    sync.Mutex
	calls int
	fails func(call int) (before, after bool)
}

var errFlaky = errors.New("the network is away")

func (f *flaky) around(do func() error) error {
	f.mu.Lock()
	f.calls++
	before, after := f.fails(f.calls)
	f.mu.Unlock()
	if before {
		return errFlaky
	}
	err := do()
	if after {
		return errFlaky
	}
	return err
}

func (f *flaky) AppendLog(ctx context.Context, job string, l api.JobLog) error {
	return f.around(func() error { return f.Backend.AppendLog(ctx, job, l) })
}

func (f *flaky) PutFile(ctx context.Context, job string, file api.JobFile, r io.Reader, size int64) error {
	return f.around(func() error { return f.Backend.PutFile(ctx, job, file, r, size) })
}

func (f *flaky) Finish(ctx context.Context, job string, r api.JobResult) error {
	return f.around(func() error { return f.Backend.Finish(ctx, job, r) })
}

func (f *flaky) Heartbeat(ctx context.Context, job string, h api.Heartbeat) (a api.HeartbeatAnswer, err error) {
	return a, f.around(func() error { a, err = f.Backend.Heartbeat(ctx, job, h); return err })
}
