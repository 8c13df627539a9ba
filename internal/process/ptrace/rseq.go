// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"encoding/binary"
	"io"
)

// notRestartable refuses a thread in a restartable sequence (rseq): the kernel
// must find it there to abort it. Outside system calls only.
func (l *Loan) notRestartable() error {
	t := &l.thread
	config, err := getRseq(t.tid)
	if err != nil {
		return unsuitable(t.tid, "the kernel does not tell its restartable sequences")
	}
	if config.Pointer == 0 {
		return nil
	}
	var inside bool
	err = l.within(func() { inside = inSequence(l.mem, config.Pointer, t.regs.Rip) })
	if err == nil && inside {
		err = unsuitable(t.tid, "it is in a restartable sequence")
	}
	return err
}

// inSequence tells whether an address lies in the restartable sequence that a
// thread has announced (struct rseq_cs).
func inSequence(mem io.ReaderAt, rseq, rip uint64) bool {
	var p [8]byte
	if _, err := mem.ReadAt(p[:], int64(rseq+8)); err != nil {
		return true // not known: not outside
	}
	at := binary.LittleEndian.Uint64(p[:])
	if at == 0 {
		return false
	}
	var cs [32]byte
	if _, err := mem.ReadAt(cs[:], int64(at)); err != nil {
		return true
	}
	start, length := binary.LittleEndian.Uint64(cs[8:]), binary.LittleEndian.Uint64(cs[16:])
	return rip-start < length
}
