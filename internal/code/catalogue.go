// SPDX-License-Identifier: Apache-2.0

package code

// Catalogue returns every code, in order. Codes are never reused.
func Catalogue() []Entry {
	return []Entry{
		// TS1xxx: input and fixes
		{"TS1001", KindError, "not a relocatable ELF64 object", "give an .o file that a compiler or assembler wrote for a 64-bit little-endian machine"},
		// TS2xxx: targets and packages
		// TS3xxx: compiling
		// TS4xxx: refusals of the differ
		// TS5xxx: the module
		// TS6xxx: virtual machine and proof
		// TS7xxx: the artifact
		// TS8xxx: risks
		// TS9xxx: the machine Tsugi runs on
	}
}
