// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bufio"
	"context"
	"crypto/tls"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
	"github.com/tsugi-project/tsugi/internal/testenv/port"
	"github.com/tsugi-project/tsugi/internal/unwind"
)

// debugger is a gdb that has attached to a process.
type debugger struct {
	pid      int
	commands *os.File
	pipe     *os.File // that answers reads
	answers  *bufio.Reader
}

// seenThread is what gdb shows of a thread.
type seenThread struct {
	TID    int                      `json:"tid"`
	Regs   [unwind.Registers]uint64 `json:"regs"`
	FS     uint64                   `json:"fs"`
	Frames []seenFrame              `json:"frames"`
	Reason int                      `json:"reason"`
}

type seenFrame struct {
	PC     uint64 `json:"pc"`
	Name   string `json:"name"`
	Signal bool   `json:"signal"`
}

type answer struct {
	PID     int          `json:"pid"`
	Error   string       `json:"error"`
	Threads []seenThread `json:"threads"`
}

// attach starts gdb on a process that the test has started.
func attach(t *testing.T, pid int) *debugger {
	t.Helper()
	gdb := need.Program(t, "gdb")
	theirs, commands, err := os.Pipe()
	qt.Assert(t, qt.IsNil(err))
	answers, back, err := os.Pipe()
	qt.Assert(t, qt.IsNil(err))
	cmd := exec.Command(gdb, "-nx", "-q", "-batch", "-iex", "set debuginfod enabled off",
		"-iex", "set auto-load off", "-p", fmt.Sprint(pid), "-x", "testdata/frames.py")
	cmd.ExtraFiles = []*os.File{theirs, back}
	cmd.Env = append(os.Environ(), "COMMANDS=3", "ANSWERS=4")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	qt.Assert(t, qt.IsNil(cmd.Start()))
	theirs.Close()
	back.Close()
	d := &debugger{pid: pid, commands: commands, pipe: answers, answers: bufio.NewReader(answers)}
	t.Cleanup(func() {
		fmt.Fprintln(commands, "end")
		commands.Close()
		defer time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() }).Stop()
		err := cmd.Wait()
		answers.Close()
		if t.Failed() {
			t.Logf("gdb: %v\n%s", err, said.String())
		}
	})
	if _, err := d.answer(); err != nil {
		need.Allowed(t, "gdb does not attach or has no Python: ", err, "\n", said.String())
	}
	return d
}

func (d *debugger) answer() (answer, error) {
	if err := d.pipe.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return answer{}, err
	}
	line, err := d.answers.ReadBytes('\n')
	if err != nil {
		return answer{}, err
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return answer{}, err
	}
	if a.Error != "" {
		return answer{}, errors.New(a.Error)
	}
	return a, nil
}

// stop lets the process run for a moment and stops it.
func (d *debugger) stop(t *testing.T) []seenThread {
	t.Helper()
	fmt.Fprintln(d.commands, "go")
	time.Sleep(time.Duration(1+rand.IntN(8000)) * time.Microsecond)
	qt.Assert(t, qt.IsNil(syscall.Kill(d.pid, syscall.SIGINT)))
	a, err := d.answer()
	qt.Assert(t, qt.IsNil(err))
	return a.Threads
}

// tally is what came of the comparison.
type tally struct {
	stops, threads, frames int
	equal, shorter, failed int // stacks: the same frames; a part of them; not unwound
	on, missed             int // functions that gdb shows; those of which we said "safe"
	off, safe              int // functions that are on no stack; those of which we said so
}

func (t tally) String() string {
	return fmt.Sprintf("%d stops, %d stacks, %d frames; %d stacks the same, %d a part, %d not unwound; %d functions on stacks, %d missed; %d not on stacks, %d of them safe",
		t.stops, t.threads, t.frames, t.equal, t.shorter, t.failed, t.on, t.missed, t.off, t.safe)
}

