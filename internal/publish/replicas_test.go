// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

// blobSource reads a repository straight from the blobs.
type blobSource struct{ blob.Store }

func (s blobSource) Fetch(ctx context.Context, path string, max int64) ([]byte, error) {
	f, _, err := s.Open(ctx, "tuf/"+path)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, updater.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, max+1))
}

func bucket(t *testing.T) blob.Store {
	backend := s3mem.New()
	qt.Assert(t, qt.IsNil(backend.CreateBucket("tsugi")))
	web := httptest.NewServer(gofakes3.New(backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(web.Close)
	b, err := blob.OpenS3(t.Context(), blob.S3Config{
		Endpoint: strings.TrimPrefix(web.URL, "http://"), Bucket: "tsugi", AccessKey: "key", SecretKey: "secret", Insecure: true,
	})
	qt.Assert(t, qt.IsNil(err))
	return b
}

func folder(t *testing.T) blob.Store {
	b, err := blob.OpenFolder(filepath.Join(t.TempDir(), "blobs"))
	qt.Assert(t, qt.IsNil(err))
	return b
}

// TestSeveralServersPublishAtOnceAndNothingIsLost lets servers, each with a
// connection of its own, publish, promote, block and sign at the same time.
func TestSeveralServersPublishAtOnceAndNothingIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		dsn   func() string
		blobs func(*testing.T) blob.Store
	}{
		"SQLite and a folder":     {func() string { return "sqlite:" + filepath.Join(t.TempDir(), "db") }, folder},
		"PostgreSQL and a bucket": {func() string { return testenv.Postgres(t) }, bucket},
	} {
		t.Run(name, func(t *testing.T) {
			set, err := NewKeySet(KeySetOptions{
				Dir: filepath.Join(t.TempDir(), "keys"), OfflineDir: filepath.Join(t.TempDir(), "offline"),
				Tiers: []string{"edge", "beta"}, Lifetimes: repo.DefaultLifetimes(), Now: time.Now(),
			})
			qt.Assert(t, qt.IsNil(err))
			dsn, blobs := c.dsn(), c.blobs(t)
			const servers, kernels = 4, 2
			var wg sync.WaitGroup
			for i := range servers {
				wg.Go(func() {
					db, err := store.Open(t.Context(), dsn)
					if !qt.Check(t, qt.IsNil(err)) {
						return
					}
					defer func() { qt.Check(t, qt.IsNil(db.Close())) }()
					s, err := New(Options{Store: db, Blobs: blobs, Keys: set.Keys})
					qt.Check(t, qt.IsNil(err))
					qt.Check(t, qt.IsNil(s.Init(t.Context(), set.Root))) // all of them: one wins
					for k := range kernels {
						publishAs(t, s, i*kernels+k)
					}
				})
			}
			wg.Wait()
			u, err := updater.New(updater.Options{Dir: t.TempDir(), Source: blobSource{blobs}})
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsNil(u.Bootstrap(set.Root)))
			qt.Assert(t, qt.IsNil(u.Refresh(t.Context())))
			for i := range servers * kernels {
				x, err := u.Index(t.Context(), "beta", kernelID(i), "")
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsNotNil(x))
				qt.Check(t, qt.HasLen(x.Blocked, 1))
				qt.Assert(t, qt.HasLen(x.Patches, 1))
				_, err = u.Patch(t.Context(), "beta", x.Patches[0])
				qt.Check(t, qt.IsNil(err))
				_, err = u.Provenance(t.Context(), "beta", x.Patches[0])
				qt.Check(t, qt.IsNil(err))
			}
		})
	}
}

func kernelID(i int) string { return fmt.Sprintf("%040x", i) }

// publishAs brings two live patches for a kernel to the second tier and blocks
// the first.
func publishAs(t *testing.T, s *Service, kernel int) {
	for version := 1; version <= 2; version++ {
		m := livepatch.Manifest{
			Name: fmt.Sprintf("tsugi_x_v%d", version), Version: version, Target: livepatch.TargetRef{Name: fmt.Sprintf("debian:k%d", kernel), Release: "k", Arch: "x86_64", BuildID: kernelID(kernel)},
			Fixes: []livepatch.FixRef{{ID: "f"}}, Functions: []livepatch.Function{{Object: "vmlinux", Name: "f", Change: "changed"}},
		}
		lp, err := livepatch.New(m, "x.ko", []byte("ko"), map[string][]byte{"f": nil})
		qt.Check(t, qt.IsNil(err))
		b, err := lp.Bytes()
		qt.Check(t, qt.IsNil(err))
		row, err := s.Publish(t.Context(), PublishRequest{Artifact: b})
		if !qt.Check(t, qt.IsNil(err)) {
			return
		}
		qt.Check(t, qt.Equals(row.ID, trust.PatchID(m.Target.Name, version)))
		_, err = s.Promote(t.Context(), row.ID, "", "x")
		qt.Check(t, qt.IsNil(err))
		if version == 1 {
			_, err = s.Block(t.Context(), row.ID, "x", false, "x")
			qt.Check(t, qt.IsNil(err))
		}
	}
}
