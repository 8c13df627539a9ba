// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/userland"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// nobody runs the servers: they do not run as root.
const nobody = 65534

// cycles is how often a live patch goes into a server and out of it.
const cycles = 5

// edit is a change of a source: one piece of text for another.
type edit struct{ file, was, is string }

// edited is the fix that makes some edits of a target's source.
func edited(t *testing.T, of *userland.Target, id string, edits ...edit) *fix.Fix {
	t.Helper()
	var text strings.Builder
	for _, e := range edits {
		b, err := os.ReadFile(filepath.Join(of.Build, e.file))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(strings.Count(string(b), e.was), 1), qt.Commentf("%s: %s", e.file, e.was))
		text.Write(fix.Unified(e.file, b, []byte(strings.Replace(string(b), e.was, e.is, 1))))
	}
	f, err := fix.Parse(id+".patch", []byte(text.String()))
	qt.Assert(t, qt.IsNil(err))
	return f
}

// place is a directory that any user can reach and nobody can write to.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tsugi-database-*")
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { os.RemoveAll(dir) })
	qt.Assert(t, qt.IsNil(os.Chmod(dir, 0o755)))
	return dir
}

func owned(t *testing.T, dir string) string {
	t.Helper()
	qt.Assert(t, qt.IsNil(os.MkdirAll(dir, 0o700)))
	qt.Assert(t, qt.IsNil(os.Chown(dir, nobody, nobody)))
	return dir
}

// stock copies what the target's packages install to a directory: the home of
// the store is root's alone. The files keep their bytes, and so their build-ids.
func stock(t *testing.T, of *userland.Target, program, dir string) {
	t.Helper()
	i := slices.IndexFunc(of.Files, func(s userland.Shipped) bool { return s.Path == program })
	qt.Assert(t, qt.IsTrue(i >= 0), qt.Commentf("%s has no %s", of.Name, program))
	top := strings.TrimSuffix(of.Files[i].File, program)
	do(t, exec.Command("cp", "-r", top+"/usr", dir))
}

// unpacked fetches packages of the archive, which the clients of servers come
// in, and unpacks them to a directory. They are kept in the store.
func unpacked(t *testing.T, of *userland.Target, dir string, packages ...string) {
	t.Helper()
	keep := filepath.Join(of.Home(), "userland", "work", "clients")
	qt.Assert(t, qt.IsNil(os.MkdirAll(keep, 0o755)))
	for _, p := range packages {
		pattern := filepath.Join(keep, p+"_"+strings.ReplaceAll(of.Version, ":", "%3a")+"_*.deb")
		if found, _ := filepath.Glob(pattern); len(found) == 0 {
			cmd := exec.Command("apt-get", "download", p+"="+of.Version)
			cmd.Dir = keep
			cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(of.Home(), "userland", "apt", "apt.conf"))
			do(t, cmd)
		}
		found, err := filepath.Glob(pattern)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(found, 1), qt.Commentf("%s", pattern))
		do(t, exec.Command("dpkg-deb", "-x", found[0], dir))
	}
}

// do runs a program to its end, which has to be a good one.
func do(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	said, err := cmd.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%v: %s", cmd.Args, said))
	return string(said)
}

// unprivileged makes a command nobody's.
func unprivileged(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// daemon starts a server, waits until ready says so, and ends it with the test.
func daemon(t *testing.T, cmd *exec.Cmd, log string, ready func() bool) int {
	t.Helper()
	f, err := os.Create(log)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	qt.Assert(t, qt.IsNil(unprivileged(cmd).Start()))
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // PostgreSQL's fast shutdown; MariaDB does not mind
		_ = cmd.Process.Signal(syscall.SIGTERM)
		// Not before: this process is the server's tracer too, and waiting for
		// its end would be told of each stop instead.
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Error("the server does not end")
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			b, _ := os.ReadFile(log)
			t.Logf("%s: %s", log, b[max(0, len(b)-4000):])
		}
	})
	for start := time.Now(); !ready(); time.Sleep(100 * time.Millisecond) {
		qt.Assert(t, qt.IsTrue(time.Since(start) < limit), qt.Commentf("the server is not ready"))
	}
	return cmd.Process.Pid
}

