// SPDX-License-Identifier: Apache-2.0

package arch

import "debug/elf"

// generic describes an architecture of which only the ELF format is known.
// The special sections are the ones that kernels of all architectures share;
// their entry sizes follow from the relocations.
func generic(m elf.Machine) *Arch {
	name := map[elf.Machine]string{
		elf.EM_AARCH64: "aarch64", elf.EM_PPC64: "ppc64", elf.EM_S390: "s390x",
		elf.EM_RISCV: "riscv64", elf.EM_LOONGARCH: "loongarch64",
	}[m]
	if name == "" {
		name = m.String()
	}
	return &Arch{
		Machine: m, Name: name,
		Special: []Special{
			{Name: "__bug_table", Struct: "bug_entry", Entry: 12, Relocs: 2, Key: -1, Mask: maskBugLine},
			{Name: "__ex_table", Struct: "exception_table_entry", Entry: 12, Relocs: 2, Key: -1},
			{Name: "__jump_table", Struct: "jump_entry", Entry: 16, Relocs: 3, Key: 2, KeyKind: JumpLabel},
			{Name: ".altinstructions", Struct: "alt_instr", Relocs: 2, Key: -1},
			{Name: "__patchable_function_entries", Entry: 8, Relocs: 1, Key: -1, Rule: Keep},
			{Name: "__mcount_loc", Entry: 8, Relocs: 1, Key: -1, Rule: Keep},
			{Name: ".orc_unwind_ip", Entry: 4, Relocs: 1, Key: -1, Rule: Keep, Table: ".orc_unwind", TableEntry: 8, TableStruct: "orc_entry"},
		},
		rel:        relGeneric(m),
		entryCalls: map[string]bool{"_mcount": true, "__fentry__": true},
	}
}

// relGeneric knows only what the meaning of an addend depends on. In s390x code
// the field of a PC-relative instruction begins two bytes into it, and addends
// make up for that; elsewhere addends are plain offsets.
func relGeneric(m elf.Machine) func(uint32) Rel {
	return func(typ uint32) Rel {
		if m != elf.EM_S390 {
			return Rel{}
		}
		switch elf.R_390(typ) {
		case elf.R_390_PC32DBL, elf.R_390_PLT32DBL, elf.R_390_GOTENT, elf.R_390_GOTPCDBL:
			return Rel{Known: true, PCRel: true, Size: 4, ToEnd: -2}
		case elf.R_390_PC16DBL, elf.R_390_PLT16DBL:
			return Rel{Known: true, PCRel: true, Size: 2, ToEnd: -2}
		}
		return Rel{}
	}
}
