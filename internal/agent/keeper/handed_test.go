// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/splice"
)

const (
	givenTarget = "debian:given=1"
	givenBuild  = "abababababababababababababababababababab"
)

// givenFile is a live patch of a package, whose code no engine here looks at.
func givenFile(t *testing.T, version int) []byte {
	t.Helper()
	s := &splice.File{
		Format: splice.Format, BuildID: givenBuild, Name: "libgiven.so.1", Path: "/usr/lib/libgiven.so.1",
		Segments: []splice.Segment{
			{Vaddr: 0, Memsz: 0x800, Filesz: 0x800, Flags: 4},
			{Vaddr: 0x1000, Memsz: 0x1000, Filesz: 0x1000, Flags: 5},
		},
		Text: bytes.Repeat([]byte{0x90}, 64),
		Functions: []splice.Function{
			{Name: "f", Old: 0x1110, Size: 32, Room: 32, SHA256: strings.Repeat("1", 64), New: 0, NewSize: 32, Policy: splice.Quiescent},
		},
	}
	b, err := s.Encode()
	qt.Assert(t, qt.IsNil(err))
	p, err := livepatch.NewUserland(livepatch.Manifest{
		Name: "given", Version: version,
		Target:    livepatch.TargetRef{Name: givenTarget, PackageVersion: "1", Arch: "x86_64"},
		Fixes:     []livepatch.FixRef{{ID: "fix"}},
		Files:     []livepatch.FileRef{{BuildID: s.BuildID, Name: s.Name, Path: s.Path, Package: "given"}},
		Functions: []livepatch.Function{{Object: s.Name, Name: "f", Change: "its code"}},
	}, map[string][]byte{s.BuildID: b}, map[string][]byte{"fix": []byte("diff")})
	qt.Assert(t, qt.IsNil(err))
	file, err := p.Bytes()
	qt.Assert(t, qt.IsNil(err))
	return file
}

func inEffect(t *testing.T, k *Keeper) string {
	t.Helper()
	all, err := k.Kept()
	qt.Assert(t, qt.IsNil(err))
	var ids []string
	for _, p := range all {
		ids = append(ids, p.ID)
	}
	return strings.Join(ids, " ")
}

func TestGive(t *testing.T) {
	t.Parallel()
	k := New(filepath.Join(t.TempDir(), "processes"), nil)
	one, err := k.Give(t.Context(), givenFile(t, 1), false)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(one.Given))
	again, err := k.Give(t.Context(), givenFile(t, 1), false)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(again.Applied, one.Applied)) // nothing has changed
	two, err := k.Give(t.Context(), givenFile(t, 2), false)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(inEffect(t, k), two.ID))
	// A recall leads back, and nothing else does.
	_, err = k.Give(t.Context(), givenFile(t, 1), false)
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9423")))
	back, err := k.Give(t.Context(), givenFile(t, 1), true)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(inEffect(t, k), one.ID))
	qt.Check(t, qt.IsTrue(back.Applied > one.Applied)) // it is told from the first time
	qt.Assert(t, qt.IsNil(k.TakeBack(t.Context(), one.ID)))
	qt.Assert(t, qt.IsNil(k.TakeBack(t.Context(), one.ID)))
	qt.Assert(t, qt.IsNil(k.TakeBack(t.Context(), "debian-nothing-v1")))
	qt.Check(t, qt.Equals(inEffect(t, k), ""))
	anew, err := k.Give(t.Context(), givenFile(t, 1), true)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(anew.Applied > back.Applied))
	_, err = k.Give(t.Context(), []byte("no live patch"), false)
	qt.Check(t, qt.IsNotNil(err))
}

// machine is an Engine and the Senses of a machine of memory.
type machine struct {
	mu        sync.Mutex
	processes map[proc.ID]string // names; all map the file
	busy      map[int]bool
	has       map[int]string // live patches, by pid
	watcher   func(pid int)
	crash     func(id proc.ID, name, signal string, at time.Time)
	outdated  []Outdated
}

