// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

func TestInterruptedCallsGoOn(t *testing.T) {
	const at = 0x1002
	for name, c := range map[string]struct {
		rax, orig int64
		rip, want uint64
	}{
		"none":               {5, -1, at, 5},
		"ended":              {-4, unix.SYS_READ, at, ^uint64(3)},
		"ERESTARTSYS":        {-512, unix.SYS_READ, at - 2, unix.SYS_READ},
		"ERESTARTNOINTR":     {-513, unix.SYS_CLONE, at - 2, unix.SYS_CLONE},
		"ERESTARTNOHAND":     {-514, unix.SYS_PPOLL, at - 2, unix.SYS_PPOLL},
		"ERESTART_BLOCK":     {-516, unix.SYS_NANOSLEEP, at - 2, unix.SYS_NANOSLEEP},
		"not in a call, 512": {-512, -1, at, ^uint64(511)},
	} {
		t.Run(name, func(t *testing.T) {
			r := resumed(unix.PtraceRegs{Rax: uint64(c.rax), Orig_rax: uint64(c.orig), Rip: at})
			qt.Check(t, qt.Equals(r.Rip, c.rip))
			qt.Check(t, qt.Equals(r.Rax, c.want))
			qt.Check(t, qt.Equals(r.Orig_rax, ^uint64(0)))
		})
	}
}

func TestWaitingCallsAreKeptWaiting(t *testing.T) {
	for _, c := range []struct {
		nr, rax int64
		cs      uint64
		want    bool
	}{
		{unix.SYS_EPOLL_WAIT, -4, 0x33, true},
		{unix.SYS_CONNECT, -4, 0x33, true},
		{unix.SYS_EPOLL_WAIT, 1, 0x33, false},
		{unix.SYS_CLOSE, -4, 0x33, false},
		{-1, -4, 0x33, false},
		{unix.SYS_EPOLL_WAIT, -4, 0x23, false},
	} {
		r := unix.PtraceRegs{Rax: uint64(c.rax), Orig_rax: uint64(c.nr), Cs: c.cs}
		qt.Check(t, qt.Equals(keepWaiting(&r), c.want))
		if c.want {
			qt.Check(t, qt.Equals(int64(r.Rax), -514))
		}
	}
}

// xsave is an area as the kernel gives it.
func xsave(size int, features, used uint64) []byte {
	b := make([]byte, size)
	binary.LittleEndian.PutUint64(b[464:], features)
	binary.LittleEndian.PutUint64(b[512:], used)
	return b
}

func TestTheFloatingPointFrameHasTheSizeThatTheKernelWants(t *testing.T) {
	for name, c := range map[string]struct {
		area []byte
		size int // 0: refused
	}{
		"AVX":                 {xsave(832, 7, 7), 832},
		"AVX-512 and keys":    {xsave(2696, 0x2e7, 0x2e7), 2696},
		"tiles, not asked":    {xsave(11008, 0x602e7, 0x2e7), 2696},
		"tiles, no keys":      {xsave(11008, 0x600e7, 0x0e7), 2688},
		"tiles in use":        {xsave(11008, 0x602e7, 0x602e7), 11008},
		"too small":           {xsave(576, 7, 7)[:512], 0},
		"unknown feature":     {xsave(4096, 1<<25|7, 7), 0},
		"used, not permitted": {xsave(4096, 7, 0xff), 0},
		"no XSAVE":            {xsave(576, 0, 0), 0},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := fpFrame(c.area)
			if c.size == 0 {
				qt.Assert(t, qt.IsNotNil(err))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.HasLen(b, c.size+4))
			qt.Check(t, qt.Equals(binary.LittleEndian.Uint32(b[464:]), uint32(0x46505853)))
			qt.Check(t, qt.Equals(binary.LittleEndian.Uint32(b[480:]), uint32(c.size)))
			qt.Check(t, qt.Equals(binary.LittleEndian.Uint32(b[c.size:]), uint32(0x46505845)))
		})
	}
}

