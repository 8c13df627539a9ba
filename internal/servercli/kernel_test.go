// SPDX-License-Identifier: Apache-2.0

package servercli_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// oneLineDiff replaces the only line of a file that has old in it.
func oneLineDiff(t *testing.T, root, path, old, replacement string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	qt.Assert(t, qt.IsNil(err))
	lines := strings.Split(string(b), "\n")
	at := -1
	for i, l := range lines {
		if strings.Contains(l, old) {
			qt.Assert(t, qt.Equals(at, -1), qt.Commentf("%q is in %s twice", old, path))
			at = i
		}
	}
	qt.Assert(t, qt.IsTrue(at > 2))
	return fmt.Sprintf("--- a/%[1]s\n+++ b/%[1]s\n@@ -%[2]d,7 +%[2]d,7 @@\n %[3]s\n-%[4]s\n+%[5]s\n %[6]s\n", path, at-2,
		strings.Join(lines[at-3:at], "\n "), lines[at], strings.ReplaceAll(lines[at], old, replacement), strings.Join(lines[at+1:at+4], "\n "))
}

// TestARealJobSurvivesItsServer has a server build, prove and publish a live
// patch for a real kernel, and kills it in the middle. The live patch after it
// takes the place of the first, which its proof shows.
func TestARealJobSurvivesItsServer(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	s := newSite(t, filepath.Join(t.TempDir(), "srv"), "sqlite:tsugi.db", "")
	// The program as it ships: it is process 1 of the virtual machines, too.
	s.program = filepath.Join(t.TempDir(), "tsugi-server")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", s.program, "github.com/tsugi-project/tsugi/cmd/tsugi-server")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	s.environ = []string{"TSUGI_SERVER_WORKERS_COUNT=1", "TSUGI_SERVER_WORKERS_LEASE=1m", "TSUGI_SERVER_WORKERS_HOME=" + target.Home()}
	s.start()
	c := s.admin()
	// A function of a small module that is changed in a way that does no harm.
	job := func(errno string) string {
		diff := oneLineDiff(t, target.Source, "fs/nls/nls_ascii.c", "return -ENAMETOOLONG", "return -"+errno)
		j, err := c.CreateJob(t.Context(), api.NewJob{
			Target: target.Name, Prove: true, Publish: true, Name: "tsugi_nls",
			Fixes: []api.JobDiff{{ID: "nls", Title: "nls: another error", Diff: diff}},
		})
		qt.Assert(t, qt.IsNil(err))
		return j.ID
	}
	get := func(id string) *api.Job {
		j, err := c.Job(t.Context(), id)
		qt.Assert(t, qt.IsNil(err))
		return j
	}
	wait := func(id string, is func(*api.Job) bool) *api.Job {
		for range 6000 {
			if j := get(id); is(j) {
				return j
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatalf("it never comes: %+v", get(id))
		return nil
	}
	first := job("ERANGE")
	wait(first, func(j *api.Job) bool { return j.State == api.JobRunning && j.Stage != "" })
	s.kill()
	s.start()
	j := wait(first, func(j *api.Job) bool { return j.Ended != 0 })
	qt.Assert(t, qt.Equals(j.State, api.JobDone), qt.Commentf("%+v", j.Problem))
	qt.Check(t, qt.Equals(j.Attempt, 2))
	qt.Check(t, qt.Equals(j.Verdict, string(builder.Live)))

	second := job("EDOM")
	j = wait(second, func(j *api.Job) bool { return j.Ended != 0 })
	qt.Assert(t, qt.Equals(j.State, api.JobDone), qt.Commentf("%+v", j.Problem))
	b, err := c.JobArtifact(t.Context(), second)
	qt.Assert(t, qt.IsNil(err))
	p, err := livepatch.Read(b)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(p.Manifest.Version, 2))
	qt.Check(t, qt.Equals(p.Manifest.Name, "tsugi_nls_v2"))
	lp, err := c.LivePatch(t.Context(), j.Patch)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(lp.Proven))
	qt.Check(t, qt.DeepEquals(lp.Tiers, []string{"edge"}))
	s.stop()
}
