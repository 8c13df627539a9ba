// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/unwind"
)

// FromPtrace is a thread by the registers that PTRACE_GETREGS gives.
func FromPtrace(tid int, r *unix.PtraceRegs) Thread {
	t := Thread{TID: tid, FSBase: r.Fs_base, Foreign: r.Cs|xenBits != userCode|xenBits}
	t.Regs.Value = [unwind.Registers]uint64{
		unwind.RAX: r.Rax, unwind.RDX: r.Rdx, unwind.RCX: r.Rcx, unwind.RBX: r.Rbx,
		unwind.RSI: r.Rsi, unwind.RDI: r.Rdi, unwind.RBP: r.Rbp, unwind.RSP: r.Rsp,
		unwind.R8: r.R8, unwind.R9: r.R9, unwind.R10: r.R10, unwind.R11: r.R11,
		unwind.R12: r.R12, unwind.R13: r.R13, unwind.R14: r.R14, unwind.R15: r.R15,
		unwind.RIP: r.Rip,
	}
	t.Regs.Known, t.Regs.Exact = unwind.AllKnown, true
	return t
}
