// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

func TestAProcessIsListedAndHeld(t *testing.T) {
	run := start(t, pie(t))
	ids, err := List(t.Context())
	qt.Assert(t, qt.IsNil(err))
	at := slices.IndexFunc(ids, func(id ID) bool { return id.PID == run.pid() })
	qt.Assert(t, qt.IsTrue(at >= 0))
	p, err := OpenID(t.Context(), ids[at])
	qt.Assert(t, qt.IsNil(err))
	defer p.Close()
	qt.Assert(t, qt.Equals(p.ID(), ids[at]))
	qt.Assert(t, qt.IsNil(p.Check(t.Context())))
	s, err := p.Status(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(s.Name, "pie"))
	qt.Check(t, qt.Equals(s.PPID, os.Getpid()))
	qt.Check(t, qt.Equals(s.Threads, 1))
	qt.Check(t, qt.Equals(s.TracerPID, 0))
	qt.Check(t, qt.Equals(s.UID[1], uint32(os.Geteuid())))
	qt.Check(t, qt.Equals(s.NSPID[0], run.pid()))
	qt.Check(t, qt.IsFalse(s.LeaderEnded))
	tids, err := p.Threads(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(tids, []int{run.pid()}))
	text, err := p.ReadFile(t.Context(), "comm", 100)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(text), "pie\n"))
	_, err = p.ReadFile(t.Context(), "maps", 100)
	qt.Check(t, qt.Equals(code.Of(err), "TS9604"))
	qt.Check(t, qt.IsNil(p.Obstacle(t.Context())))
}

func TestAProcessThatHasEnded(t *testing.T) {
	run := start(t, pie(t))
	p := hold(t, run.pid())
	_, err := p.Objects(t.Context())
	qt.Assert(t, qt.IsNil(err))
	run.Process.Kill()
	// Not collected yet: a zombie has ended all the same. Its memory goes some
	// time before it does: until then it can still be opened.
	for p.alive() == nil {
		time.Sleep(time.Millisecond)
	}
	_, err = Open(t.Context(), run.pid())
	qt.Check(t, qt.IsTrue(Gone(err)), qt.Commentf("%v", err))
	run.Wait()
	for name, look := range map[string]func() error{
		"check":    func() error { return p.Check(t.Context()) },
		"status":   func() error { _, err := p.Status(t.Context()); return err },
		"threads":  func() error { _, err := p.Threads(t.Context()); return err },
		"mappings": func() error { _, err := p.Mappings(t.Context()); return err },
		"objects":  func() error { _, err := p.Objects(t.Context()); return err },
		"memory":   func() error { _, err := p.Memory(t.Context()).ReadAt(make([]byte, 8), int64(run.text)); return err },
		"file":     func() error { _, err := p.ReadFile(t.Context(), "comm", 100); return err },
		"open":     func() error { _, err := Open(t.Context(), run.pid()); return err },
		"obstacle": func() error { return p.Obstacle(t.Context()) },
	} {
		err := look()
		qt.Check(t, qt.IsTrue(Gone(err)), qt.Commentf("%s: %v", name, err))
	}
}

func TestANumberThatGoesToAnotherProcess(t *testing.T) {
	needsRoot(t)
	path := pie(t)
	run := start(t, path)
	p := hold(t, run.pid())
	fresh := hold(t, run.pid()) // one that has not looked at the memory yet
	_, err := p.Objects(t.Context())
	qt.Assert(t, qt.IsNil(err))
	run.end()
	time.Sleep(30 * time.Millisecond) // start times count in 10 ms
	start(t, path, "as", strconv.Itoa(run.pid()))
	later := hold(t, run.pid())
	qt.Assert(t, qt.Not(qt.Equals(later.ID(), p.ID())))
	_, err = OpenID(t.Context(), p.ID())
	qt.Check(t, qt.IsTrue(Gone(err)), qt.Commentf("%v", err))
	for _, p := range []*Process{p, fresh} {
		qt.Check(t, qt.IsTrue(Gone(p.Check(t.Context()))))
		_, err = p.Objects(t.Context())
		qt.Check(t, qt.IsTrue(Gone(err)), qt.Commentf("%v", err))
		_, err = p.Memory(t.Context()).ReadAt(make([]byte, 8), int64(run.text))
		qt.Check(t, qt.IsTrue(Gone(err)), qt.Commentf("%v", err))
		_, err = p.Memory(t.Context()).WriteAt(make([]byte, 8), int64(run.text))
		qt.Check(t, qt.IsTrue(Gone(err)), qt.Commentf("%v", err))
		_, err = p.Status(t.Context())
		qt.Check(t, qt.IsTrue(Gone(err)), qt.Commentf("%v", err))
	}
}

