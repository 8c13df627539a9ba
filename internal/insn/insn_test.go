// SPDX-License-Identifier: Apache-2.0

package insn

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

func bin(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	qt.Assert(t, qt.IsNil(err))
	return b
}

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		name, code string
		want       Kind
	}{
		{"call", "e8 00 00 00 00", Call},
		{"call with a padding prefix", "2e e8 00 00 00 00", Call},
		{"jmp rel32", "e9 00 00 00 00", Jump},
		{"jmp rel8", "eb fe", Jump},
		{"jne rel8", "75 10", CondJump},
		{"je rel32", "0f 84 00 01 00 00", CondJump},
		{"jrcxz", "e3 05", CondJump},
		{"xbegin", "c7 f8 00 00 00 00", CondJump},
		{"ret", "c3", Ret},
		{"rep ret", "f3 c3", Ret},
		{"ret imm16", "c2 08 00", Ret},
		{"iretq", "48 cf", Ret},
		{"sysretq", "48 0f 07", Ret},
		{"call through a register", "ff d0", IndirectCall},
		{"call through r11", "41 ff d3", IndirectCall},
		{"call through memory", "ff 15 00 00 00 00", IndirectCall},
		{"jmp through a table", "ff 24 c5 00 00 00 00", IndirectJump},
		{"push through ff is no branch", "ff 75 08", Other},
		{"nop", "90", Nop},
		{"two-byte nop", "66 90", Nop},
		{"long nop", "66 2e 0f 1f 84 00 00 00 00 00", Nop},
		{"pause is no nop", "f3 90", Other},
		{"xchg with r8 is no nop", "49 90", Other},
		{"int3", "cc", Trap},
		{"ud2", "0f 0b", Trap},
		{"ud1", "67 0f b9 40 0b", Trap},
		{"endbr64", "f3 0f 1e fa", Endbr},
		{"endbr32", "f3 0f 1e fb", Endbr},
		{"rdssp is no endbr", "f3 48 0f 1e c8", Other},
		{"VEX 0f 84 is no jump", "c5 f8 90 00", Other},
	} {
		t.Run(c.name, func(t *testing.T) {
			code := bin(t, c.code)
			in, err := Decode(append(code, 0x90, 0x90))
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(in.Len, len(code)))
			qt.Check(t, qt.Equals(in.Kind, c.want))
		})
	}
}

