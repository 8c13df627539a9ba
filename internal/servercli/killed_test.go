// SPDX-License-Identifier: Apache-2.0

package servercli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/google/uuid"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust/updater"
)

// acknowledged is what the server said yes to.
type acknowledged struct {
	mu        sync.Mutex
	reports   map[string][]string // by machine
	published map[string]int      // id → number of its kernel
	jobs      []string
}

func (a *acknowledged) count() (published, jobs int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.published), len(a.jobs)
}

// TestKilledUnderLoad kills server and workers again and again while machines
// report, live patches are published and jobs run. What was acknowledged is
// there afterwards, and every job has come to its end, once.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, s *site) {
		s.start()
		unlimited := 0
		_, err := s.admin().ChangeSettings(t.Context(), api.SettingsChange{PlanMachines: &unlimited})
		qt.Assert(t, qt.IsNil(err))
		token := s.workerToken()
		var ack acknowledged
		ack.reports, ack.published = map[string][]string{}, map[string]int{}
		done := make(chan struct{})
		var load sync.WaitGroup
		for i := range 3 {
			c, id, _ := s.machine(fmt.Sprint("m", i))
			load.Go(func() { s.report(c, id, &ack, done) })
		}
		load.Go(func() { s.publish(&ack, done) })
		load.Go(func() { s.submit(&ack, done) })

		const least, most = 5, 60
		for round := range most {
			if published, jobs := ack.count(); round >= least && published > 10 && jobs > 3 {
				break // there was load
			}
			kill := s.startWorker(token, fmt.Sprint("w", round))
			time.Sleep(time.Duration(500+150*(round%5)) * time.Millisecond)
			if round%2 == 0 {
				kill()
			}
			time.Sleep(400 * time.Millisecond)
			s.kill()
			kill() // else it would work on while the server is away, too
			s.start()
		}
		s.startWorker(token, "last")
		close(done)
		load.Wait()
		s.check(&ack)
	})
}

