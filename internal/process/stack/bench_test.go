// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/unwind"
)

// stopped starts the C program with that many threads, stops all of them by
// ptrace until the benchmark ends, and returns what they look like.
func stopped(b *testing.B, args ...string) (Layout, []Thread) {
	b.Helper()
	pid := run(b, fixture(b, "frames.c", "-O2"), args...)
	time.Sleep(300 * time.Millisecond)
	l := layoutOf(b, pid)
	runtime.LockOSThread()
	var all []Thread
	b.Cleanup(func() { // a traced thread that is killed would wait for us
		for i := range all {
			qt.Check(b, qt.IsNil(unix.PtraceDetach(all[i].TID)))
		}
		runtime.UnlockOSThread()
	})
	for _, tid := range tasks(b, pid) {
		qt.Assert(b, qt.IsNil(unix.PtraceSeize(tid)))
		qt.Assert(b, qt.IsNil(unix.PtraceInterrupt(tid)))
		var status unix.WaitStatus
		_, err := unix.Wait4(tid, &status, unix.WALL, nil)
		qt.Assert(b, qt.IsNil(err))
		var regs unix.PtraceRegs
		qt.Assert(b, qt.IsNil(unix.PtraceGetRegs(tid, &regs)))
		all = append(all, FromPtrace(tid, &regs))
	}
	return l, all
}

// BenchmarkCheck is the cost of one thread's check while a process is stopped,
// the reading of its stack included.
func BenchmarkCheck(b *testing.B) {
	for _, program := range []struct {
		name string
		args []string
	}{{"asleep", []string{"16", "7"}}, {"at work", []string{"16"}}} {
		b.Run(program.name, func(b *testing.B) { benchmarkCheck(b, program.args) })
	}
}

func benchmarkCheck(b *testing.B, args []string) {
	l, threads := stopped(b, args...)
	libc := l.Objects[slices.IndexFunc(l.Objects, func(o Object) bool { return o.Name == "libc.so.6" })]
	rare, _ := functionAt(l, libc.Start+0x4000, true) // on no stack
	mem := Memory{l.PID}
	b.Run("check", func(b *testing.B) {
		c, err := New(l, []Function{rare}, Options{})
		qt.Assert(b, qt.IsNil(err))
		bytes, i := 0, 0
		for b.Loop() {
			v := c.Check(mem, &threads[i%len(threads)])
			bytes += v.Bytes
			i++
		}
		b.ReportMetric(float64(bytes)/float64(b.N), "stack-B/op")
	})
	b.Run("unwinding", func(b *testing.B) {
		c, err := New(l, []Function{rare}, Options{})
		qt.Assert(b, qt.IsNil(err))
		frames, i := 0, 0
		for b.Loop() {
			th := threads[i%len(threads)]
			c.snap.open(mem, th.Regs.Value[unwind.RSP], c.end(&th, th.Regs.Value[unwind.RSP]))
			v := Verdict{}
			c.unwind(&th, &v)
			frames += v.Frames
			i++
		}
		b.ReportMetric(float64(frames)/float64(b.N), "frames/op")
	})
	b.Run("New", func(b *testing.B) {
		for b.Loop() {
			if _, err := New(l, []Function{rare}, Options{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