func TestAProcessThatExecutesAnotherProgram(t *testing.T) {
	run := start(t, pie(t), "exec")
	p := hold(t, run.pid())
	before, err := p.Look(t.Context(), func(string) bool { return true }, FindOptions{})
	qt.Assert(t, qt.IsNil(err))
	run.in.Write([]byte("x"))
	for p.Check(t.Context()) == nil {
		time.Sleep(time.Millisecond)
	}
	qt.Check(t, qt.ErrorMatches(p.Check(t.Context()), "TS9601.*another program.*"))
	_, err = p.Memory(t.Context()).ReadAt(make([]byte, 8), int64(run.text))
	qt.Check(t, qt.IsTrue(Gone(err)), qt.Commentf("%v", err))
	_, err = p.Mappings(t.Context())
	qt.Check(t, qt.IsTrue(Gone(err)), qt.Commentf("%v", err))
	again := hold(t, run.pid())
	qt.Check(t, qt.Equals(again.ID(), p.ID())) // still the same process
	after, err := again.Look(t.Context(), func(string) bool { return true }, FindOptions{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.Equals(after.Program, before.Program)))
}

func TestAFirstThreadThatHasEndedIsNotTheProcess(t *testing.T) {
	run := start(t, pie(t), "leader")
	var s stat
	for !s.dead() {
		var err error
		s, err = statOf(run.pid())
		qt.Assert(t, qt.IsNil(err))
		time.Sleep(time.Millisecond)
	}
	p := hold(t, run.pid())
	status, err := p.Status(t.Context())
	for err == nil && status.State == Running { // it has just begun
		time.Sleep(time.Millisecond)
		status, err = p.Status(t.Context())
	}
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(status.LeaderEnded))
	qt.Check(t, qt.Equals(status.State, Sleeping))
	objects, err := p.Objects(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(slices.ContainsFunc(objects, func(o Object) bool { return o.Program && o.BuildID == idOf(t, pie(t)) })))
	b := make([]byte, 4)
	_, err = p.Memory(t.Context()).ReadAt(b, int64(run.text))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(b), "what"))
	pieces := []Piece{{Addr: run.text, Data: b}}
	qt.Assert(t, qt.IsNil(p.ReadPieces(t.Context(), pieces)))
	qt.Check(t, qt.Equals(pieces[0].N, 4))
	qt.Check(t, qt.IsNil(p.Check(t.Context())))
	qt.Check(t, qt.IsNil(p.Obstacle(t.Context())))
}

// What a fault has ended is told from what runs, also while it writes its core.
func TestAProcessThatASignalEndsIsSaidToBeOne(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	qt.Assert(t, qt.IsNil(cmd.Start()))
	defer func() { _ = cmd.Wait() }()
	pid := cmd.Process.Pid
	st, ok := TaskStat(pid, pid)
	qt.Check(t, qt.IsTrue(ok && !st.Killed))
	qt.Assert(t, qt.IsNil(cmd.Process.Signal(unix.SIGTERM)))
	for range 60000 {
		if st, ok = TaskStat(pid, pid); !ok || st.Killed {
			break
		}
		time.Sleep(time.Millisecond)
	}
	qt.Check(t, qt.IsTrue(ok && st.Killed))
}

func TestAKernelThreadIsNone(t *testing.T) {
	s, err := statOf(2)
	if err != nil || !s.kernel() {
		t.Skip("process 2 is no kernel thread here")
	}
	_, err = Open(t.Context(), 2)
	qt.Check(t, qt.Equals(code.Of(err), "TS9602"))
	ids, err := List(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(slices.ContainsFunc(ids, func(id ID) bool { return id.PID == 2 })))
}