// again repeats until the server has answered: a machine, too, keeps what is
// not acknowledged.
func again(do func() error) error {
	for range 2000 {
		if err := do(); err == nil || refused(err) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("the server did not answer")
}

func over(done chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

func (s *site) report(c *client.Client, machine string, ack *acknowledged, done chan struct{}) {
	for !over(done) {
		id := uuid.Must(uuid.NewV7()).String()
		var stored []string
		err := again(func() (err error) {
			stored, err = c.Report(s.t.Context(), []api.Report{{ID: id, Time: time.Now().UnixMilli(), Kind: api.ReportState, BootID: "b", Kernel: kernelOf(0)}})
			return err
		})
		qt.Check(s.t, qt.IsNil(err))
		ack.mu.Lock()
		ack.reports[machine] = append(ack.reports[machine], stored...)
		ack.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *site) publish(ack *acknowledged, done chan struct{}) {
	c := s.admin()
	for n := 1; !over(done); n++ {
		artifact, proof, err := makePatch(n, 1, "by-hand")
		qt.Check(s.t, qt.IsNil(err))
		var made *api.LivePatch
		err = again(func() error {
			made, err = c.Publish(s.t.Context(), client.Publication{Artifact: artifact, Proof: proof})
			return err
		})
		if !qt.Check(s.t, qt.IsNil(err)) {
			return
		}
		ack.mu.Lock()
		ack.published[made.ID] = n
		ack.mu.Unlock()
		time.Sleep(30 * time.Millisecond)
	}
}

func (s *site) submit(ack *acknowledged, done chan struct{}) {
	const diff = "--- a/fs/x.c\n+++ b/fs/x.c\n@@ -1 +1 @@\n-a\n+b\n"
	c := s.admin()
	for n := 1; !over(done); n++ {
		// Not repeated: a job whose answer was lost may be there or not.
		j, err := c.CreateJob(s.t.Context(), api.NewJob{
			Target: fmt.Sprintf("debian:6.1.0-%d-amd64", 500+n%3), Prove: true, Publish: true,
			Fixes: []api.JobDiff{{ID: fmt.Sprint("fix-", n), Diff: diff}},
		})
		if err == nil {
			ack.mu.Lock()
			ack.jobs = append(ack.jobs, j.ID)
			ack.mu.Unlock()
		}
		time.Sleep(300 * time.Millisecond)
	}
}

func (s *site) check(ack *acknowledged) {
	t, c := s.t, s.admin()
	t.Helper()
	qt.Check(t, qt.IsTrue(len(ack.jobs) > 3), qt.Commentf("%d jobs: there was no load", len(ack.jobs)))
	qt.Check(t, qt.IsTrue(len(ack.published) > 10), qt.Commentf("%d live patches: there was no load", len(ack.published)))
	patches := map[string]string{}
	for _, id := range ack.jobs {
		var j *api.Job
		for range 3000 {
			var err error
			j, err = c.Job(t.Context(), id)
			qt.Assert(t, qt.IsNil(err))
			if j.Ended != 0 {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		qt.Check(t, qt.Equals(j.State, api.JobDone), qt.Commentf("%+v %+v", j, j.Problem))
		qt.Check(t, qt.Equals(patches[j.Patch], ""), qt.Commentf("%s is of two jobs", j.Patch))
		patches[j.Patch] = id
	}
	s.checkServed(ack)
	s.stop()

	total := s.checkStored(ack)
	db, err := store.Open(t.Context(), s.dsn)
	qt.Assert(t, qt.IsNil(err))
	defer db.Close()
	all, err := db.LivePatches(t.Context(), store.LivePatchFilter{})
	qt.Assert(t, qt.IsNil(err))
	by := map[string]int{}
	for _, p := range all {
		by[p.CreatedBy]++
	}
	for _, id := range ack.jobs {
		qt.Check(t, qt.Equals(by["job:"+id], 1), qt.Commentf("live patches of job %s", id))
	}
	t.Logf("%d reports, %d live patches, %d jobs", total, len(ack.published), len(ack.jobs))
}

// checkStored finds every acknowledged report in the database.
func (s *site) checkStored(ack *acknowledged) (total int) {
	t := s.t
	t.Helper()
	db, err := store.Open(t.Context(), s.dsn)
	qt.Assert(t, qt.IsNil(err))
	defer db.Close()
	for machine, ids := range ack.reports {
		have := map[string]bool{}
		for f := (store.ReportFilter{Machine: machine}); ; {
			page, err := db.Reports(t.Context(), f)
			qt.Assert(t, qt.IsNil(err))
			if len(page) == 0 {
				break
			}
			for _, r := range page {
				have[r.ID] = true
				f.Before = r.Seq
			}
		}
		for _, id := range ids {
			qt.Check(t, qt.IsTrue(have[id]), qt.Commentf("report %s of %s is lost", id, machine))
		}
		total += len(ids)
	}
	return total
}

// checkServed looks with the eyes of a machine: what was published is signed
// and can be fetched.
func (s *site) checkServed(ack *acknowledged) {
	t, u := s.t, s.follower()
	qt.Assert(t, qt.IsNil(u.Refresh(t.Context())))
	for id, kernel := range ack.published {
		x, err := u.Index(t.Context(), "edge", kernelOf(kernel).BuildID, "")
		qt.Assert(t, qt.IsNil(err))
		if qt.Check(t, qt.IsNotNil(x), qt.Commentf("%s has no index", id)) && qt.Check(t, qt.HasLen(x.Patches, 1)) {
			qt.Check(t, qt.Equals(x.Patches[0].ID, id))
			_, err := u.Patch(t.Context(), "edge", x.Patches[0])
			qt.Check(t, qt.IsNil(err))
		}
	}
}

// follower is a machine's view of what is signed.
func (s *site) follower() *updater.Updater {
	t := s.t
	httpc, err := client.NewHTTP(client.HTTPOptions{CA: s.ca})
	qt.Assert(t, qt.IsNil(err))
	dir := filepath.Join(t.TempDir(), "tuf")
	qt.Assert(t, qt.IsNil(os.MkdirAll(dir, 0o700)))
	u, err := updater.New(updater.Options{Dir: dir, BaseURL: s.url + "/tuf", HTTP: httpc})
	qt.Assert(t, qt.IsNil(err))
	root, err := s.client("").Root(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(u.Bootstrap(root)))
	return u
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }
