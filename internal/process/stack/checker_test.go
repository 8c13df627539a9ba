// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/unwind"
)

// A process of the tests: four functions of an ELF file at bias, code of none at
// madeCode, and a stack that ends at stackEnd.
const (
	bias     = 0x7f0000000000
	plainFn  = bias + 0x1000 // the frame address is rsp+8
	pushedFn = bias + 0x1100 // the frame address is rsp+16
	rootFn   = bias + 0x1200 // the outermost: the return address is undefined
	signalFn = bias + 0x1300 // a signal trampoline: the interrupted registers lie at rsp
	fnSize   = 0x100
	madeCode = 0x10000000
	stackEnd = 0x7ffd00000000
	tid      = 100
)

// testTable has the unwind entries of these functions.
func testTable(t testing.TB) *unwind.Table {
	t.Helper()
	const at = 0x5000
	var out []byte
	record := func(body []byte) int {
		for len(body)%8 != 4 {
			body = append(body, 0)
		}
		start := len(out)
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(body))), body...)
		return start
	}
	cie := func(augmentation string) int {
		return record(append(append([]byte{0, 0, 0, 0, 1}, augmentation...), 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1))
	}
	fde := func(cie int, fn uint64, code ...byte) {
		body := binary.LittleEndian.AppendUint32(nil, uint32(len(out)+4-cie))
		body = binary.LittleEndian.AppendUint32(body, uint32(fn-bias-uint64(at+len(out)+8)))
		body = binary.LittleEndian.AppendUint32(body, fnSize)
		record(append(append(body, 0), code...))
	}
	usual, signal := cie("zR"), cie("zRS")
	fde(usual, plainFn)
	fde(usual, pushedFn, 0x0e, 16)                                   // DW_CFA_def_cfa_offset
	fde(usual, rootFn, 0x07, 16)                                     // DW_CFA_undefined rip
	fde(signal, signalFn, 0x0f, 3, 0x77, 0, 6, 0x10, 16, 2, 0x77, 8) // CFA = *rsp, rip at rsp+8
	table, err := unwind.Parse(append(out, 0, 0, 0, 0), at)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(table.Len(), 4))
	return table
}

// memory is what a reader gives: pieces by address.
type memory map[uint64][]byte

var errFault = errors.New("bad address")

func (m memory) ReadAt(p []byte, addr int64) (int, error) {
	for base, data := range m {
		if at := uint64(addr); at >= base && at < base+uint64(len(data)) {
			n := copy(p, data[at-base:])
			if n < len(p) {
				return n, io.ErrUnexpectedEOF
			}
			return n, nil
		}
	}
	return 0, errFault
}

// allOrNothing is a reader that gives no part of what it is asked for.
type allOrNothing struct{ memory }

func (m allOrNothing) ReadAt(p []byte, addr int64) (int, error) {
	if n, err := m.memory.ReadAt(p, addr); err == nil {
		return n, nil
	}
	return 0, errFault
}

