// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"debug/elf"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

func TestSpecialSectionsAreDescribedWhole(t *testing.T) {
	for _, m := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64, elf.EM_S390, elf.EM_RISCV} {
		a := For(m)
		qt.Assert(t, qt.Equals(a.Machine, m))
		seen := map[string]bool{}
		for _, s := range a.Special {
			qt.Check(t, qt.IsFalse(seen[s.Name]), qt.Commentf("%s: %s twice", a.Name, s.Name))
			seen[s.Name] = true
			qt.Check(t, qt.IsTrue(s.Relocs > 0 && s.Owner < s.Relocs && s.Key < s.Relocs), qt.Commentf("%s: %s", a.Name, s.Name))
			qt.Check(t, qt.Equals(s.Table != "", s.TableEntry > 0), qt.Commentf("%s: %s", a.Name, s.Name))
			qt.Check(t, qt.Equals(s.Key >= 0, s.KeyKind != NoKey), qt.Commentf("%s: %s", a.Name, s.Name))
			got, ok := a.FindSpecial(s.Name)
			qt.Check(t, qt.IsTrue(ok && got.Name == s.Name))
			qt.Check(t, qt.Equals(a.IsParallel(s.Table), s.Table != ""))
		}
	}
	qt.Assert(t, qt.IsFalse(For(elf.EM_X86_64).IsParallel("")))
}

func TestRelocationFieldsOfX8664(t *testing.T) {
	a := For(elf.EM_X86_64)
	for typ, want := range map[elf.R_X86_64]Rel{
		elf.R_X86_64_64:    {Known: true, Size: 8},
		elf.R_X86_64_32S:   {Known: true, Size: 4},
		elf.R_X86_64_PC32:  {Known: true, PCRel: true, Size: 4, ToEnd: 4},
		elf.R_X86_64_PLT32: {Known: true, PCRel: true, Size: 4, ToEnd: 4},
		elf.R_X86_64_NONE:  {Known: true},
		elf.R_X86_64_COPY:  {},
	} {
		qt.Check(t, qt.Equals(a.Rel(uint32(typ)), want), qt.Commentf("%v", typ))
	}
	qt.Check(t, qt.IsTrue(a.EntryCall(&elfobj.Symbol{Name: "__fentry__"})))
	qt.Check(t, qt.IsFalse(a.EntryCall(&elfobj.Symbol{Name: "printk"})))
	qt.Check(t, qt.IsFalse(a.EntryCall(nil)))
}

func TestS390AddendsCountFromTheField(t *testing.T) {
	qt.Assert(t, qt.Equals(For(elf.EM_S390).Rel(uint32(elf.R_390_PLT32DBL)).ToEnd, -2))
	qt.Assert(t, qt.IsFalse(For(elf.EM_AARCH64).Rel(uint32(elf.R_AARCH64_CALL26)).PCRel))
}

func TestEmptyReplacementKnowsTheFormsOfAltInstr(t *testing.T) {
	entry := func(size, at int, replacement byte) []byte {
		e := make([]byte, size)
		e[at] = replacement
		return e
	}
	for name, tc := range map[string]struct {
		entry   []byte
		ordinal int
		want    bool
	}{
		"12 bytes, none":  {entry(12, 10, 5), 1, true},
		"12 bytes, some":  {entry(12, 11, 5), 1, false},
		"13 bytes, none":  {entry(13, 10, 5), 1, true},
		"14 bytes, some":  {entry(14, 13, 5), 1, false},
		"14 bytes, none":  {entry(14, 12, 5), 1, true},
		"the instruction": {entry(12, 10, 5), 0, false},
		"an unknown size": {entry(9, 0, 0), 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			qt.Assert(t, qt.Equals(emptyReplacement(tc.entry, tc.ordinal), tc.want))
		})
	}
}

func TestMaskBugLineBlanksOnlyTheLine(t *testing.T) {
	e := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	maskBugLine(e)
	qt.Assert(t, qt.DeepEquals(e, []byte{1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 11, 12}))
	short := []byte{1, 2, 3, 4, 5, 6}
	maskBugLine(short)
	qt.Assert(t, qt.DeepEquals(short, []byte{1, 2, 3, 4, 5, 6}))
}
