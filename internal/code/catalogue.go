// SPDX-License-Identifier: Apache-2.0

package code

// Catalogue returns every code, in order. Codes are never reused.
func Catalogue() []Entry {
	return []Entry{
		// TS1xxx: input and fixes
		{"TS1001", KindError, "not a relocatable ELF64 object", "give an .o file that a compiler or assembler wrote for a 64-bit little-endian machine"},
		// TS2xxx: targets and packages
		{"TS2101", KindError, "not a kernel image that Tsugi can read", "give the bzImage (vmlinuz) or the ELF64 vmlinux of an x86_64 kernel"},
		{"TS2102", KindError, "the kernel image uses a compression that Tsugi does not know", "use gzip, xz, zstd, lz4, bzip2 or lzma (CONFIG_KERNEL_*), or give the vmlinux"},
		{"TS2103", KindError, "the kernel image is damaged", "get the package again and compare its checksum with the archive's"},
		{"TS2104", KindError, "the kernel image has no readable kallsyms tables", "the kernel needs CONFIG_KALLSYMS=y and CONFIG_KALLSYMS_ALL=y, as CONFIG_LIVEPATCH kernels of distributions have"},
		{"TS2201", KindError, "not a Debian binary package", "give a .deb file of format 2.0"},
		{"TS2202", KindError, "the package is damaged", "get the package again and compare its checksum with the archive's"},
		{"TS2203", KindError, "control text is malformed", "the text must be in the deb822 form of Debian's control files"},
		{"TS2204", KindError, "the package holds an entry that would leave its directory", "do not use this package; report it to who made it"},
		// TS3xxx: compiling
		// TS4xxx: refusals of the differ
		// TS5xxx: the module
		{"TS5901", KindError, "the module signature is malformed", "strip the signature (strip or objcopy) and sign again"},
		{"TS5902", KindError, "the module signature does not verify", "sign the module with the key that belongs to this certificate"},
		{"TS5903", KindError, "the signing key cannot be used", "give an RSA or ECDSA private key in PEM form and its own X.509 certificate"},
		{"TS5904", KindError, "the module carries no signature", "sign the module, or load it where signatures are not enforced"},
		// TS6xxx: virtual machine and proof
		// TS7xxx: the artifact
		// TS8xxx: risks
		// TS9xxx: the machine Tsugi runs on
	}
}