func (m *machine) Bring(_ context.Context, want []Want, pids ...int) ([]Process, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Process
	for _, w := range want {
		for id, name := range m.processes {
			if len(pids) > 0 && !slices.Contains(pids, id.PID) {
				continue
			}
			p := Process{PID: id.PID, Name: name, File: "libgiven.so.1", BuildID: givenBuild, Patch: w.Patch, Standing: Protected, start: id.Start}
			switch {
			case m.busy[id.PID]:
				p.Standing, p.Problem = Pending, &api.Problem{Code: "TS9620", What: "busy"}
			case w.Out:
				p.Standing = Original
				if m.has[id.PID] == w.Patch {
					delete(m.has, id.PID)
				}
			default:
				m.has[id.PID] = w.Patch
			}
			out = append(out, p)
		}
	}
	return out, nil
}

func (m *machine) Look(context.Context, []Want) ([]Process, []Outdated, error) { return nil, nil, nil }

func (m *machine) Watch(ctx context.Context, _ []Want, each func(pid int)) error {
	m.mu.Lock()
	m.watcher = each
	m.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (m *machine) Mapped(_ context.Context, wanted func(string) bool) ([][]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out [][]string
	for range m.processes {
		if wanted(givenBuild) {
			out = append(out, []string{givenBuild})
		}
	}
	return out, nil
}

func (m *machine) Outdated(context.Context) ([]Outdated, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.outdated, nil
}

func (m *machine) Crashes(ctx context.Context, each func(id proc.ID, name, signal string, at time.Time)) error {
	m.mu.Lock()
	m.crash = each
	m.mu.Unlock()
	<-ctx.Done()
	return ctx.Err()
}

func (m *machine) Started(id proc.ID) time.Time { return time.UnixMilli(int64(id.Start)) }

// until waits for the keeper's account to say something.
func until(t *testing.T, k *Keeper, what string, f func(a *Account) bool) *Account {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		a, _, err := k.Told(time.Time{})
		qt.Assert(t, qt.IsNil(err))
		if a != nil && f(a) {
			return a
		}
	}
	t.Fatalf("it was never told that %s", what)
	return nil
}

// TestServe: what the agent gives comes to processes, and what it wants to know is
// told.
func TestServe(t *testing.T) {
	t.Parallel()
	m := &machine{
		processes: map[proc.ID]string{{PID: 7, Start: 1}: "nginx", {PID: 8, Start: 1}: "nginx", {PID: 9, Start: 1}: "postgres"},
		busy:      map[int]bool{9: true}, has: map[int]string{},
		outdated: []Outdated{{PID: 7, Name: "nginx", Files: []string{"/usr/lib/given.so"}, builds: []string{givenBuild}}},
	}
	dir := filepath.Join(t.TempDir(), "processes")
	agent := New(dir, nil)
	runs, err := agent.Running()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(runs))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { qt.Check(t, qt.IsNil(New(dir, m).Serve(ctx, slog.New(slog.DiscardHandler), m))) })
	defer wg.Wait()
	defer stop()
	until(t, agent, "there is nothing", func(a *Account) bool { return len(a.Patches) == 0 })
	runs, err = agent.Running()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(runs))
	qt.Check(t, qt.Equals(code.Of(New(dir, m).Serve(ctx, slog.New(slog.DiscardHandler), m)), code.Code("TS9662")))

	qt.Assert(t, qt.IsNil(agent.Seek(map[string][]string{"given": {givenBuild}, "other": {"cdcdcdcdcdcdcdcd"}})))
	a := until(t, agent, "processes map it", func(a *Account) bool { return len(a.Mapped) > 0 })
	qt.Check(t, qt.DeepEquals(a.Mapped, []Population{{"given", 3}}))
	qt.Check(t, qt.DeepEquals(a.Stale, &Stale{
		Stale:    api.Stale{Processes: 1, Files: []api.StaleFile{{Path: "/usr/lib/given.so", BuildID: givenBuild, Processes: 1, Program: "nginx"}}},
		Packages: []Population{{"given", 1}},
	}))

	p, err := agent.Give(t.Context(), givenFile(t, 1), false)
	qt.Assert(t, qt.IsNil(err))
	a = until(t, agent, "it is applied", func(a *Account) bool { return len(a.Patches) == 1 })
	qt.Check(t, qt.Equals(a.Patches[0].Applied, p.Applied))
	qt.Check(t, qt.DeepEquals(a.Patches[0].Processes, api.Processes{Protected: 2, Pending: 1}))
	qt.Check(t, qt.DeepEquals(a.Patches[0].Reasons, []api.ProcessReason{{Problem: api.Problem{Code: "TS9620", What: "busy"}, Processes: 1, Program: "postgres"}}))

	// A process that never had it, and one that did, crash.
	m.mu.Lock()
	m.crash(proc.ID{PID: 4, Start: 1}, "ld", "SIGSEGV", time.Now())
	m.crash(proc.ID{PID: 7}, "", "SIGSEGV", time.Now())
	m.mu.Unlock()
	a = until(t, agent, "nginx crashed", func(a *Account) bool { return len(a.Crashes) > 0 })
	qt.Assert(t, qt.HasLen(a.Crashes, 1))
	qt.Check(t, qt.Equals(a.Crashes[0].Program, "nginx"))
	qt.Check(t, qt.Equals(a.Crashes[0].Patch, p.ID))
	qt.Check(t, qt.Equals(a.Crashes[0].Signal, "SIGSEGV"))

	qt.Assert(t, qt.IsNil(agent.TakeBack(t.Context(), p.ID)))
	a = until(t, agent, "it is on its way out", func(a *Account) bool { return len(a.Patches) == 1 && a.Patches[0].Out })
	qt.Check(t, qt.Equals(a.Patches[0].Processes.Pending, 1))
	qt.Check(t, qt.HasLen(a.Crashes, 0)) // nothing to be done by them any more
	m.mu.Lock()
	clear(m.busy)
	m.mu.Unlock()
	until(t, agent, "it is out", func(a *Account) bool { return len(a.Patches) == 0 })
	stop()
	wg.Wait()
	runs, err = agent.Running()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(runs))
}

