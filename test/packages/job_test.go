// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	sqlstore "github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/store/blob"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// workersHome has the prepared packages of a home and no kernel.
func workersHome(t *testing.T, of string) string {
	home := t.TempDir()
	qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Join(home, "userland"), 0o755)))
	for _, d := range []string{"debs", "objects", "userland/debs", "userland/objects", "userland/sources", "userland/roots", "userland/builds", "userland/targets"} {
		qt.Assert(t, qt.IsNil(os.Symlink(filepath.Join(of, d), filepath.Join(home, d))))
	}
	return home
}

// TestJobsOfAPackage: the fixes of an update are pushed to a server, one policy
// excludes a CVE, and the server's worker builds, proves in a virtual machine,
// whose kernel it fetches, and publishes a live patch for each choice.
func TestJobsOfAPackage(t *testing.T) {
	of := target(t, "debian:libc6=2.36-9+deb12u7")
	ctx, dir := t.Context(), t.TempDir()
	set, err := publish.NewKeySet(publish.KeySetOptions{
		Dir: filepath.Join(dir, "keys"), OfflineDir: filepath.Join(dir, "offline"), Lifetimes: repo.DefaultLifetimes(), Now: time.Now(),
	})
	qt.Assert(t, qt.IsNil(err))
	db, err := sqlstore.Open(ctx, "sqlite:"+filepath.Join(dir, "db"))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(db.Close())) })
	blobs, err := blob.OpenFolder(filepath.Join(dir, "blobs"))
	qt.Assert(t, qt.IsNil(err))
	pub, err := publish.New(publish.Options{Store: db, Blobs: blobs, Keys: set.Keys})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(pub.Init(ctx, set.Root)))
	queue := jobs.NewQueue(jobs.QueueOptions{
		Store: db, Blobs: blobs, Series: pub.Pushed, Log: slog.New(slog.DiscardHandler),
		Publish: func(ctx context.Context, p jobs.Publication) (string, error) {
			row, err := pub.Publish(ctx, publish.PublishRequest{Artifact: p.Artifact, Proof: p.Proof, Report: p.Report, Job: p.Job, Actor: p.Actor, Selection: p.Selection})
			return row.ID, err
		},
	})

	c, err := catalogue.Open(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	s, err := c.PackageUpdate(ctx, store(t), of, glibcFixed, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	b, err := selection.Push(of.Name, s, nil).Bytes()
	qt.Assert(t, qt.IsNil(err))
	_, err = pub.PushUpdate(ctx, "update", false, b, "ann")
	qt.Assert(t, qt.IsNil(err))
	const excluded = "CVE-2025-15281"
	qt.Assert(t, qt.IsNil(pub.ChangePolicy(ctx, "careful", "ann", func(selection.Policy, bool) (selection.Policy, string, error) {
		return selection.Policy{Name: "careful", Exclusions: []selection.Exclusion{{CVE: excluded, Reason: "r", Owner: "ann"}}}, "", nil
	})))
	wanted, err := pub.Choose(ctx)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(wanted, 2))
	for _, w := range wanted {
		u := api.JobUpdate{Series: w.Updates, Selection: w.Selection, Again: w.Again, Policy: jobs.PolicyWire(w.Policy), At: w.At.UnixMilli(), Policies: w.Policies}
		made, err := queue.SubmitUpdate(ctx, w.Target, w.Title, u, w.Pushed)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(made))
	}

	executor, err := jobs.NewPipeline(jobs.PipelineOptions{Home: workersHome(t, of.Home()), Builder: "tsugi test"})
	qt.Assert(t, qt.IsNil(err))
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- jobs.NewWorker(jobs.WorkerOptions{Backend: queue, Executor: executor, Name: "w", Log: slog.New(slog.DiscardHandler)}).Run(run)
	}()
	t.Cleanup(func() {
		stop()
		qt.Check(t, qt.IsNil(<-ended))
	})
	got := map[string]string{}
	all, err := queue.Jobs(ctx, sqlstore.JobFilter{})
	qt.Assert(t, qt.IsNil(err))
	for _, j := range all {
		for j.Ended == 0 {
			time.Sleep(time.Second)
			j, err = queue.Job(ctx, j.ID)
			qt.Assert(t, qt.IsNil(err))
		}
		chunks, err := queue.Log(ctx, j.ID, 0, 0)
		qt.Assert(t, qt.IsNil(err))
		for _, c := range chunks {
			t.Logf("%s", c.Text)
		}
		qt.Assert(t, qt.Equals(j.State, api.JobDone), qt.Commentf("%+v", j.Problem))
		row, err := db.LivePatch(ctx, j.Patch)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(row.Proven))
		for _, p := range row.Policies {
			x, err := pub.Index(ctx, "edge", row.BuildID, p)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.HasLen(x.Patches, 1))
			cves := slices.Sorted(slices.Values(x.Patches[0].CVEs))
			got[p] = strings.Join(cves, " ")
		}
	}
	qt.Check(t, qt.DeepEquals(got, map[string]string{
		"default": "CVE-2025-15281 CVE-2025-8058 CVE-2026-0861",
		"careful": "CVE-2025-8058 CVE-2026-0861",
	}), qt.Commentf("%s", fmt.Sprint(got)))
}
