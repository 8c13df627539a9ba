// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// fixture is a small library, and programs that use it.
type fixture struct {
	lib, linked, late, forks string
	buildID                  string
}

var built = sync.OnceValues(func() (fixture, error) {
	dir, err := os.MkdirTemp("", "tsugi-watch")
	if err != nil {
		return fixture{}, err
	}
	f := fixture{
		lib: filepath.Join(dir, "libwatched.so"), linked: filepath.Join(dir, "linked"),
		late: filepath.Join(dir, "late"), forks: filepath.Join(dir, "forks"),
	}
	cc := func(src string, args ...string) {
		if err != nil {
			return
		}
		cmd := exec.Command("gcc", append([]string{"-x", "c", "-O1", "-"}, args...)...)
		cmd.Stdin = bytes.NewReader([]byte(src))
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = &exec.Error{Name: string(out), Err: err}
		}
	}
	cc("int watched(void) { return 1; }", "-shared", "-fPIC", "-Wl,--build-id", "-o", f.lib)
	use := []string{"-Wl,-rpath," + dir, "-L" + dir}
	cc("#include <unistd.h>\nint watched(void); int main(int n, char **v) { watched(); char c; if (read(0, &c, 1) > 0 && n > 1) execv(v[0], v); return 0; }",
		append(use, "-o", f.linked, "-xnone", f.lib)...)
	cc(`#include <unistd.h>
#include <dlfcn.h>
int main(int n, char **v) { char c; read(0, &c, 1); dlopen(v[1], RTLD_NOW); write(1, "x", 1); read(0, &c, 1); return 0; }`, "-o", f.late)
	cc(`#include <unistd.h>
#include <sys/wait.h>
#include <sys/prctl.h>
#include <signal.h>
int watched(void);
int main(int n, char **v) {
	watched();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 0;; i++) {
		if (fork() == 0) { if (v[1][0] == 'e') execl("/bin/true", "true", (char *)0); _exit(0); }
		while (waitpid(-1, 0, i % 64 ? WNOHANG : 0) > 0) ;
	}
}`, append(use, "-o", f.forks, "-xnone", f.lib)...)
	if err != nil {
		return fixture{}, err
	}
	e, err := elf.Open(f.lib)
	if err != nil {
		return fixture{}, err
	}
	defer e.Close()
	note, err := e.Section(".note.gnu.build-id").Data()
	f.buildID = hex.EncodeToString(note[16:])
	return f, err
})

func build(t *testing.T) fixture {
	t.Helper()
	need.Program(t, "gcc")
	f, err := built()
	qt.Assert(t, qt.IsNil(err))
	return f
}

func TestMain(m *testing.M) {
	if os.Getenv("TSUGI_TEST_SOURCES") != "" {
		os.Exit(tellSources())
	}
	n := m.Run()
	if f, err := built(); err == nil {
		os.RemoveAll(filepath.Dir(f.lib))
	}
	os.Exit(n)
}

// run starts a program that ends when its input does.
func run(t *testing.T, path string, args ...string) (*exec.Cmd, func()) {
	t.Helper()
	cmd := exec.Command(path, args...)
	in, err := cmd.StdinPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(cmd.Start()))
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd, func() { in.Write([]byte("x")) }
}

// watcher starts one that wants the library, and gathers until told to stop.
func watcher(t *testing.T, f fixture, opt Options) *Watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	opt.Wanted = func(id string) bool { return id == f.buildID }
	w, err := Start(ctx, opt)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() {
		cancel()
		for range w.Events() {
		}
	})
	return w
}

// needs skips unless a source works.
func needs(t *testing.T, w *Watcher, s Source) {
	t.Helper()
	for _, state := range w.Sources() {
		if state.Source == s && !state.Works {
			need.Allowed(t, state.Problem)
		}
	}
}

// wait gives the event of a process.
func wait(t *testing.T, w *Watcher, pid int, limit time.Duration) Event {
	t.Helper()
	timer := time.After(limit)
	for {
		select {
		case e := <-w.Events():
			if e.ID.PID == pid {
				return e
			}
		case <-timer:
			t.Fatalf("process %d was not told within %s", pid, limit)
		}
	}
}

func TestANewProcessIsToldWithinMilliseconds(t *testing.T) {
	f := build(t)
	w := watcher(t, f, Options{Rescan: time.Hour})
	needs(t, w, Exec)
	time.Sleep(100 * time.Millisecond) // the first look at all
	var took []time.Duration
	for range 30 {
		began := time.Now()
		cmd, _ := run(t, f.linked)
		e := wait(t, w, cmd.Process.Pid, time.Minute)
		took = append(took, time.Since(began))
		qt.Assert(t, qt.DeepEquals(e.BuildIDs, []string{f.buildID}))
		qt.Assert(t, qt.Not(qt.Equals(e.Source, Rescan))) // mostly Exec; Mapped where the open is told first
	}
	slices.Sort(took)
	t.Logf("from fork and exec to the event: median %s, worst %s", took[len(took)/2], took[len(took)-1])
	// Where other programs take the processors, the most wait for their turn.
	qt.Check(t, qt.IsTrue(took[0] < 50*time.Millisecond), qt.Commentf("best %s", took[0]))
}