// compare checks one thread against what gdb shows.
func (sum *tally) compare(t *testing.T, l Layout, mem Memory, seen *seenThread) {
	t.Helper()
	for i, f := range seen.Frames {
		if exact := i == 0 || seen.Frames[i-1].Signal; exact && (f.Name == "swapcontext" || f.Name == "setcontext") {
			return // between two stacks its unwind entry is wrong: see the package's comment
		}
	}
	thread := Thread{TID: seen.TID, FSBase: seen.FS, Regs: unwind.Regs{Value: seen.Regs, Known: unwind.AllKnown, Exact: true}}
	sum.threads++
	sum.frames += len(seen.Frames)

	// The frames themselves.
	walk, err := New(l, nil, Options{})
	qt.Assert(t, qt.IsNil(err))
	ours, err := walk.frames(mem, &thread)
	same := 0
	for same < len(ours) && same < len(seen.Frames) && ours[same] == seen.Frames[same].PC {
		same++
	}
	switch {
	case err != nil:
		sum.failed++
	case same == len(ours) && same == len(seen.Frames):
		sum.equal++
	case same == len(ours) || same == len(seen.Frames):
		sum.shorter++
		t.Logf("thread %d: %d frames, gdb %d (reason %d, last %s)", seen.TID, len(ours), len(seen.Frames), seen.Reason, seen.Frames[len(seen.Frames)-1].Name)
	default:
		t.Errorf("thread %d: frame %d is %#x, gdb says %#x (%s)", seen.TID, same, ours[same], seen.Frames[same].PC, seen.Frames[same].Name)
	}

	// Each function that gdb shows must be found by every way.
	plain := l
	plain.Objects = nil
	done := map[uint64]bool{}
	for i, f := range seen.Frames {
		exact := i == 0 || seen.Frames[i-1].Signal
		fn, ok := functionAt(l, f.PC, exact)
		if !ok || done[fn.Start] || exact && f.PC == fn.Start { // it has not begun
			continue
		}
		done[fn.Start] = true
		for _, layout := range []Layout{l, plain} {
			c, err := New(layout, []Function{fn}, Options{})
			qt.Assert(t, qt.IsNil(err))
			sum.on++
			if v := c.Check(mem, &thread); v.State == Safe {
				sum.missed++
				t.Errorf("thread %d: safe by %s, and gdb shows %s (%#x) as frame %d of %d; reason %v", seen.TID, v.How, f.Name, f.PC, i, len(seen.Frames), v.Why)
			}
		}
	}
	// Functions that gdb does not show should be free; how often they are is
	// worth knowing.
	for range 20 {
		o := l.Objects[rand.IntN(len(l.Objects))]
		fn, ok := functionAt(l, o.Start+rand.Uint64N(o.End-o.Start), true)
		if !ok || done[fn.Start] {
			continue
		}
		c, err := New(l, []Function{fn}, Options{})
		qt.Assert(t, qt.IsNil(err))
		sum.off++
		if v := c.Check(mem, &thread); v.State == Safe {
			sum.safe++
		}
	}
}

// frames are the addresses of a thread's frames.
func (c *Checker) frames(mem Memory, t *Thread) ([]uint64, error) {
	c.snap.open(mem, t.Regs.Value[unwind.RSP], 0)
	regs := t.Regs
	pcs := []uint64{regs.Value[unwind.RIP]}
	for len(pcs) < 3000 {
		last, err := c.step(&regs)
		if last || err != nil {
			return pcs, err
		}
		pcs = append(pcs, regs.Value[unwind.RIP])
	}
	return pcs, nil
}

// functionAt is the function, as the tables tell it, of a frame.
func functionAt(l Layout, pc uint64, exact bool) (Function, bool) {
	if !exact {
		pc--
	}
	for _, o := range l.Objects {
		if pc < o.Start || pc >= o.End {
			continue
		}
		if o.Table != nil {
			if start, end, ok := o.Table.Bounds(pc - o.Bias); ok {
				return Function{Name: o.Name, Start: start + o.Bias, End: end + o.Bias, Jump: start + o.Bias}, true
			}
		}
		return Function{Name: o.Name, Start: pc - 8, End: pc + 8}, true
	}
	return Function{Name: "unknown", Start: pc - 8, End: pc + 8}, true
}

// run starts a program for a test, which ends with it, however that ends.
func run(t testing.TB, name string, args ...string) int {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, end := make(chan error), make(chan struct{})
	// The kernel sends Pdeathsig when the thread ends that has started it.
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		<-end
	}()
	if err := <-started; err != nil {
		close(end)
		need.Allowed(t, err)
	}
	t.Cleanup(func() {
		qt.Check(t, qt.IsNil(cmd.Process.Kill()))
		_ = cmd.Wait()
		close(end)
	})
	return cmd.Process.Pid
}

// fixture compiles a C program.
func fixture(t testing.TB, name string, flags ...string) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc-12")
	if err != nil {
		gcc = need.Program(t, "gcc")
	}
	out := filepath.Join(t.TempDir(), strings.TrimSuffix(name, ".c"))
	cmd := exec.Command(gcc, append(append([]string{"-pthread", "-o", out}, flags...), "testdata/"+name, "-lm")...)
	said, err := cmd.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", said))
	return out
}

