// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// Env is what verbs act through. It is safe for concurrent use.
type Env struct {
	mu   sync.Mutex
	port *os.File
	seq  uint64
	plan *wire.Plan
	log  *follower

	childMu  sync.Mutex
	children map[int]bool // that verbs wait for
	starting int          // children whose pid is not known yet

	dump *dumper
}

// Emit numbers an event, stamps it when it has no time yet, and sends it. It blocks until the serial
// port has taken it.
func (e *Env) Emit(ev wire.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seq++
	ev.Seq = e.seq
	if ev.Time == 0 {
		ev.Time = Now()
	}
	b, err := json.Marshal(ev)
	if err != nil {
		return // only a RawMessage that is not JSON, which raw prevents
	}
	_, _ = e.port.Write(append(b, '\n'))
}

// Note sends a line for the reader of the log.
func (e *Env) Note(text string) { e.Emit(wire.Event{Kind: wire.Note, Data: raw(text)}) }

// Now is CLOCK_MONOTONIC in nanoseconds, the time that events carry.
func Now() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// start starts a child that its verb waits for itself.
func (e *Env) start(cmd *exec.Cmd) error {
	e.count(1)
	defer e.count(-1)
	if err := cmd.Start(); err != nil {
		return err
	}
	e.childMu.Lock()
	defer e.childMu.Unlock()
	if e.children == nil {
		e.children = make(map[int]bool)
	}
	e.children[cmd.Process.Pid] = true
	return nil
}

func (e *Env) count(n int) {
	e.childMu.Lock()
	defer e.childMu.Unlock()
	e.starting += n
}

// forget is called when a child has ended and its status was taken.
func (e *Env) forget(cmd *exec.Cmd) {
	e.childMu.Lock()
	defer e.childMu.Unlock()
	delete(e.children, cmd.Process.Pid)
}

// mayReap reports whether a process that ended is surely nobody's child.
func (e *Env) mayReap(pid int) bool {
	e.childMu.Lock()
	defer e.childMu.Unlock()
	return pid != 0 && e.starting == 0 && !e.children[pid]
}

// reap collects the orphans that process 1 inherits, and only those: it looks
// before it takes, so that it never steals the status of a verb's own child.
func (e *Env) reap(ctx context.Context) {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, unix.SIGCHLD)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sig:
		case <-tick.C:
		}
		for {
			var info unix.Siginfo
			err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
			pid := siginfoPid(&info)
			if err != nil || !e.mayReap(pid) {
				break
			}
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
		}
	}
}

// mountAll gives programs the file systems that they expect.
func mountAll() error {
	var first error
	for _, m := range []struct{ src, dir, fs, opt string }{
		{"proc", "/proc", "proc", ""},
		{"sysfs", "/sys", "sysfs", ""},
		{"devtmpfs", "/dev", "devtmpfs", "mode=0755"},
		{"devpts", "/dev/pts", "devpts", ""},
		{"tmpfs", "/tmp", "tmpfs", "mode=1777"},
		{"tmpfs", "/run", "tmpfs", "mode=0755"},
		{"debugfs", "/sys/kernel/debug", "debugfs", ""},
		{"tracefs", "/sys/kernel/tracing", "tracefs", ""},
		{"securityfs", "/sys/kernel/security", "securityfs", ""},
	} {
		_ = os.MkdirAll(m.dir, 0o755)
		err := unix.Mount(m.src, m.dir, m.fs, 0, m.opt)
		optional := strings.HasPrefix(m.dir, "/sys/kernel/")
		if err != nil && err != unix.EBUSY && !optional && first == nil {
			first = &os.PathError{Op: "mount", Path: m.dir, Err: err}
		}
	}
	_ = os.Setenv("PATH", "/sbin:/bin:/usr/sbin:/usr/bin")
	_ = os.Setenv("HOME", "/")
	return first
}

// openPort opens a serial port with no line discipline in the way.
func openPort(path string) (*os.File, error) {
	// Opened blocking: Go's poller does not help on a tty that only writes.
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, &os.PathError{Op: "tcgetattr", Path: path, Err: err}
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return nil, &os.PathError{Op: "tcsetattr", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

func greeting() wire.Greeting {
	notes, _ := os.ReadFile("/sys/kernel/notes")
	g := wire.Greeting{Format: wire.Format, BuildID: buildID(notes)}
	g.Release = ReadLine("/proc/sys/kernel/osrelease")
	g.Version = ReadLine("/proc/version")
	g.Cmdline = ReadLine("/proc/cmdline")
	g.Taint, _ = strconv.ParseUint(ReadLine("/proc/sys/kernel/tainted"), 10, 64)
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	g.CPUs = strings.Count("\n"+string(cpus), "\nprocessor\t")
	return g
}

// ReadLine returns a file's text without surrounding white space, or "".
func ReadLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// buildID returns the GNU build-id among ELF notes as hex, or "".
func buildID(b []byte) string {
	const gnuBuildID = 3
	for len(b) >= 12 {
		namesz, descsz, typ := le32(b), le32(b[4:]), le32(b[8:])
		b = b[12:]
		name, desc := align4(namesz), align4(descsz)
		if name > uint64(len(b)) || desc > uint64(len(b))-name {
			return ""
		}
		if typ == gnuBuildID && namesz == 4 && string(b[:4]) == "GNU\x00" {
			return hex.EncodeToString(b[name : name+uint64(descsz)])
		}
		b = b[name+desc:]
	}
	return ""
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

func align4(n uint32) uint64 { return (uint64(n) + 3) &^ 3 }
