// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"bytes"
	"cmp"
	"io"
	"slices"

	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// code of the target that is used as it stands: nothing of its text is changed
// to make a system call.
type gadgets struct {
	syscall   uint64 // syscall; ret
	sigreturn uint64 // mov $15,%eax; syscall
	afterSig  uint64 // behind that
}

var (
	syscallRet = []byte{0x0f, 0x05, 0xc3}
	sigreturns = [][]byte{
		{0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05}, // mov $15,%rax
		{0xb8, 15, 0, 0, 0, 0x0f, 0x05},             // mov $15,%eax
	}
)

func (g gadgets) complete() bool { return g.syscall != 0 && g.sigreturn != 0 }

// still tells whether the code is there.
func (g gadgets) still(mem io.ReaderAt) bool {
	call, back := make([]byte, len(syscallRet)), make([]byte, g.afterSig-g.sigreturn)
	if _, err := mem.ReadAt(call, int64(g.syscall)); err != nil || !bytes.Equal(call, syscallRet) {
		return false
	}
	_, err := mem.ReadAt(back, int64(g.sigreturn))
	return err == nil && slices.ContainsFunc(sigreturns, func(s []byte) bool { return bytes.Equal(s, back) })
}

// look searches bytes of text that lie at this address.
func (g *gadgets) look(text []byte, at uint64) {
	if i := bytes.Index(text, syscallRet); i >= 0 && g.syscall == 0 {
		g.syscall = at + uint64(i)
	}
	for _, s := range sigreturns {
		if i := bytes.Index(text, s); i >= 0 && g.sigreturn == 0 {
			g.sigreturn = at + uint64(i)
			g.afterSig = g.sigreturn + uint64(len(s))
		}
	}
}

const (
	maxText  = 256 << 20 // bytes searched
	textStep = 256 << 10
)

// search finds the code in the mappings that are executable and not writable,
// small ones first: the loader of a dynamic program has both.
func search(mem io.ReaderAt, maps []proc.Mapping) gadgets {
	var text []proc.Mapping
	for _, m := range maps {
		if m.Read && !m.Write && m.Exec && m.Path != "[vsyscall]" {
			text = append(text, m)
		}
	}
	order.Sort(text, func(a, b proc.Mapping) int { return cmp.Compare(a.End-a.Start, b.End-b.Start) })
	const overlap = 16
	buf := make([]byte, textStep+overlap)
	var all gadgets
	read := uint64(0)
	for _, m := range text {
		var here gadgets
		for at := m.Start; at < m.End && read < maxText; at += textStep {
			n, _ := mem.ReadAt(buf[:min(uint64(len(buf)), m.End-at)], int64(at))
			here.look(buf[:n], at)
			read += textStep
			if here.complete() {
				return here
			}
		}
		if all.syscall == 0 {
			all.syscall = here.syscall
		}
		if all.sigreturn == 0 {
			all.sigreturn, all.afterSig = here.sigreturn, here.afterSig
		}
		if all.complete() {
			break
		}
	}
	return all
}

// room tells whether a stack has at least size bytes below sp that are the
// thread's own: in the stack of the process, or below the thread's block (fs)
// in one mapping with it, as C libraries place stacks. The main thread's block
// lies among other memory; its stack may be one that a library made only in the
// child of a fork, and then there is a guard below. Coroutine stacks and
// alternate signal stacks are neither, and what lies below them is unknown.
func room(maps []proc.Mapping, sp, fs, size uint64, main bool) bool {
	i, ok := mappingOf(maps, sp)
	if !ok {
		return false
	}
	m := maps[i]
	guarded := i > 0 && below(maps[i-1], m)
	switch {
	case !m.Read || !m.Write, sp-m.Start < size:
		return false
	case m.Path == "[stack]":
		return true
	}
	return fs > sp && fs < m.End && (guarded || !main)
}

func mappingOf(maps []proc.Mapping, at uint64) (int, bool) {
	return slices.BinarySearchFunc(maps, at, func(m proc.Mapping, at uint64) int {
		switch {
		case m.End <= at:
			return -1
		case m.Start > at:
			return 1
		}
		return 0
	})
}

// stackEnd is the end of a stack that has room: the thread's block, or the end of
// the mapping.
func stackEnd(maps []proc.Mapping, sp, fs uint64) uint64 {
	i, ok := mappingOf(maps, sp)
	switch {
	case !ok:
		return 0
	case fs > sp && fs < maps[i].End:
		return fs
	}
	return maps[i].End
}

// below tells whether a mapping is a guard right below another one.
func below(guard, m proc.Mapping) bool {
	return guard.End == m.Start && !guard.Read && !guard.Write && !guard.Exec
}
