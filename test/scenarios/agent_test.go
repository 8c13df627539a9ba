// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/agent/host"
	"github.com/tsugi-project/tsugi/internal/agent/keeper"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/server"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
	"github.com/tsugi-project/tsugi/internal/userland/local"
)

// site is a server with one operator, behind TLS, and how it is unplugged.
func site(t *testing.T) (admin *client.Client, word string, unplug func()) {
	t.Helper()
	dir := t.TempDir()
	set, err := publish.NewKeySet(publish.KeySetOptions{
		Dir: filepath.Join(dir, "keys"), OfflineDir: filepath.Join(dir, "offline"),
		Tiers: []string{"edge", "stable"}, Lifetimes: repo.DefaultLifetimes(), Now: time.Now(),
	})
	qt.Assert(t, qt.IsNil(err))
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(dir, "db"))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(db.Close())) })
	files, err := blob.OpenFolder(filepath.Join(dir, "blobs"))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(files.Close())) })
	pub, err := publish.New(publish.Options{Store: db, Blobs: files, Keys: set.Keys})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(pub.Init(t.Context(), set.Root)))
	secret := api.NewCredential(api.OperatorCredential)
	_, err = db.CreateOperator(t.Context(), "ann", store.OperatorAdmin, api.HashCredential(secret))
	qt.Assert(t, qt.IsNil(err))
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	quiet := slog.New(slog.DiscardHandler)
	srv, err := server.New(t.Context(), server.Options{
		Store: db, Blobs: files, Publish: pub, URL: web.URL, CA: ca, Version: "test", Log: quiet, Key: make([]byte, 32),
		Jobs: jobs.NewQueue(jobs.QueueOptions{Store: db, Blobs: files, Log: quiet}),
	})
	qt.Assert(t, qt.IsNil(err))
	web.Config.Handler = srv.HTTP().Handler
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { qt.Check(t, qt.IsNil(srv.Run(ctx))) })
	t.Cleanup(func() { stop(); wg.Wait(); web.Close() })
	httpc, err := client.NewHTTP(client.HTTPOptions{CA: ca, Proxy: "none"})
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(httpc.CloseIdleConnections)
	admin, err = client.New(client.Options{URL: web.URL, Credential: secret, HTTP: httpc})
	qt.Assert(t, qt.IsNil(err))
	made, err := admin.CreateToken(t.Context(), api.NewToken{Name: "t", Tier: "edge"})
	qt.Assert(t, qt.IsNil(err))
	return admin, made.Enroll, func() {
		web.CloseClientConnections()
		web.Listener.Close()
	}
}

// machine is an agent with the real link and keys, enrolled, and the keeper that
// serves it until ctx ends.
func machine(t *testing.T, ctx context.Context, wg *sync.WaitGroup, word string) *agent.Agent {
	t.Helper()
	dir := t.TempDir()
	k := keeper.Host{Engine: engine()}
	wg.Go(func() {
		qt.Check(t, qt.IsNil(keeper.New(filepath.Join(dir, host.ProcessesDir), k).Serve(ctx, slog.New(slog.DiscardHandler), k)))
	})
	cfg := agent.DefaultConfig()
	cfg.Health.Watch = agent.Duration(2 * time.Second)
	a, err := agent.Open(t.Context(), agent.Options{
		Dir: dir, Config: cfg, System: bare{}, Crypt: host.Crypt{}, Version: "1", Keeper: host.NewKeeper(dir),
		Link: host.Link{Dir: filepath.Join(dir, "tuf"), Proxy: "direct"},
	})
	qt.Assert(t, qt.IsNil(err))
	e, err := agent.ParseEnrollment(word)
	qt.Assert(t, qt.IsNil(err))
	_, err = a.Enroll(t.Context(), e)
	qt.Assert(t, qt.IsNil(err))
	comes(t, "the keeper runs", func() bool {
		st, err := host.NewKeeper(dir).Status(t.Context())
		return err == nil && st.Problem == nil
	})
	return a
}

// ownProgram is one that no other test has processes of: the keeper takes every
// process of a build.
func ownProgram(name string) build {
	own := program1(name, local.PIE, "busy.c")
	own.ldflags = append(own.ldflags, fmt.Sprintf("-Wl,--build-id=0x%016x%016x", os.Getpid(), time.Now().UnixNano()))
	return own
}

// comes waits for what goes through the server, the agent and the keeper, each
// with a pace of its own.
func comes(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come: %s", what)
		}
	}
}

// bare is a machine whose kernel nobody has live patches for.
type bare struct{}

func (bare) Host(context.Context) (*agent.Host, error) {
	return &agent.Host{
		Kernel: api.Kernel{Release: "6.1.0-55-amd64", BuildID: strings.Repeat("ab", 20), Arch: "x86_64"},
		BootID: "boot", MachineID: strings.Repeat("cd", 32), Hostname: "h", Booted: time.Now(),
	}, nil
}

func (bare) Preflight(context.Context, *livepatch.Patch, []*livepatch.Manifest) []*code.Problem {
	return nil
}

// TestFromTheServerIntoProcesses: a live patch of a program that is published
// comes to the processes of a machine that follows the tier, to those that start
// later, and is taken out of them by a recall.
func TestFromTheServerIntoProcesses(t *testing.T) {
	needs(t)
	if os.Geteuid() != 0 {
		t.Skip("processes of others are for root")
	}
	t.Parallel()
	m := ownProgram("served").make(t, 1)
	first := start(t, m.ELF)
	first.do("release")
	qt.Assert(t, qt.Equals(first.do("call held 5"), 6))

	admin, word, _ := site(t)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	a := machine(t, ctx, &wg, word)
	defer a.Close()
	wg.Go(func() { qt.Check(t, qt.IsNil(a.Run(ctx))) })

	lp, err := admin.Publish(t.Context(), client.Publication{Artifact: artifact(t, 1, m.Splice)})
	qt.Assert(t, qt.IsNil(err))
	comes(t, "the patch", func() bool { return first.do("call held 5") == 105 })
	later := start(t, m.ELF)
	later.do("release")
	comes(t, "the patch in a new process", func() bool { return later.do("call held 5") == 105 })
	healthy := func() bool {
		s := a.Status()
		return len(s.Packages) == 1 && s.Packages[0].Patch.State == api.Healthy
	}
	comes(t, "the live patch is healthy", healthy)
	comes(t, "the server knows", func() bool {
		ms, err := admin.Machines(t.Context(), client.MachineFilter{})
		qt.Assert(t, qt.IsNil(err))
		one, err := admin.Machine(t.Context(), ms.Items[0].ID)
		qt.Assert(t, qt.IsNil(err))
		return len(one.Packages) == 1 && one.Packages[0].Patch.ID == lp.ID && one.Packages[0].Patch.State == api.Healthy
	})

	_, err = admin.Block(t.Context(), lp.ID, api.Block{Reason: "it was a test", Recall: true})
	qt.Assert(t, qt.IsNil(err))
	for _, p := range []*program{first, later} {
		comes(t, "the original", func() bool { return p.do("call held 5") == 6 })
		p.quit()
	}
	comes(t, "the live patch is out", func() bool {
		s := a.Status()
		return len(s.Packages) == 0 || s.Packages[0].Patch.State == api.Reverted
	})
}
