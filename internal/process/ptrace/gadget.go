// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"slices"
	"strconv"
	"strings"
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

// mapping is one line of /proc/PID/maps.
type mapping struct {
	start, end uint64
	perms      string
	name       string
}

const (
	maxMaps  = 65530 + 1000 // vm.max_map_count as it is shipped, and some
	maxText  = 256 << 20    // bytes searched
	textStep = 256 << 10
)

func parseMaps(r io.Reader) []mapping {
	var all []mapping
	sc := bufio.NewScanner(r)
	for len(all) < maxMaps && sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) < 5 {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil || end <= start {
			continue
		}
		m := mapping{start: start, end: end, perms: f[1]}
		if len(f) > 5 {
			m.name = f[5]
		}
		all = append(all, m)
	}
	return all
}

// search finds the code in the mappings that are executable and not writable,
// small ones first: the loader of a dynamic program has both.
func search(mem io.ReaderAt, maps []mapping) gadgets {
	var text []mapping
	for _, m := range maps {
		if strings.HasPrefix(m.perms, "r-x") && m.name != "[vsyscall]" {
			text = append(text, m)
		}
	}
	slices.SortFunc(text, func(a, b mapping) int { return cmp.Compare(a.end-a.start, b.end-b.start) })
	const overlap = 16
	buf := make([]byte, textStep+overlap)
	var all gadgets
	read := uint64(0)
	for _, m := range text {
		var here gadgets
		for at := m.start; at < m.end && read < maxText; at += textStep {
			n, _ := mem.ReadAt(buf[:min(uint64(len(buf)), m.end-at)], int64(at))
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
func room(maps []mapping, sp, fs, size uint64, main bool) bool {
	i, ok := slices.BinarySearchFunc(maps, sp, func(m mapping, at uint64) int {
		switch {
		case m.end <= at:
			return -1
		case m.start > at:
			return 1
		}
		return 0
	})
	if !ok {
		return false
	}
	m := maps[i]
	guarded := i > 0 && maps[i-1].end == m.start && strings.HasPrefix(maps[i-1].perms, "---")
	switch {
	case !strings.HasPrefix(m.perms, "rw"), sp-m.start < size:
		return false
	case m.name == "[stack]":
		return true
	}
	return fs > sp && fs < m.end && (guarded || !main)
}