// TestCrashesThatCount: what a program does without a live patch as well does not
// speak against one.
func TestCrashesThatCount(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(10_000_000)
	clock := func() time.Time { return now }
	b := &book{
		path: filepath.Join(t.TempDir(), "status.json"), log: slog.New(slog.DiscardHandler), now: clock,
		started: func(id proc.ID) time.Time { return time.UnixMilli(int64(id.Start)) },
		treated: map[int]treated{}, faulty: map[string]time.Time{},
	}
	row := func(pid int, start uint64, name string) Process {
		return Process{PID: pid, Name: name, Patch: "p-v1", Standing: Protected, start: start}
	}
	patch := Patch{ID: "p-v1", Applied: 10_000_000}
	pass := func(ps ...Process) { b.passed(&Report{Patches: []Patch{patch}, Processes: ps}) }
	b.crashed(proc.ID{PID: 3, Start: 1}, "bad", "SIGSEGV", now)
	pass(row(1, 1, "old"), row(2, 1, "bad"), row(5, 1, "gone"))
	now = now.Add(10 * time.Second)
	b.crashed(proc.ID{PID: 2, Start: 1}, "bad", "SIGSEGV", now)
	qt.Check(t, qt.HasLen(b.account.Crashes, 0)) // it did so before
	b.crashed(proc.ID{PID: 5, Start: 77}, "other", "SIGSEGV", now)
	qt.Check(t, qt.HasLen(b.account.Crashes, 0)) // the number is another's now
	b.crashed(proc.ID{PID: 1, Start: 1}, "old", "SIGBUS", now)
	qt.Assert(t, qt.HasLen(b.account.Crashes, 1))
	qt.Check(t, qt.Equals(b.account.Crashes[0].AfterMS, int64(10_000)))
	qt.Check(t, qt.IsFalse(b.account.Crashes[0].Late))
	// A process that was busy for two minutes, and one that started since.
	now = now.Add(2 * time.Minute)
	pass(row(11, 1, "busy"), row(12, 10_100_000, "fresh"))
	b.crashed(proc.ID{PID: 11, Start: 1}, "busy", "SIGSEGV", now)
	b.crashed(proc.ID{PID: 12, Start: 10_100_000}, "fresh", "SIGSEGV", now)
	qt.Assert(t, qt.HasLen(b.account.Crashes, 3))
	qt.Check(t, qt.IsTrue(b.account.Crashes[1].Late))
	qt.Check(t, qt.IsFalse(b.account.Crashes[2].Late))
	// They go with what they were about.
	patch.Applied++
	pass()
	qt.Check(t, qt.HasLen(b.account.Crashes, 0))
	text, err := os.ReadFile(b.path)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(string(text), `"patches":[{"id":"p-v1"`))
}