// TestGdbSeesNoMore stops real programs at random: of no function that gdb
// shows on a stack may we say that it is free.
func TestGdbSeesNoMore(t *testing.T) {
	stops := 3
	if testenv.IsLong() {
		stops = 1500
	}
	openssl, _ := exec.LookPath("openssl")
	python, _ := exec.LookPath("/usr/bin/python3")
	for _, test := range []struct {
		name string
		pid  func(t *testing.T) int
	}{
		{"a C program", func(t *testing.T) int { return run(t, fixture(t, "frames.c", "-O2"), "8") }},
		{"openssl speed", func(t *testing.T) int {
			return run(t, openssl, "speed", "-mr", "-seconds", "1", "-bytes", "1000")
		}},
		{"python", func(t *testing.T) int { return run(t, python, "-c", pythonProgram) }},
		{"a server of TLS", func(t *testing.T) int { long(t); return tlsServer(t, openssl) }},
		{"PostgreSQL", func(t *testing.T) int { long(t); return backend(t) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			pid := test.pid(t)
			time.Sleep(200 * time.Millisecond)
			compareStops(t, pid, stops)
		})
	}
}

func long(t *testing.T) {
	testenv.Long(t, "servers under load beside gdb take a minute")
}

// tlsServer starts openssl s_server, and clients that connect to it over and
// over again.
func tlsServer(t *testing.T, openssl string) int {
	dir := t.TempDir()
	key, cert := filepath.Join(dir, "key"), filepath.Join(dir, "cert")
	out, err := exec.Command(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout", key, "-out", cert).CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	p, err := port.Reserve()
	qt.Assert(t, qt.IsNil(err))
	addr := fmt.Sprintf("127.0.0.1:%d", p)
	pid := run(t, openssl, "s_server", "-accept", addr, "-key", key, "-cert", cert, "-www", "-quiet")
	var clients sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); clients.Wait() })
	clients.Go(func() {
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: time.Second}, Config: &tls.Config{InsecureSkipVerify: true}}
		for ctx.Err() == nil {
			conn, err := d.DialContext(ctx, "tcp", addr)
			if err != nil {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			fmt.Fprint(conn, "GET / HTTP/1.0\r\n\r\n")
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
	})
	return pid
}

// backend is a process of PostgreSQL that answers queries without end.
func backend(t *testing.T) int {
	db, err := sql.Open("pgx", testenv.Postgres(t))
	qt.Assert(t, qt.IsNil(err))
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := db.Conn(ctx)
	qt.Assert(t, qt.IsNil(err))
	var pid int
	qt.Assert(t, qt.IsNil(conn.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&pid)))
	var client sync.WaitGroup
	t.Cleanup(func() { cancel(); client.Wait(); conn.Close(); db.Close() })
	client.Go(func() {
		for ctx.Err() == nil {
			_, _ = conn.ExecContext(ctx, "CREATE TEMP TABLE IF NOT EXISTS t AS SELECT i, md5(i::text) AS m FROM generate_series(1, 2000) i")
			_, _ = conn.ExecContext(ctx, "SELECT count(*), max(a.m || b.m) FROM t a JOIN t b ON a.i = b.i + 1 WHERE a.m ~ '^[0-9]+(a|b)*' GROUP BY a.i % 7 ORDER BY 2")
			_, _ = conn.ExecContext(ctx, "DO $$ BEGIN FOR i IN 1..200 LOOP UPDATE t SET m = md5(m) WHERE t.i = i; END LOOP; END $$")
		}
	})
	return pid
}

// pythonProgram computes in threads, through C callbacks and libraries.
const pythonProgram = `
import hashlib, json, random, re, ssl, threading, zlib, time
def work():
    while True:
        hashlib.sha256(random.randbytes(20000)).hexdigest()
        json.loads(json.dumps([{"a": [1, 2, {"b": random.random()}]}] * 30))
        re.sub(r"(a+)+b", lambda m: m.group(1), "aaab" * 20)
        sorted(range(1000), key=lambda n: -n)
        zlib.compress(random.randbytes(5000))
        time.sleep(0.0001)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
work()
`

func compareStops(t *testing.T, pid, stops int) {
	t.Helper()
	d := attach(t, pid)
	var sum tally
	var l Layout
	for range stops {
		threads := d.stop(t)
		if sum.stops%50 == 0 {
			l = layoutOf(t, pid) // programs load libraries
		}
		sum.stops++
		for i := range threads {
			sum.compare(t, l, Memory{pid}, &threads[i])
		}
		if t.Failed() {
			break
		}
	}
	t.Log(sum)
	qt.Check(t, qt.Equals(sum.missed, 0))
}
