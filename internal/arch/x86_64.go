// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"debug/elf"

	"github.com/tsugi-project/tsugi/internal/insn"
)

// x8664 follows the x86-64 psABI for relocations and the kernel's
// arch/x86/include/asm for special sections. Entry sizes are those of 6.1;
// where a struct is named, a target's BTF overrides them.
func x8664() *Arch {
	return &Arch{
		Machine: elf.EM_X86_64, Name: "x86_64",
		Decode:     insn.Decode,
		rel:        relX8664,
		entryCalls: map[string]bool{"__fentry__": true, "mcount": true},
		PCRelCall:  uint32(elf.R_X86_64_PLT32),
		KeyTest:    keyTestX8664(),
		LineRegs:   map[int]bool{7: true, 6: true, 2: true, 1: true},
		LineCallees: map[string]bool{
			"__warn_printk": true, "warn_slowpath_fmt": true, "warn_slowpath_null": true,
			"__might_sleep": true, "___might_sleep": true, "__might_resched": true, "__might_fault": true,
			"printk": true, "_printk": true, "lockdep_rcu_suspicious": true, "_dev_err": true, "_dev_warn": true,
			"__btrfs_abort_transaction": true, "__btrfs_handle_fs_error": true, "__btrfs_panic": true,
			"__ext4_error": true, "__ext4_error_inode": true, "__ext4_std_error": true, "__ext4_warning": true,
			"__ext4_warning_inode": true, "__ext4_grp_locked_error": true, "__ext4_abort": true, "__ext4_msg": true,
			"__ext4_journal_start_sb": true, "__ext4_journal_stop": true, "__ext4_handle_dirty_metadata": true,
			"__ext4_journal_get_write_access": true, "__ext4_forget": true,
			"xfs_corruption_error": true, "__xfs_buf_mark_corrupt": true, "assfail": true,
			"panic": true, "__assert_fail": true, "__assert": true,
		},
		Special: []Special{
			{Name: ".altinstructions", Struct: "alt_instr", Entry: 12, Relocs: 2, Key: -1, IgnoreReloc: emptyReplacement, Covers: replacedBytes},
			{Name: "__bug_table", Struct: "bug_entry", Entry: 12, Relocs: 2, Key: -1, Mask: maskBugLine},
			{Name: "__ex_table", Struct: "exception_table_entry", Entry: 12, Relocs: 2, Key: -1},
			{Name: "__jump_table", Struct: "jump_entry", Entry: 16, Relocs: 3, Key: 2, KeyKind: JumpLabel},
			{Name: ".static_call_sites", Struct: "static_call_site", Entry: 8, Relocs: 2, Key: 1, KeyKind: StaticCall},
			{Name: ".parainstructions", Struct: "paravirt_patch_site", Entry: 16, Relocs: 1, Key: -1},
			{Name: ".smp_locks", Entry: 4, Relocs: 1, Key: -1, Rule: Keep},
			{Name: ".retpoline_sites", Entry: 4, Relocs: 1, Key: -1, Rule: Keep},
			{Name: ".return_sites", Entry: 4, Relocs: 1, Key: -1, Rule: Keep},
			{Name: ".call_sites", Entry: 4, Relocs: 1, Key: -1, Rule: Keep},
			{Name: ".ibt_endbr_seal", Entry: 4, Relocs: 1, Key: -1, Rule: Keep},
			{Name: ".cfi_sites", Entry: 4, Relocs: 1, Key: -1, Rule: Keep},
			{Name: ".kcfi_traps", Entry: 4, Relocs: 1, Key: -1, Rule: Keep},
			{Name: ".orc_unwind_ip", Entry: 4, Relocs: 1, Key: -1, Rule: Keep, Table: ".orc_unwind", TableEntry: 6, TableStruct: "orc_entry"},
			{Name: "__mcount_loc", Entry: 8, Relocs: 1, Key: -1, Rule: Keep},
			// x86 traces through __mcount_loc; these mark only the padding
			{Name: "__patchable_function_entries", Entry: 8, Relocs: 1, Key: -1, Rule: Drop},
			{Name: ".printk_index", Entry: 8, Relocs: 1, Key: -1, Rule: Drop},
			{Name: "_kprobe_blacklist", Entry: 8, Relocs: 1, Key: -1, Rule: Drop},
			{Name: "_error_injection_whitelist", Entry: 16, Relocs: 1, Key: -1, Rule: Drop},
		},
	}
}