func TestA32BitProgramIsSaidToBeOne(t *testing.T) {
	path := cc(t, "small32", "-m32", "-nostdlib", "-static", "-ffreestanding", "-fno-pic", "-fno-pie", "-no-pie", "testdata/small.c")
	cmd := exec.Command(path)
	err := cmd.Start()
	if errors.Is(err, unix.ENOEXEC) {
		t.Skipf("this kernel runs no 32-bit programs: %v", err)
	}
	qt.Assert(t, qt.IsNil(err))
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	p := hold(t, cmd.Process.Pid)
	_, err = p.Objects(t.Context())
	qt.Check(t, qt.Equals(code.Of(err), "TS9603"))
	qt.Check(t, qt.Equals(code.Of(p.Obstacle(t.Context())), "TS9603"))
	for _, text := range []bool{false, true} {
		found, err := Find(t.Context(), []ID{p.ID()}, func(string) bool { return false }, FindOptions{Text: text})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(found, 0)) // it can hold nothing that is wanted
	}
}

func TestATracedProcessIsSaidToBeOne(t *testing.T) {
	run := start(t, pie(t))
	p := hold(t, run.pid())
	traced, over, tid := make(chan error), make(chan struct{}), 0
	go func() {
		runtime.LockOSThread() // the tracer is this thread, and ends with it
		tid = unix.Gettid()
		traced <- unix.PtraceSeize(run.pid())
		<-over
	}()
	if err := <-traced; err != nil {
		need.Allowed(t, "may not trace here: ", err)
	}
	defer close(over)
	o := p.Obstacle(t.Context())
	qt.Assert(t, qt.Equals(code.Of(o), "TS9605"))
	qt.Check(t, qt.StringContains(o.Why, fmt.Sprintf("thread %d", tid)))
}

// lookAt is what the test's own program does as nobody.
func lookAt(text string) int {
	pid, _ := strconv.Atoi(text)
	p, err := Open(context.Background(), pid)
	if err != nil {
		fmt.Println("open", err)
		return 0
	}
	_, err = p.Status(context.Background())
	fmt.Println("status", err)
	_, err = p.Objects(context.Background())
	fmt.Println("objects", code.Of(err))
	fmt.Println("obstacle", code.Of(p.Obstacle(context.Background())))
	return 0
}

func TestAnotherUsersProcessIsNotForNobody(t *testing.T) {
	run := start(t, pie(t))
	self, err := os.ReadFile("/proc/self/exe") // the test's program lies where nobody may not read
	qt.Assert(t, qt.IsNil(err))
	dir, err := fixtureDir()
	qt.Assert(t, qt.IsNil(err))
	cmd := nobody(t, dir+"/looker")
	qt.Assert(t, qt.IsNil(os.WriteFile(cmd.Path, self, 0o755)))
	cmd.Env = []string{"TSUGI_TEST_LOOK_AT=" + strconv.Itoa(run.pid())}
	out, err := cmd.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	qt.Check(t, qt.Equals(string(out), "status <nil>\nobjects TS9607\nobstacle TS9607\n"))
}