func TestFields(t *testing.T) {
	// movl $0x1, 0x10(%rip): the displacement counts from behind the immediate.
	in, err := Decode(bin(t, "c7 05 10 00 00 00 01 00 00 00"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(in.RIPRel))
	f, toEnd := in.FieldAt(2)
	qt.Check(t, qt.Equals(f, DispField))
	qt.Check(t, qt.Equals(toEnd, 8))
	f, toEnd = in.FieldAt(6)
	qt.Check(t, qt.Equals(f, ImmField))
	qt.Check(t, qt.Equals(toEnd, 4))
	f, _ = in.FieldAt(3)
	qt.Check(t, qt.Equals(f, NoField))
	qt.Check(t, qt.Equals(in.Disp, 0x10))
	qt.Check(t, qt.Equals(in.Imm, 1))

	// jne .-2
	in, err = Decode(bin(t, "75 fc"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(in.Target(0x100), 0xfe))

	// movabs %al, moffs
	in, err = Decode(bin(t, "a2 88 77 66 55 44 33 22 11"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(in.DispSize, 8))
	qt.Check(t, qt.Equals(in.Disp, 0x1122334455667788))
	qt.Check(t, qt.IsFalse(in.RIPRel))
}

func TestMovImm(t *testing.T) {
	for _, c := range []struct {
		name, code string
		reg        int
		ok         bool
	}{
		{"mov $5, %esi", "be 05 00 00 00", 6, true},
		{"mov $5, %r9d", "41 b9 05 00 00 00", 9, true},
		{"movabs $5, %rdx", "48 ba 05 00 00 00 00 00 00 00", 2, true},
		{"mov $5, %rdi", "48 c7 c7 05 00 00 00", 7, true},
		{"mov $5, %r8", "49 c7 c0 05 00 00 00", 8, true},
		{"movw leaves the upper half", "66 be 05 00", 0, false},
		{"to memory", "c7 00 05 00 00 00", 0, false},
		{"xbegin shares the opcode", "c7 f8 05 00 00 00", 0, false},
		{"add $5, %esi", "83 c6 05", 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, err := Decode(bin(t, c.code))
			qt.Assert(t, qt.IsNil(err))
			reg, ok := in.MovImm()
			qt.Check(t, qt.Equals(reg, c.reg))
			qt.Check(t, qt.Equals(ok, c.ok))
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, code string
		want       error
	}{
		{"nothing", "", ErrTruncated},
		{"a lone prefix", "66", ErrTruncated},
		{"a call cut short", "e8 00 00 00", ErrTruncated},
		{"fifteen prefixes", strings.Repeat("66 ", 15) + "90", ErrTooLong},
		{"push %es is gone in 64-bit mode", "06", ErrUnknown},
		{"a call whose size the vendors dispute", "66 e8 00 00 00 00", ErrUnknown},
		{"ff /7", "ff f8", ErrUnknown},
		{"lea of a register", "8d c0", ErrUnknown},
		{"REX before VEX", "48 c5 f8 77", ErrUnknown},
		{"66 before EVEX", "66 62 f1 7c 48 58 c0", ErrUnknown},
		{"EVEX with APX's bits", "62 fc 7c 48 58 c0", ErrUnknown},
		{"VEX map 0", "c4 e0 78 58 c0", ErrUnknown},
		{"jmpe", "0f b8 00 00 00 00", ErrUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, err := Decode(bin(t, c.code))
			qt.Check(t, qt.ErrorIs(err, c.want))
			qt.Check(t, qt.Equals(in, Inst{}))
		})
	}
}

func TestWalkNamesThePlace(t *testing.T) {
	var offs []int
	visit := func(off int, in Inst) error { offs = append(offs, off); return nil }
	err := Walk(bin(t, "55 48 89 e5 06"), visit)
	qt.Check(t, qt.ErrorIs(err, ErrUnknown))
	qt.Check(t, qt.ErrorMatches(err, "offset 0x4: bytes 06: .*"))
	qt.Check(t, qt.DeepEquals(offs, []int{0, 1}))
	stop := errors.New("enough")
	qt.Check(t, qt.ErrorIs(Walk(bin(t, "90 90"), func(int, Inst) error { return stop }), stop))
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"c7 05 10 00 00 00 01 00 00 00", "c4 e3 79 14 00 01", "62 f3 7d 48 25 c1 96", "8f e8 78 c0 c1 05", "c8 10 00 02", "66 0f 78 c0 01 02", "f3 0f 1e fa"} {
		f.Add(bin(f, s))
	}
	f.Fuzz(func(t *testing.T, code []byte) {
		in, err := Decode(code)
		if err != nil {
			qt.Assert(t, qt.Equals(in, Inst{}))
			return
		}
		qt.Assert(t, qt.IsTrue(in.Len > 0 && in.Len <= min(MaxLen, len(code))))
		// The fields are disjoint, in order, inside, and end with the instruction.
		end := 0
		for _, f := range [][2]int{{in.DispOff, in.DispSize}, {in.ImmOff, in.ImmSize}, {in.RelOff, in.RelSize}} {
			if f[1] == 0 {
				continue
			}
			qt.Assert(t, qt.IsTrue(f[0] >= end && f[0] > 0))
			end = f[0] + f[1]
		}
		qt.Assert(t, qt.IsTrue(end <= in.Len))
		qt.Assert(t, qt.IsTrue(in.ImmSize == 0 || in.RelSize == 0))
		// What follows an instruction does not change it.
		again, err := Decode(code[:in.Len])
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(again, in))
		for n := range in.Len {
			_, err := Decode(code[:n])
			qt.Assert(t, qt.IsNotNil(err))
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	code := bin(b, "55 48 89 e5 41 54 53 48 8b 1d 00 00 00 00 e8 00 00 00 00 c7 05 10 00 00 00 01 00 00 00 75 10 0f 84 00 01 00 00 5b 41 5c 5d c3")
	b.SetBytes(int64(len(code)))
	for b.Loop() {
		if err := Walk(code, func(int, Inst) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