func little(words ...uint64) []byte {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// onStack puts words at the end of the stack and below them what the red zone
// needs; sp is the address of the first word.
func onStack(words ...uint64) (m memory, sp uint64) {
	data := append(make([]byte, 4096), little(words...)...)
	return memory{stackEnd - uint64(len(data)): data}, stackEnd - uint64(8*len(words))
}

func TestCheck(t *testing.T) {
	t.Parallel()
	const (
		fnStart = bias + 0x1040 // the function in question: the middle of plainFn
		fnEnd   = fnStart + 0x40
		inFn    = fnStart + 0x20
		outside = plainFn + 0x20
		root    = rootFn + 0x10
	)
	whole := Function{Name: "f", Start: fnStart, End: fnEnd, Jump: fnStart}
	part := Function{Name: "f", Start: fnStart, End: fnEnd}
	branch := Function{Name: "f", Start: fnStart, End: fnEnd, Jump: fnStart + 4}
	entry := Function{Name: "f", Start: fnStart, End: fnEnd, Jump: fnStart, EntryOnly: true}
	long := make([]uint64, 3000)
	for i := range long {
		long[i] = outside
	}
	for _, test := range []struct {
		name    string
		fn      Function
		rip     uint64
		words   []uint64
		change  func(l *Layout, t *Thread, m memory) // before the check
		opt     Options
		nothing bool // the reader gives all or nothing
		state   State
		how     How
		why     error
	}{
		{name: "a stack without any word of it", fn: whole, rip: outside, words: []uint64{outside, root}, state: Safe, how: ByWords},
		{name: "running in it", fn: whole, rip: inFn, words: []uint64{root}, state: Busy, how: ByRegisters},
		{name: "about to run its first instruction", fn: whole, rip: fnStart, words: []uint64{root}, state: Safe, how: ByWords},
		{name: "about to run the first instruction of a part", fn: part, rip: fnStart, words: []uint64{root}, state: Busy, how: ByRegisters},
		{name: "behind the end", fn: whole, rip: fnEnd, words: []uint64{root}, state: Safe, how: ByWords},
		{name: "between endbr64 and the jump", fn: branch, rip: fnStart + 4, words: []uint64{root}, state: Safe, how: ByWords},
		{name: "inside of the jump", fn: branch, rip: fnStart + 5, words: []uint64{root}, state: Busy, how: ByRegisters},
		{name: "running in it, entry only", fn: entry, rip: inFn, words: []uint64{root}, state: Safe, how: ByWords},
		{name: "inside of the jump, entry only", fn: entry, rip: fnStart + 4, words: []uint64{root}, state: Busy, how: ByRegisters},
		{name: "behind the jump, entry only", fn: entry, rip: fnStart + 5, words: []uint64{root}, state: Safe, how: ByWords},
		{name: "returning to it", fn: whole, rip: outside, words: []uint64{inFn, root}, state: Busy, how: ByUnwinding},
		{name: "returning to it, entry only", fn: entry, rip: outside, words: []uint64{inFn, root}, state: Safe, how: ByWords},
		{name: "returning into the jump", fn: entry, rip: outside, words: []uint64{fnStart + 2, root}, state: Busy, how: ByUnwinding},
		{name: "a call at its very end", fn: whole, rip: outside, words: []uint64{fnEnd, root}, state: Busy, how: ByUnwinding},
		{name: "a call before it that does not return", fn: whole, rip: outside, words: []uint64{fnStart, root}, state: Safe, how: ByWords},
		{name: "an old word of it", fn: whole, rip: pushedFn + 1, words: []uint64{inFn, root}, state: Safe, how: ByUnwinding},
		{
			name: "an old word below the stack pointer", fn: whole, rip: outside, words: []uint64{root}, state: Safe, how: ByWords,
			change: func(_ *Layout, th *Thread, m memory) {
				for base, data := range m {
					copy(data[th.Regs.Value[unwind.RSP]-base-16:], little(inFn, inFn))
				}
			},
		},
		{name: "interrupted in it", fn: whole, rip: signalFn, words: []uint64{stackEnd - 8, inFn, 1, root}, state: Busy, how: ByUnwinding},
		{name: "interrupted at its entry", fn: whole, rip: signalFn, words: []uint64{stackEnd - 8, fnStart, 1, root}, state: Safe, how: ByUnwinding},
		{name: "a handler, interrupted in it", fn: whole, rip: outside, words: []uint64{signalFn, stackEnd - 8, inFn, root}, state: Busy, how: ByUnwinding},
		{name: "code of nothing, and no word", fn: whole, rip: madeCode, words: []uint64{1, 2, root}, state: Safe, how: ByWords},
		{name: "code of nothing, and a word", fn: whole, rip: madeCode, words: []uint64{1, inFn, root}, state: Busy, how: ByWords, why: errNoObject},
		{name: "code without entry, and a word", fn: whole, rip: bias + 0x3000, words: []uint64{1, inFn, root}, state: Busy, how: ByWords, why: unwind.ErrNoEntry},
		{name: "returning to code of nothing, and a word", fn: whole, rip: outside, words: []uint64{madeCode, 1, inFn, root}, state: Busy, how: ByWords, why: errNoObject},
		{name: "code of nothing, and a signal frame", fn: whole, rip: madeCode, words: []uint64{1, signalFn, 3}, state: Unproven, how: ByWords, why: errSignal},
		{
			name: "no tables, and no word", fn: whole, rip: outside, words: []uint64{1, 0x33, 2}, state: Safe, how: ByWords,
			change: func(l *Layout, _ *Thread, _ memory) { l.Objects = nil },
		},
		{
			name: "no tables, and a word", fn: whole, rip: outside, words: []uint64{1, inFn}, state: Busy, how: ByWords, why: errNoObject,
			change: func(l *Layout, _ *Thread, _ memory) { l.Objects = nil },
		},
		{
			name: "no tables, and a signal trampoline", fn: whole, rip: outside, words: []uint64{1, signalFn}, state: Unproven, how: ByWords, why: errSignal,
			change: func(l *Layout, _ *Thread, _ memory) { l.Objects, l.SignalReturns = nil, []uint64{signalFn} },
		},
		{
			name: "no tables, and segments that the kernel has saved", fn: whole, rip: outside, words: []uint64{1, 0x2b<<48 | 0x33, 2}, state: Unproven, how: ByWords, why: errSignal,
			change: func(l *Layout, _ *Thread, _ memory) { l.Objects = nil },
		},
		{
			name: "no tables, and segments saved below Xen", fn: whole, rip: outside, words: []uint64{1, 0xe02b<<48 | 0xe033, 2}, state: Unproven, how: ByWords, why: errSignal,
			change: func(l *Layout, _ *Thread, _ memory) { l.Objects = nil },
		},
		{
			name: "another stack, unwound", fn: whole, rip: outside, words: []uint64{root}, state: Safe, how: ByUnwinding,
			change: func(l *Layout, _ *Thread, _ memory) { l.MainStackEnd = 0 },
		},
		{
			name: "another stack, not unwound", fn: whole, rip: madeCode, words: []uint64{1, 2}, state: Unproven, how: ByWords, why: errEnd,
			change: func(l *Layout, _ *Thread, _ memory) { l.MainStackEnd = 0 },
		},
		{
			name: "another thread's own stack", fn: whole, rip: outside, words: []uint64{1, 2}, state: Safe, how: ByWords,
			change: func(_ *Layout, th *Thread, _ memory) { th.TID, th.FSBase = tid+1, stackEnd-8 },
		},
		{
			name: "a stack that is not there", fn: whole, rip: outside, words: []uint64{root}, state: Unproven, how: ByWords, why: errUnmapped,
			change: func(_ *Layout, th *Thread, _ memory) { th.Regs.Value[unwind.RSP] = stackEnd - 1<<20 },
		},
		{
			name: "a stack pointer of the kernel", fn: whole, rip: outside, words: []uint64{root}, state: Unproven, how: ByWords, why: errEnd,
			change: func(_ *Layout, th *Thread, _ memory) { th.Regs.Value[unwind.RSP] = ^uint64(0) - 63 },
		},
		{
			name: "a stack pointer that is not aligned", fn: whole, rip: madeCode, words: []uint64{1, 2, root}, state: Unproven, how: ByWords, why: errAligned,
			change: func(_ *Layout, th *Thread, _ memory) { th.Regs.Value[unwind.RSP] += 4 },
		},
		{
			name: "the stack pointer at the start of its mapping", fn: whole, rip: outside, words: []uint64{1, root}, state: Safe, how: ByWords,
			change: func(_ *Layout, th *Thread, m memory) {
				for base := range m {
					m[base] = m[base][:len(m[base])-16]
					m[stackEnd-16] = little(1, root)
				}
			},
		},
		{
			name: "32-bit code", fn: whole, rip: outside, words: []uint64{root}, state: Unproven, why: errForeign,
			change: func(_ *Layout, th *Thread, _ memory) { th.Foreign = true },
		},
		{
			name: "a worker of the kernel", fn: whole, rip: 0, words: []uint64{inFn}, state: Safe, how: ByRegisters,
			change: func(_ *Layout, th *Thread, _ memory) { th.Regs = unwind.Regs{} },
		},
		{
			name: "changing its stack", fn: whole, rip: outside, words: []uint64{1, root}, state: Unproven, how: ByRegisters, why: errSwitch,
			change: func(l *Layout, _ *Thread, _ memory) { l.Switches = []Range{{outside, outside + 4}} },
		},
		{
			name: "it has changed its stack", fn: whole, rip: outside, words: []uint64{1, root}, state: Safe, how: ByWords,
			change: func(l *Layout, _ *Thread, _ memory) { l.Switches = []Range{{outside - 4, outside}} },
		},
		{
			name: "a handler, interrupted while it changed its stack", fn: whole, rip: signalFn, words: []uint64{stackEnd - 8, outside, 1, root}, state: Unproven, how: ByWords, why: errSwitch,
			change: func(l *Layout, _ *Thread, _ memory) { l.Switches = []Range{{outside, outside + 4}} },
		},
		{
			name: "about to jump into it", fn: whole, rip: outside, words: []uint64{1, root}, state: Unproven, how: ByRegisters, why: errRegister,
			change: func(_ *Layout, th *Thread, _ memory) { th.Regs.Value[unwind.RDX] = inFn },
		},
		{
			name: "a pointer to it, and one to its neighbour", fn: whole, rip: outside, words: []uint64{1, root}, state: Safe, how: ByWords,
			change: func(_ *Layout, th *Thread, _ memory) {
				th.Regs.Value[unwind.RBX], th.Regs.Value[unwind.R12] = fnStart, fnEnd
			},
		},
		{name: "many frames to the outermost", fn: whole, rip: outside, words: append(append([]uint64{}, long...), root), opt: Options{First: 4096}, state: Safe, how: ByUnwinding},
		{name: "many frames to it", fn: whole, rip: outside, words: append(append([]uint64{}, long...), inFn, root), opt: Options{First: 4096}, state: Busy, how: ByUnwinding},
		{name: "too many frames, and no word", fn: whole, rip: outside, words: append(append([]uint64{}, long...), root), opt: Options{First: 4096, MaxFrames: 100}, state: Safe, how: ByWords, why: errTooMany},
		{name: "too many frames, and a word", fn: whole, rip: outside, words: append(append([]uint64{}, long...), inFn), opt: Options{First: 4096, MaxFrames: 100}, state: Busy, how: ByWords, why: errTooMany},
		{name: "a stack that is too large", fn: whole, rip: outside, words: append(append([]uint64{}, long...), root), opt: Options{First: 4096, MaxBytes: 8192}, state: Unproven, how: ByWords, why: errEnd},
		{
			name: "a reader that gives all or nothing", fn: whole, rip: outside, words: []uint64{inFn, root}, nothing: true, state: Busy, how: ByUnwinding,
			change: func(l *Layout, _ *Thread, _ memory) { l.MainStackEnd += 1 << 16 },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m, sp := onStack(test.words...)
			l := Layout{PID: tid, MainStackEnd: stackEnd, Objects: []Object{{Name: "lib", Start: bias + 0x1000, End: bias + 0x4000, Bias: bias, Table: testTable(t)}}}
			th := Thread{TID: tid}
			th.Regs.Value[unwind.RIP], th.Regs.Value[unwind.RSP] = test.rip, sp
			if test.change != nil {
				test.change(&l, &th, m)
			}
			c, err := New(l, []Function{{Name: "elsewhere", Start: 0x100, End: 0x200}, test.fn}, test.opt)
			qt.Assert(t, qt.IsNil(err))
			var mem io.ReaderAt = m
			if test.nothing {
				mem = allOrNothing{m}
			}
			for range 2 { // the second time with what the first has left behind
				v := c.Check(mem, &th)
				qt.Check(t, qt.Equals(v.State, test.state), qt.Commentf("%+v", v))
				qt.Check(t, qt.Equals(v.How, test.how), qt.Commentf("%+v", v))
				if test.why != nil {
					qt.Check(t, qt.ErrorIs(v.Why, test.why))
				}
				qt.Check(t, qt.Equals(v.Function == "f", v.State == Busy))
				qt.Check(t, qt.Equals(v.Problem() == nil, v.State == Safe))
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]struct {
		l   Layout
		fns []Function
	}{
		"objects that overlap":          {l: Layout{Objects: []Object{{Start: 1, End: 9}, {Start: 5, End: 12}}}},
		"an object without bytes":       {l: Layout{Objects: []Object{{Start: 9, End: 9}}}},
		"a function without bytes":      {fns: []Function{{Start: 9, End: 9}}},
		"a jump before its function":    {fns: []Function{{Start: 9, End: 20, Jump: 4}}},
		"a jump at the end of all":      {fns: []Function{{Start: 9, End: ^uint64(0), Jump: ^uint64(0) - 2}}},
		"a function that ends too soon": {fns: []Function{{Start: 9, End: 8}}},
	} {
		_, err := New(give.l, give.fns, Options{})
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%s", name))
	}
}

func TestCheckAllTellsWhatBlocks(t *testing.T) {
	t.Parallel()
	m, sp := onStack(rootFn + 0x10)
	l := Layout{PID: tid, MainStackEnd: stackEnd, Objects: []Object{{Name: "lib", Start: bias + 0x1000, End: bias + 0x4000, Bias: bias, Table: testTable(t)}}}
	c, err := New(l, []Function{{Name: "f", Start: plainFn, End: plainFn + fnSize}}, Options{})
	qt.Assert(t, qt.IsNil(err))
	threads := make([]Thread, 6)
	for i := range threads {
		threads[i].TID = tid + i
		threads[i].Regs.Value[unwind.RSP], threads[i].Regs.Value[unwind.RIP] = sp, pushedFn
		if i%2 == 1 {
			threads[i].Regs.Value[unwind.RIP] = plainFn + 8
		}
	}
	qt.Check(t, qt.HasLen(c.CheckAll(m, threads[:1], 0, time.Time{}), 0))
	qt.Check(t, qt.HasLen(c.CheckAll(m, threads, 2, time.Now().Add(time.Hour)), 2))
	all := c.CheckAll(m, threads, 0, time.Time{})
	qt.Check(t, qt.Equals(all[0].TID, tid+1))
	late := c.CheckAll(m, threads[:1], 0, time.Now().Add(-time.Second))
	qt.Assert(t, qt.HasLen(late, 1))
	qt.Check(t, qt.Equals(late[0].State, Unproven))
	qt.Check(t, qt.ErrorIs(late[0].Why, errLate))
}