func TestAProcessThatDoesNotAnswerIsGivenUp(t *testing.T) {
	needsRoot(t)
	run := start(t, pie(t), "silent")
	p := hold(t, run.pid())
	b := make([]byte, 8)
	_, err := p.Memory(t.Context()).ReadAt(b, int64(run.text))
	qt.Assert(t, qt.IsNil(err))
	// On a machine that has no time the call may be given up before it begins,
	// and then nothing hangs.
	for limit := 100 * time.Millisecond; silence.refuse(p.ID(), p.uid) == ""; limit *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		// /proc/PID/mem gives an error for such a page, this call waits for it. Of a
		// file system that is gone, both wait.
		err = p.ReadPieces(ctx, []Piece{{Addr: run.third, Data: make([]byte, 8)}})
		cancel()
		if err == nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Skipf("reading a page that never comes ends here by itself: %v", err)
		}
	}
	// It is asked nothing more, through whatever value.
	for _, p := range []*Process{p, hold(t, run.pid())} {
		_, err = p.Mappings(t.Context())
		qt.Check(t, qt.ErrorMatches(err, "TS9604.*has not answered an earlier question.*"))
		qt.Check(t, qt.Equals(code.Of(p.Obstacle(t.Context())), "TS9604"))
	}
	found, err := Find(t.Context(), []ID{p.ID()}, func(string) bool { return true }, FindOptions{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(found, 1))
	qt.Check(t, qt.Equals(found[0].Problem.Code, "TS9604"))
	// Closing does not wait, and the reader comes back when the process ends.
	qt.Assert(t, qt.IsNil(p.Close()))
	run.end()
	for range 6000 {
		if silence.refuse(p.ID(), p.uid) == "" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the reader has not come back")
}

func TestOneUsersSilentProcessesAreBounded(t *testing.T) {
	s := silences{by: map[ID]uint32{}, users: map[uint32]int{}}
	for pid := range silentPerUser {
		qt.Assert(t, qt.Equals(s.refuse(ID{PID: pid}, 7), ""))
		s.begin(ID{PID: pid}, 7)
		s.begin(ID{PID: pid}, 7)
	}
	qt.Check(t, qt.StringContains(s.refuse(ID{PID: 100}, 7), "user 7"))
	qt.Check(t, qt.Equals(s.refuse(ID{PID: 100}, 8), ""))
	qt.Check(t, qt.StringContains(s.refuse(ID{PID: 1}, 8), "earlier"))
	for pid := range silentPerUser {
		s.end(ID{PID: pid})
		s.end(ID{PID: pid})
	}
	qt.Check(t, qt.HasLen(s.users, 0))
	for pid := range silentAtAll {
		s.begin(ID{PID: pid}, uint32(pid))
	}
	qt.Check(t, qt.StringContains(s.refuse(ID{PID: 5000}, 5000), "other processes"))
}

func TestInOtherNamespacesAProcessIsSeenFromHere(t *testing.T) {
	needsRoot(t)
	lib := library(t)
	// A mount and pid namespace with the files at a place that is not here.
	script := fmt.Sprintf("mount -t tmpfs none /mnt && cp %s %s /mnt && exec env LD_LIBRARY_PATH=/mnt /mnt/linked", lib, linked(t))
	cmd := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script)
	if out, err := exec.Command("unshare", "--mount", "--pid", "--fork", "true").CombinedOutput(); err != nil {
		need.Allowed(t, "no namespaces here: ", string(out))
	}
	run := startAs(t, cmd)
	ids, err := List(t.Context())
	qt.Assert(t, qt.IsNil(err))
	want := idOf(t, lib)
	entries, err := Scan(t.Context())
	qt.Assert(t, qt.IsNil(err))
	for _, e := range entries {
		if e.Parent != run.pid() {
			continue
		}
		for _, text := range []bool{false, true} {
			found, err := Find(t.Context(), []ID{e.ID}, func(id string) bool { return id == want }, FindOptions{Text: text})
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.HasLen(found, 1))
			qt.Check(t, qt.DeepEquals(found[0].BuildIDs, []string{want}))
		}
		p := hold(t, e.PID)
		s, err := p.Status(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(s.NSPID, []int{e.PID, 1}))
		b := make([]byte, 4)
		_, err = p.Memory(t.Context()).ReadAt(b, int64(run.text))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(b), "what"))

		// The package is upgraded under it: the old file stays mapped.
		newer := cc(t, "libfixture2.so", "-shared", "-fPIC", "-DVERSION=2", "testdata/lib.c")
		root := fmt.Sprintf("/proc/%d/root/mnt/", e.PID)
		bytes, err := os.ReadFile(newer)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(os.WriteFile(root+"new", bytes, 0o755)))
		qt.Assert(t, qt.IsNil(os.Rename(root+"new", root+"libfixture.so")))
		objects, err := p.Objects(t.Context())
		qt.Assert(t, qt.IsNil(err))
		at := slices.IndexFunc(objects, func(o Object) bool { return strings.HasSuffix(o.Path, "/libfixture.so") })
		qt.Assert(t, qt.IsTrue(at >= 0))
		qt.Check(t, qt.IsTrue(objects[at].Deleted))
		qt.Check(t, qt.Equals(objects[at].BuildID, want))
		out, err := p.Outdated(t.Context(), objects)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(out, 1))
		qt.Check(t, qt.Equals(out[0].Now, idOf(t, newer)))
		found, err := Find(t.Context(), []ID{e.ID}, func(id string) bool { return id == want }, FindOptions{})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(found, 1))

		// A link out of its root leads nowhere, and a pipe is not opened.
		qt.Assert(t, qt.IsNil(os.Remove(root+"libfixture.so")))
		qt.Assert(t, qt.IsNil(unix.Mkfifo(root+"libfixture.so", 0o644)))
		out, err = p.Outdated(t.Context(), objects)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(out, 1))
		qt.Check(t, qt.Equals(out[0].Now, ""))
		qt.Check(t, qt.IsFalse(out[0].Gone))
		qt.Assert(t, qt.IsNil(os.Remove(root+"libfixture.so")))
		out, err = p.Outdated(t.Context(), objects)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(out, 1))
		qt.Check(t, qt.IsTrue(out[0].Gone))
		return
	}
	t.Fatalf("the process in the namespace is not among %d", len(ids))
}