// family is a process and its children.
func family(t *testing.T, pid int) []proc.ID {
	t.Helper()
	all, err := proc.Scan(t.Context())
	qt.Assert(t, qt.IsNil(err))
	var ids []proc.ID
	for _, e := range all {
		if !e.Zombie && (e.ID.PID == pid || e.Parent == pid) {
			ids = append(ids, e.ID)
		}
	}
	slices.SortFunc(ids, func(x, y proc.ID) int { // the parent first: whoever is born then inherits
		if (x.PID == pid) != (y.PID == pid) {
			if x.PID == pid {
				return -1
			}
			return 1
		}
		return x.PID - y.PID
	})
	return ids
}

// intoAll puts a live patch into a server and its children.
func intoAll(t *testing.T, pid int, r *build.Report) {
	t.Helper()
	patch := patchFrom(t, r)
	each(t, "applied", pid, func(e *process.Engine, p *proc.Process) (process.Result, error) {
		return e.Apply(t.Context(), p, patch, process.Options{Budget: budget})
	})
}

// outOfAll takes it out of them.
func outOfAll(t *testing.T, pid int) {
	t.Helper()
	each(t, "reverted", pid, func(e *process.Engine, p *proc.Process) (process.Result, error) {
		return e.Revert(t.Context(), p, process.Selection{}, process.Options{Budget: budget})
	})
}

// each goes over a server and its children until no child is new.
func each(t *testing.T, what string, pid int, do func(*process.Engine, *proc.Process) (process.Result, error)) {
	t.Helper()
	e := engine()
	seen := map[proc.ID]bool{}
	var pauses []time.Duration
	tries := 0
	for again := true; again; {
		again = false
		for _, id := range family(t, pid) {
			if seen[id] {
				continue
			}
			seen[id], again = true, true
			p, err := proc.OpenID(t.Context(), id)
			if err != nil && proc.Gone(err) {
				continue
			}
			qt.Assert(t, qt.IsNil(err))
			got, err := do(e, p)
			p.Close()
			qt.Assert(t, qt.IsNil(err))
			switch got.State {
			case process.Applied, process.Reverted:
				pauses = append(pauses, got.Pause)
				tries += got.Tries
			case process.Ended, process.NotAffected: // a child that is gone; one born after its parent was done
			default:
				t.Fatalf("%d: %s: %v after %d tries", id.PID, got.State, got.Reason, got.Tries)
			}
		}
	}
	slices.Sort(pauses)
	qt.Assert(t, qt.IsTrue(len(pauses) > 0))
	t.Logf("%s: %d processes in %d tries, stopped for %v (median), %v (longest)", what, len(pauses), tries, pauses[len(pauses)/2], pauses[len(pauses)-1])
}

// load runs a program that gives a server work, again and again until end. Each
// run has to end well.
type load struct {
	t    *testing.T
	stop chan struct{}
	done chan struct{}
	runs int
	said []string
}

// burden starts it. check reads what one run said.
func burden(t *testing.T, command func() *exec.Cmd, check func(said string) error) *load {
	l := &load{t: t, stop: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			cmd := command()
			said, err := cmd.CombinedOutput()
			if err == nil {
				err = check(string(said))
			}
			if err != nil {
				t.Errorf("run %d of the load: %v: %s", l.runs, err, said)
				return
			}
			l.runs++
			l.said = append(l.said, string(said))
		}
	}()
	t.Cleanup(l.end)
	return l
}

// end waits for the run that is under way.
func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	<-l.done
}

// answers asks and compares: pairs of a question and its answer.
func answers(t *testing.T, p *talker, when string, pairs [][2]string) {
	t.Helper()
	for _, x := range pairs {
		got := p.ask(x[0])
		qt.Check(t, qt.Equals(got, x[1]), qt.Commentf("%s: %s", when, x[0]))
	}
}

// libraryPath is where the libraries of unpacked packages lie.
func libraryPath(dir string) string {
	return fmt.Sprintf("LD_LIBRARY_PATH=%s/usr/lib/x86_64-linux-gnu", dir)
}