func TestTheFrameLiesBelowTheRedZone(t *testing.T) {
	for sp := uint64(0x7fff00000000); sp < 0x7fff00000080; sp++ {
		at, _, b, err := frame(&unix.PtraceRegs{Rsp: sp, Rip: 0x1234}, 0, 0x4000, xsave(2696, 0x2e7, 0x2e7))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(at+uint64(len(b)) <= sp-128))
		qt.Check(t, qt.Equals(at%16, 8))
		fp := binary.LittleEndian.Uint64(b[232:])
		qt.Check(t, qt.Equals(fp%64, 0))
		qt.Check(t, qt.Equals(binary.LittleEndian.Uint32(b[fp-at+464:]), uint32(0x46505853)))
		qt.Check(t, qt.Equals(binary.LittleEndian.Uint64(b[168:]), sp)) // in the ucontext
		qt.Check(t, qt.IsTrue(sp-at <= maxFrame))
	}
	_, _, _, err := frame(&unix.PtraceRegs{Rsp: 100}, 0, 0, xsave(832, 7, 7))
	qt.Check(t, qt.IsNotNil(err))
}

func TestRoomIsTheThreadsOwn(t *testing.T) {
	maps, err := proc.ParseMappings(strings.NewReader(`1000-2000 ---p 00000000 00:00 0
2000-100000 rw-p 00000000 00:00 0
200000-300000 rw-p 00000000 00:00 0
400000-500000 r--p 00000000 00:00 0
7ff000000000-7ff000100000 rw-p 00000000 00:00 0                          [stack]
`))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(maps, 5))
	for _, c := range []struct {
		name   string
		sp, fs uint64
		main   bool
		want   bool
	}{
		{"the process's stack", 0x7ff0000f0000, 0x50, true, true},
		{"its end", 0x7ff000001000, 0x50, true, false},
		{"a thread's stack", 0xf0000, 0xff000, false, true},
		{"its end", 0x3000, 0xff000, false, false},
		{"above the block", 0xff100, 0xff000, false, false},
		{"another mapping", 0x2f0000, 0xff000, false, false},
		{"a thread's stack after a fork", 0xf0000, 0xff000, true, true},
		{"beside the main thread's block", 0x2f0000, 0x2ff000, true, false},
		{"read-only", 0x4f0000, 0x4ff000, false, false},
		{"nowhere", 0x10, 0, false, false},
	} {
		qt.Check(t, qt.Equals(room(maps, c.sp, c.fs, maxFrame, c.main), c.want), qt.Commentf("%s", c.name))
	}
}

// mmap returns k, all else is allowed.
func filterOf(k uint32) []instruction {
	return []instruction{{0x20, 0, 0, 0}, {0x15, 0, 1, unix.SYS_MMAP}, {6, 0, 0, k}, {6, 0, 0, actAllow}}
}

func TestTheStrictestFilterWins(t *testing.T) {
	for _, c := range []struct {
		filters [][]instruction
		want    uint32
	}{
		{[][]instruction{filterOf(actAllow)}, actAllow},
		{[][]instruction{filterOf(actErrno | 1), filterOf(actAllow)}, actErrno},
		{[][]instruction{filterOf(actErrno), filterOf(actKill)}, actKill},
		{[][]instruction{filterOf(actKill), filterOf(0x80000000)}, 0x80000000},
		{nil, actAllow},
	} {
		v, err := verdict(c.filters, call{nr: unix.SYS_MMAP})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(v, c.want))
		v, err = verdict(c.filters, call{nr: unix.SYS_READ})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(v, uint32(actAllow)))
	}
	for _, bad := range [][]instruction{{}, {{0x20, 0, 0, 64}}, {{5, 0, 0, ^uint32(0)}}, {{0x34, 0, 0, 0}, {6, 0, 0, 0}}, {{0x60, 0, 0, 16}}} {
		_, err := verdict([][]instruction{bad}, call{})
		qt.Check(t, qt.IsNotNil(err))
	}
}

func FuzzFilter(f *testing.F) {
	f.Add([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0xff, 0x7f}, 9)
	f.Add([]byte{0x05, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 0)
	f.Fuzz(func(t *testing.T, b []byte, nr int) {
		var prog []instruction
		for ; len(b) >= 8 && len(prog) < maxFilter; b = b[8:] {
			prog = append(prog, instruction{binary.LittleEndian.Uint16(b), b[2], b[3], binary.LittleEndian.Uint32(b[4:])})
		}
		_, _ = verdict([][]instruction{prog}, call{nr: nr})
	})
}