func TestTheRightToChangeAProcessIsForOne(t *testing.T) {
	dir := t.TempDir()
	id := ID{PID: 1, Start: 2}
	l, err := TakeLock(dir, id)
	qt.Assert(t, qt.IsNil(err))
	_, err = TakeLock(dir, id)
	qt.Check(t, qt.Equals(code.Of(err), "TS9609"))
	other, err := TakeLock(dir, ID{PID: 1, Start: 3})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(other.Release()))
	qt.Assert(t, qt.IsNil(l.Release()))
	l, err = TakeLock(dir, id)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(l.Release()))
	left, err := os.ReadDir(dir)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(left, 0))
}

// TestAnsweredWaitsForWhatWasGivenUp: what goes on alone may still write.
func TestAnsweredWaitsForWhatWasGivenUp(t *testing.T) {
	p := &Process{id: ID{PID: 1 << 30, Start: 1}}
	qt.Assert(t, qt.IsNil(p.Answered(t.Context())))
	release, written := make(chan struct{}), false
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := within(ctx, p.id, 1<<31, func() (int, error) {
		cancel()
		<-release
		written = true
		return 0, nil
	})
	qt.Assert(t, qt.ErrorIs(err, context.Canceled))
	qt.Assert(t, qt.Equals(code.Of(p.Answered(ctx)), "TS9604"))
	time.AfterFunc(20*time.Millisecond, func() { close(release) })
	qt.Assert(t, qt.IsNil(p.Answered(t.Context())))
	qt.Assert(t, qt.IsTrue(written))
}

func TestANoteOutlivesItsLock(t *testing.T) {
	dir := t.TempDir()
	qt.Check(t, qt.HasLen(Abandoned(filepath.Join(dir, "none")), 0))
	id := ID{PID: 7, Start: 8}
	l, err := TakeLock(dir, id)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(l.Left(), ""))
	qt.Check(t, qt.HasLen(Abandoned(dir), 0))
	qt.Assert(t, qt.IsNil(l.Note("a long one")))
	qt.Assert(t, qt.IsNil(l.Note("short")))
	qt.Check(t, qt.DeepEquals(Abandoned(dir), []ID{id}))
	qt.Assert(t, qt.IsNil(l.file.Close())) // as the kernel does when the holder dies
	l, err = TakeLock(dir, id)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(l.Left(), "short"))
	qt.Assert(t, qt.IsNil(l.Release()))
	qt.Check(t, qt.HasLen(Abandoned(dir), 0))
	// What is no note of ours is none.
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "7-8"), bytes.Repeat([]byte("x"), maxNote+1), 0o600)))
	l, err = TakeLock(dir, id)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(l.Left(), ""))
	qt.Check(t, qt.IsNil(l.Release()))
}
