// SPDX-License-Identifier: Apache-2.0

package process

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/stack"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
	"github.com/tsugi-project/tsugi/internal/unwind"
)

// TestChangeOfStacks takes a thread step by step through swapcontext, into a
// coroutine that is in a function: from the step on that loads its stack pointer
// the thread is never said to be outside of the function, with unwind tables or
// without, in a dynamic program or a static one.
func TestChangeOfStacks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("it is run as root, as the engine is")
	}
	need.Program(t, "gcc")
	for name, flags := range map[string][]string{"dynamic": {"-pie", "-fPIE"}, "static": {"-static"}} {
		t.Run(name, func(t *testing.T) {
			program := filepath.Join(t.TempDir(), "switch")
			args := append([]string{"-O2", "-fno-inline", "-o", program, "testdata/switch.c"}, flags...)
			if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
				t.Fatalf("gcc: %v\n%s", err, out)
			}
			runtime.LockOSThread() // it is the tracer
			defer runtime.UnlockOSThread()
			cmd := exec.Command(program)
			cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
			qt.Assert(t, qt.IsNil(cmd.Start()))
			pid := cmd.Process.Pid
			defer func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}()
			trapped(t, pid) // the start of the program
			for range 2 {   // names are bound when it has been there once
				qt.Assert(t, qt.IsNil(unix.PtraceCont(pid, 0)))
				trapped(t, pid)
			}
			follow(t, pid, program)
		})
	}
}

func trapped(t *testing.T, pid int) {
	t.Helper()
	var s unix.WaitStatus
	_, err := unix.Wait4(pid, &s, unix.WALL, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(s.Stopped() && s.StopSignal() == unix.SIGTRAP), qt.Commentf("%#x", s))
}

func follow(t *testing.T, pid int, program string) {
	t.Helper()
	p, err := proc.Open(t.Context(), pid)
	qt.Assert(t, qt.IsNil(err))
	defer p.Close()
	w := &work{e: New(Config{Locks: t.TempDir()}), p: p}
	w.s, err = look(t.Context(), p)
	qt.Assert(t, qt.IsNil(err))
	f := functionOf(t, program, "f")
	f.Start, f.End, f.Jump = f.Start+w.s.objects[0].Bias, f.End+w.s.objects[0].Bias, f.Jump+w.s.objects[0].Bias
	var checkers []*stack.Checker
	for _, tables := range []bool{false, true, true} { // what is remembered, too
		layout, err := w.layout(tables)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Not(qt.HasLen(layout.Switches, 0)))
		c, err := stack.New(layout, []stack.Function{f}, stack.Options{})
		qt.Assert(t, qt.IsNil(err))
		checkers = append(checkers, c)
	}
	var first uint64
	between := 0
	for step := 0; ; step++ {
		qt.Assert(t, qt.IsTrue(step < 1000))
		var regs unix.PtraceRegs
		qt.Assert(t, qt.IsNil(unix.PtraceGetRegs(pid, &regs)))
		if step == 0 {
			first = regs.Rsp
		}
		thread := stack.FromPtrace(pid, &regs)
		pc := thread.Regs.Value[unwind.RIP]
		there := regs.Rsp+1<<20 < first || regs.Rsp > first+1<<20 // on the other stack
		for i, c := range checkers {
			v := c.Check(stack.Memory{PID: pid}, &thread)
			qt.Check(t, qt.Equals(v.State == stack.Safe, !there), qt.Commentf("checker %d at %#x: %+v", i, pc, v))
		}
		if there {
			between++
		}
		if pc >= f.Start && pc < f.End {
			break
		}
		qt.Assert(t, qt.IsNil(unix.PtraceSingleStep(pid)))
		trapped(t, pid)
	}
	qt.Check(t, qt.IsTrue(between > 10), qt.Commentf("%d steps on the other stack", between))
}

func functionOf(t *testing.T, program, name string) stack.Function {
	t.Helper()
	file, err := elf.Open(program)
	qt.Assert(t, qt.IsNil(err))
	defer file.Close()
	symbols, err := file.Symbols()
	qt.Assert(t, qt.IsNil(err))
	for _, s := range symbols {
		if s.Name == name {
			return stack.Function{Name: name, Start: s.Value, End: s.Value + s.Size, Jump: s.Value}
		}
	}
	t.Fatalf("no %s", name)
	return stack.Function{}
}