func TestAProcessThatRunsAlreadyIsToldOnce(t *testing.T) {
	t.Parallel()
	f := build(t)
	cmd, _ := run(t, f.linked)
	time.Sleep(50 * time.Millisecond)
	w := watcher(t, f, Options{Rescan: 50 * time.Millisecond})
	e := wait(t, w, cmd.Process.Pid, time.Minute)
	qt.Assert(t, qt.Equals(e.Source, Rescan))
	p, err := proc.OpenID(t.Context(), e.ID)
	qt.Assert(t, qt.IsNil(err))
	p.Close()
	again := time.After(500 * time.Millisecond)
	for over := false; !over; {
		select {
		case e := <-w.Events():
			qt.Assert(t, qt.Not(qt.Equals(e.ID.PID, cmd.Process.Pid)))
		case <-again:
			over = true
		}
	}
}

func TestTheSameProgramExecutedAgainIsToldAgain(t *testing.T) {
	t.Parallel()
	f := build(t)
	w := watcher(t, f, Options{Rescan: time.Hour})
	needs(t, w, Exec)
	// Without address space randomisation, where a program's memory lies the same.
	if err := exec.Command("setarch", "-R", "true").Run(); err != nil {
		need.Allowed(t, "setarch: ", err)
	}
	cmd, step := run(t, "setarch", "-R", f.linked, "again")
	wait(t, w, cmd.Process.Pid, time.Minute)
	for range 3 {
		for quiet := false; !quiet; { // the first may come twice
			select {
			case <-w.Events():
			case <-time.After(100 * time.Millisecond):
				quiet = true
			}
		}
		step()
		wait(t, w, cmd.Process.Pid, time.Minute)
	}
}

func TestALibraryThatIsLoadedLateIsTold(t *testing.T) {
	t.Parallel()
	f := build(t)
	w := watcher(t, f, Options{Rescan: time.Hour, Files: []string{f.lib}})
	needs(t, w, Mapped)
	cmd, step := run(t, f.late, f.lib)
	time.Sleep(1500 * time.Millisecond) // the exec's ladder is over
	began := time.Now()
	step()
	e := wait(t, w, cmd.Process.Pid, time.Minute)
	t.Logf("from dlopen to the event: %s", time.Since(began))
	qt.Assert(t, qt.Equals(e.Source, Mapped))
}

func TestFilesOfToldProcessesAreWatchedByThemselves(t *testing.T) {
	t.Parallel()
	f := build(t)
	first, _ := run(t, f.linked)
	w := watcher(t, f, Options{Rescan: time.Hour})
	needs(t, w, Mapped)
	wait(t, w, first.Process.Pid, time.Minute)
	cmd, step := run(t, f.late, f.lib)
	time.Sleep(1500 * time.Millisecond)
	step()
	e := wait(t, w, cmd.Process.Pid, time.Minute)
	qt.Assert(t, qt.Equals(e.Source, Mapped))
}

func TestWithoutTheKernelsHelpLookingAtAllFindsThem(t *testing.T) {
	t.Parallel()
	f := build(t)
	w := watcher(t, f, Options{Rescan: 50 * time.Millisecond, without: []Source{Exec, Mapped}})
	for _, s := range w.Sources() {
		qt.Check(t, qt.Equals(s.Works, s.Source == Rescan))
		if !s.Works {
			qt.Check(t, qt.ErrorMatches(s.Problem, "TS965[01]: .*turned off"))
		}
	}
	cmd, _ := run(t, f.linked)
	e := wait(t, w, cmd.Process.Pid, time.Minute)
	qt.Assert(t, qt.Equals(e.Source, Rescan))
}

func TestAForkStormHidesNobody(t *testing.T) {
	f := build(t)
	w := watcher(t, f, Options{Rescan: time.Hour})
	needs(t, w, Exec)
	run(t, f.forks, "f")
	run(t, f.forks, "e")
	time.Sleep(800 * time.Millisecond)
	var took []time.Duration
	for range 4 {
		began := time.Now()
		cmd, _ := run(t, f.linked)
		wait(t, w, cmd.Process.Pid, time.Minute)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("in the storm: median %s, worst %s", took[len(took)/2], took[len(took)-1])
}
