// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// interrupter is a reporter that ends a context a moment after a stage began,
// or after one was noted to do something.
type interrupter struct {
	stage, note string
	after       time.Duration
	cancel      context.CancelFunc
	reached     *atomic.Bool
}

func (i *interrupter) Start(stage string, _ int64, _ progress.Unit) progress.Task {
	if stage == i.stage && i.note == "" {
		i.hit()
	}
	return &interrupterTask{i, stage}
}

func (i *interrupter) hit() {
	i.reached.Store(true)
	time.AfterFunc(i.after, i.cancel)
}

type interrupterTask struct {
	*interrupter
	name string
}

func (t *interrupterTask) Add(int64)  {}
func (t *interrupterTask) Done(error) {}
func (t *interrupterTask) Note(text string) {
	if t.note != "" && t.name == t.stage && text == t.note {
		t.hit()
	}
}

// TestInterruptsLeaveNothing ends builds and proofs in the middle of each
// stage, as ctrl-C does. No process, no temporary file and nothing half-made
// may be left, and what follows has to work.
func TestInterruptsLeaveNothing(t *testing.T) {
	k := testenv.Kernel(t, testenv.Old)
	// Orphans become children of this process, where they can be seen.
	qt.Assert(t, qt.IsNil(unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)))
	defer func() { qt.Check(t, qt.IsNil(unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0))) }()
	program := tsugictl(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)

	// The text is new each time, so that it has to be compiled.
	f := editOf(t, k, "interrupted", smallEdit(strconv.FormatInt(time.Now().UnixNano(), 10)))
	req := builder.Request{Target: k, Fixes: []*fix.Fix{f}, Name: "tsugi_e2e_interrupted"}
	live(t, k, "", editOf(t, k, "warm", smallEdit("warm"))) // the original is there
	before := cached(t, k)
	defer removeNew(t, k, before)

	interrupted := func(i interrupter, run func(context.Context, progress.Reporter) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		i.cancel, i.reached = cancel, &atomic.Bool{}
		start := time.Now()
		err := run(ctx, &i)
		t.Logf("%s %s: ended after %.1f s: %v", i.stage, i.note, time.Since(start).Seconds(), err)
		qt.Assert(t, qt.IsTrue(i.reached.Load()), qt.Commentf("stage %s was not reached", i.stage))
		qt.Assert(t, qt.ErrorIs(err, context.Canceled))
		noChildren(t)
		left, err := os.ReadDir(tmp)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(left, 0))
		noJournal(t, k)
	}
	buildIt := func(ctx context.Context, rep progress.Reporter) error {
		_, err := builder.Build(ctx, req, rep)
		return err
	}
	interrupted(interrupter{stage: "compile pairs", after: 200 * time.Millisecond}, buildIt)
	qt.Check(t, qt.DeepEquals(cached(t, k), before), qt.Commentf("no object of the interrupted compiler"))
	interrupted(interrupter{stage: "link module", after: 700 * time.Millisecond}, buildIt)

	r := live(t, k, req.Name, f)
	proveIt := func(ctx context.Context, rep progress.Reporter) error {
		q, err := proof.FromPatch(r.Artifact, proof.ForKernel(k))
		if err != nil {
			return err
		}
		q.Init, q.CacheDir, q.Target.Kernel = program, k.Home(), k.Vmlinux
		_, err = proof.Prove(ctx, q, rep)
		return err
	}
	interrupted(interrupter{stage: "proof with the patch", note: "booting", after: 2 * time.Second}, proveIt)
	interrupted(interrupter{stage: "proof with the patch", note: "load"}, proveIt)
	prove(t, k, r, nil)
	noChildren(t)
}

// cached lists what the cache holds of the small object.
func cached(t *testing.T, k *kernel.Target) []string {
	t.Helper()
	files, err := filepath.Glob(objectDir(k) + "/*")
	qt.Assert(t, qt.IsNil(err))
	hidden, err := filepath.Glob(objectDir(k) + "/.*")
	qt.Assert(t, qt.IsNil(err))
	files = append(files, hidden...)
	slices.Sort(files)
	return files
}

func objectDir(k *kernel.Target) string {
	return filepath.Join(k.Home(), "objects", k.Release+"-*", strings.TrimSuffix(small, ".c")+".o")
}

// removeNew takes out of the cache what no other run can use.
func removeNew(t *testing.T, k *kernel.Target, before []string) {
	t.Helper()
	for _, f := range cached(t, k) {
		if !slices.Contains(before, f) && strings.HasPrefix(filepath.Base(f), "patched-") {
			qt.Check(t, qt.IsNil(os.Remove(f)))
		}
	}
}

// noChildren waits a moment for the dead, and names who lives.
func noChildren(t *testing.T) {
	t.Helper()
	var alive []string
	for range 600 {
		alive = nil
		stats, err := filepath.Glob("/proc/[0-9]*/stat")
		qt.Assert(t, qt.IsNil(err))
		for _, s := range stats {
			b, err := os.ReadFile(s)
			if err != nil {
				continue // it ended meanwhile
			}
			// pid (comm) state ppid …
			text := string(b)
			end := strings.LastIndexByte(text, ')')
			if end < 0 {
				continue
			}
			var state string
			var parent int
			if _, err := fmt.Sscan(text[end+1:], &state, &parent); err != nil || parent != os.Getpid() {
				continue
			}
			if state != "Z" {
				alive = append(alive, text[:end+1])
			}
		}
		if len(alive) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("processes were left: %v", alive)
}

// noJournal looks for a copy of the source that still has the fix in it.
func noJournal(t *testing.T, k *kernel.Target) {
	t.Helper()
	journals, err := filepath.Glob(filepath.Join(k.Home(), "work", filepath.Base(k.Source)+"-*", "journal"))
	qt.Assert(t, qt.IsNil(err))
	for _, j := range journals {
		b, err := os.ReadFile(j)
		qt.Check(t, qt.IsTrue(err != nil || !strings.Contains(string(b), small)), qt.Commentf("%s: %s", j, b))
	}
}
