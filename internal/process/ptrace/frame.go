// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// A thread that makes a system call for us stands on a frame like that of a
// signal handler (struct rt_sigframe, arch/x86/include/asm/sigframe.h): the
// call returns to an existing rt_sigreturn of the program, which takes all
// registers from the frame. So the thread finds back to what it did without us.
//
//	frame     address of the rt_sigreturn code
//	+8        ucontext: flags, link, stack, registers, signal mask
//	+312      siginfo (unused)
//	fp        XSAVE area, aligned to 64, and the second magic word
//	          red zone of the code that was interrupted
//	rsp
const (
	redZone      = 128
	frameSize    = 8 + ucontextSize + 128
	ucontextSize = 304

	ucFlags       = 1 | 2 | 4 // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
	badStackFlags = 0x7f      // makes the kernel leave the alternate stack as it is

	legacySize = 512 // FXSAVE
	minXstate  = 576 // and the header
	swBytes    = 464 // where the kernel keeps words of its own
	fpMagic1   = 0x46505853
	fpMagic2   = 0x46505845
)

var errXstate = errors.New("floating point state of an unknown form")

// frame lays a frame out below the stack that regs has. It returns its address
// and that of its XSAVE area, and the bytes. Regs are those to go on with, see
// resumed.
func frame(regs *unix.PtraceRegs, mask, restorer uint64, xstate []byte) (at, fpAt uint64, b []byte, err error) {
	fp, err := fpFrame(xstate)
	if err != nil {
		return 0, 0, nil, err
	}
	if regs.Rsp < redZone+uint64(len(fp))+frameSize+128 {
		return 0, 0, nil, fmt.Errorf("stack pointer %#x", regs.Rsp)
	}
	fpAt = (regs.Rsp - redZone - uint64(len(fp))) &^ 63
	at = (fpAt-frameSize)&^15 - 8
	b = make([]byte, 0, fpAt-at+uint64(len(fp)))
	b = sigContext(b, regs, mask, restorer, fpAt)
	if len(b) != 8+ucontextSize {
		return 0, 0, nil, fmt.Errorf("a signal frame of %d bytes", len(b))
	}
	b = append(b, make([]byte, fpAt-at-uint64(len(b)))...)
	return at, fpAt, append(b, fp...), nil
}

// sigContext appends a frame as far as its signal mask: what rt_sigreturn reads.
func sigContext(b []byte, regs *unix.PtraceRegs, mask, restorer, fpAt uint64) []byte {
	put := func(words ...uint64) {
		for _, w := range words {
			b = binary.LittleEndian.AppendUint64(b, w)
		}
	}
	put(restorer)
	put(ucFlags, 0)          // uc_flags, uc_link
	put(0, badStackFlags, 0) // uc_stack: ss_sp, ss_flags, ss_size
	put(regs.R8, regs.R9, regs.R10, regs.R11, regs.R12, regs.R13, regs.R14, regs.R15,
		regs.Rdi, regs.Rsi, regs.Rbp, regs.Rbx, regs.Rdx, regs.Rax, regs.Rcx, regs.Rsp, regs.Rip, regs.Eflags)
	put(regs.Cs&0xffff | (regs.Ss&0xffff)<<48) // cs, gs, fs, ss
	put(0, 0, 0, 0)                            // err, trapno, oldmask, cr2
	put(fpAt)
	put(make([]uint64, 8)...)
	put(mask)
	return b
}

// fpFrame makes of what PTRACE_GETREGSET gives (NT_X86_XSTATE) what rt_sigreturn
// takes: the same with a mark, in bytes that the processor leaves alone, of the
// size that the kernel expects of this thread (check_xstate_in_sigframe).
func fpFrame(xstate []byte) ([]byte, error) {
	if len(xstate) < minXstate {
		return nil, errXstate
	}
	features := binary.LittleEndian.Uint64(xstate[swBytes:]) // what the kernel lets programs use
	used := binary.LittleEndian.Uint64(xstate[legacySize:])
	const (
		pkru = 1 << 9
		amx  = 1<<17 | 1<<18
		apx  = 1 << 19
	)
	size := len(xstate)
	switch {
	case features&3 != 3, features>>20 != 0 || used&^features != 0:
		return nil, errXstate
	case used&amx != 0 || features&amx == 0:
	case features&apx != 0:
		return nil, errXstate // its place among the others is not known yet
	default:
		// The tiles' part (AMX) is there only for threads that asked for it; the
		// kernel refuses a larger area than the thread has. Processors that have
		// tiles keep all before them in these many bytes.
		size = 2688
		if features&pkru != 0 {
			size += 8
		}
	}
	if size > len(xstate) || size%4 != 0 {
		return nil, errXstate
	}
	b := make([]byte, size, size+4)
	copy(b, xstate)
	clear(b[swBytes:legacySize])
	binary.LittleEndian.PutUint32(b[swBytes:], fpMagic1)
	binary.LittleEndian.PutUint32(b[swBytes+4:], uint32(size+4)) // extended_size
	binary.LittleEndian.PutUint64(b[swBytes+8:], features)
	binary.LittleEndian.PutUint32(b[swBytes+16:], uint32(size)) // xstate_size
	return binary.LittleEndian.AppendUint32(b, fpMagic2), nil
}