func relX8664(typ uint32) Rel {
	switch elf.R_X86_64(typ) {
	case elf.R_X86_64_NONE:
		return Rel{Known: true}
	case elf.R_X86_64_64:
		return Rel{Known: true, Size: 8}
	case elf.R_X86_64_32, elf.R_X86_64_32S:
		return Rel{Known: true, Size: 4}
	case elf.R_X86_64_16:
		return Rel{Known: true, Size: 2}
	case elf.R_X86_64_8:
		return Rel{Known: true, Size: 1}
	case elf.R_X86_64_PC64:
		return Rel{Known: true, PCRel: true, Size: 8, ToEnd: 8}
	case elf.R_X86_64_PC32, elf.R_X86_64_PLT32:
		return Rel{Known: true, PCRel: true, Size: 4, ToEnd: 4}
	case elf.R_X86_64_GOT32:
		return Rel{Known: true, Size: 4, Way: ByGOT}
	case elf.R_X86_64_SIZE32:
		return Rel{Known: true, Size: 4, Way: SizeOf}
	case elf.R_X86_64_SIZE64:
		return Rel{Known: true, Size: 8, Way: SizeOf}
	}
	return relUserland(elf.R_X86_64(typ))
}

// relUserland classifies what only programs and libraries have.
func relUserland(typ elf.R_X86_64) Rel {
	gotField := Rel{Known: true, PCRel: true, Size: 4, ToEnd: 4}
	switch typ {
	case elf.R_X86_64_GOTPCREL, elf.R_X86_64_GOTPCRELX, elf.R_X86_64_REX_GOTPCRELX:
		gotField.Way = ByGOT
	case elf.R_X86_64_GOTTPOFF:
		gotField.Way = TLSIE
	case elf.R_X86_64_TLSGD:
		gotField.Way = TLSGD
	case elf.R_X86_64_TLSLD:
		gotField.Way = TLSLD
	case elf.R_X86_64_GOTPC32_TLSDESC:
		gotField.Way = TLSDesc
	case elf.R_X86_64_TPOFF32:
		return Rel{Known: true, Size: 4, Way: TLSLE}
	case elf.R_X86_64_TPOFF64:
		return Rel{Known: true, Size: 8, Way: TLSLE}
	case elf.R_X86_64_DTPOFF32:
		return Rel{Known: true, Size: 4, Way: TLSBlock}
	case elf.R_X86_64_DTPOFF64, elf.R_X86_64_DTPMOD64:
		return Rel{Known: true, Size: 8, Way: TLSBlock}
	default:
		return Rel{}
	}
	return gotField
}

// maskBugLine blanks bug_entry.line: two relative addresses, then the line,
// then flags (include/asm-generic/bug.h with CONFIG_GENERIC_BUG_RELATIVE_POINTERS
// and CONFIG_DEBUG_BUGVERBOSE). Entries of other shapes stay as they are.
func maskBugLine(entry []byte) {
	if len(entry) == 12 {
		entry[8], entry[9] = 0, 0
	}
}

// emptyReplacement: an alternative whose replacement has no bytes points at
// whatever follows in .altinstr_replacement. struct alt_instr is 12 bytes (13
// up to 5.12, with padlen last) with replacementlen at 11, or 14 bytes since
// 6.3 with replacementlen at 13.
func emptyReplacement(entry []byte, ordinal int) bool {
	if ordinal != 1 {
		return false
	}
	switch len(entry) {
	case 12, 13:
		return entry[11] == 0
	case 14:
		return entry[13] == 0
	}
	return false
}

// replacedBytes is alt_instr.instrlen, the byte before replacementlen (and, up
// to 5.12, padlen).
func replacedBytes(entry []byte) int {
	switch n := len(entry); n {
	case 12, 14:
		return int(entry[n-2])
	case 13:
		return int(entry[10])
	}
	return 0
}

// keyTestX8664 tests the count that struct static_key begins with, which is 0
// when the key is off and anything else when it is on or about to be. It
// changes the flags, as every asm statement may on x86.
func keyTestX8664() *KeyTest {
	test := func(condition byte) []byte {
		return []byte{
			0x83, 0x3d, 0, 0, 0, 0, 0, // cmpl $0, key(%rip)
			0x0f, condition, 0, 0, 0, 0,
			0xe9, 0, 0, 0, 0,
		}
	}
	return &KeyTest{
		On: test(0x85), Off: test(0x84), // jne, je
		Key: 2, KeyToEnd: 5, KeyRel: uint32(elf.R_X86_64_PC32), Taken: 9, Back: 14,
		Jump: []byte{0xe9, 0, 0, 0, 0}, Nop: []byte{0x0f, 0x1f, 0x44, 0, 0},
	}
}
