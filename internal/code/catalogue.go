// SPDX-License-Identifier: Apache-2.0

package code

// Catalogue returns every code, in order. Codes are never reused.
func Catalogue() []Entry {
	return []Entry{
		// TS1xxx: input and fixes
		{"TS1001", KindError, "not a relocatable ELF64 object", "give an .o file that a compiler or assembler wrote for a 64-bit little-endian machine"},
		{"TS1101", KindError, "the fix is not a diff that Tsugi can read", "give a unified diff in git or quilt style, made with -p1 paths (a/fs/x.c b/fs/x.c)"},
		{"TS1102", KindError, "the fix names a path that is not allowed", "paths must be relative to the top of the source tree, with no .. in them"},
		{"TS1103", KindError, "a hunk of the fix does not apply", "use the version of the fix that belongs to this source version (fix derive makes one from two source packages)"},
		{"TS1104", KindError, "the fix is already applied", "this target holds the fix already: nothing needs patching"},
		{"TS1105", KindError, "the fix expects another set of files than the source has", "use the version of the fix that belongs to this source version"},
		{"TS1106", KindError, "the fix holds a binary patch", "live patches are made from source text: leave binary files out of the fix"},
		{"TS1107", KindError, "the fix changes nothing", "give a diff with at least one hunk"},
		{"TS1108", KindError, "the fix touches a file twice", "merge the changes of a file into one diff of it"},
		{"TS1901", KindError, "the command line is not understood", "look at the command's --help"},
		{"TS1902", KindError, "a file cannot be read", "check the path and its permissions"},
		{"TS1903", KindError, "a file cannot be written", "check the path, its permissions and the free space"},
		{"TS1904", KindError, "no such code", "list them all: tsugictl codes"},
		// TS2xxx: targets and packages
		{"TS2101", KindError, "not a kernel image that Tsugi can read", "give the bzImage (vmlinuz) or the ELF64 vmlinux of an x86_64 kernel"},
		{"TS2102", KindError, "the kernel image uses a compression that Tsugi does not know", "use gzip, xz, zstd, lz4, bzip2 or lzma (CONFIG_KERNEL_*), or give the vmlinux"},
		{"TS2103", KindError, "the kernel image is damaged", "get the package again and compare its checksum with the archive's"},
		{"TS2104", KindError, "the kernel image has no readable kallsyms tables", "the kernel needs CONFIG_KALLSYMS=y and CONFIG_KALLSYMS_ALL=y, as CONFIG_LIVEPATCH kernels of distributions have"},
		{"TS2201", KindError, "not a Debian binary package", "give a .deb file of format 2.0"},
		{"TS2202", KindError, "the package is damaged", "get the package again and compare its checksum with the archive's"},
		{"TS2203", KindError, "control text is malformed", "the text must be in the deb822 form of Debian's control files"},
		{"TS2204", KindError, "the package holds an entry that would leave its directory", "do not use this package; report it to who made it"},
		{"TS2301", KindError, "not a target", "name a target as debian:RELEASE (debian:6.1.0-55-amd64) or tree:DIRECTORY"},
		{"TS2302", KindError, "no such target in the store", "add it first: tsugictl target add NAME"},
		{"TS2303", KindError, "the package archive does not have this package", "choose one of the packages that there are, or refresh the lists with apt-get update"},
		{"TS2304", KindError, "the package archive does not have this version of the package", "choose one of the versions that there are"},
		{"TS2305", KindError, "a package could not be downloaded", "look at the message of apt-get, and at the network and the disk"},
		{"TS2306", KindError, "a downloaded package is not what the archive announced", "the file was removed; try again"},
		{"TS2307", KindError, "a package does not hold what a kernel target needs", "report the package and its version"},
		{"TS2308", KindError, "the compiler is not the one that built the kernel", "install the compiler package of the kernel's own distribution release"},
		{"TS2309", KindError, "the configuration changes when this machine configures the source", "install the tool versions that built the kernel"},
		{"TS2310", KindError, "the source could not be prepared", "look at the messages of make"},
		{"TS2311", KindError, "the target is of an architecture that Tsugi does not patch", "Tsugi makes live patches for x86_64"},
		{"TS2312", KindError, "the kernel was not built with what live patching needs", "use a kernel with CONFIG_LIVEPATCH=y"},
		{"TS2313", KindError, "the kernel tree is not built", "build the tree first: vmlinux or bzImage, .config and Module.symvers must be there"},
		{"TS2314", KindError, "another process is working on this target", "wait for it to end"},
		{"TS2315", KindError, "the store holds something that Tsugi did not write", "remove the target (tsugictl target rm) and add it again"},
		{"TS2316", KindError, "the source version is not known for this target", "give it with --version"},
		// TS3xxx: compiling
		{"TS3101", KindError, "the fix does not compile", "correct the fix; the compiler's message is shown as it was given"},
		{"TS3102", KindError, "the original source does not compile", "the target is not prepared as the distribution built it: remove and add it again"},
		{"TS3103", KindError, "the fix changes how the kernel is built", "a live patch cannot change Makefiles, Kbuild or Kconfig files: leave those hunks out if the rest stands alone"},
		{"TS3104", KindError, "the fix changes assembly", "write the change in C, or install the new kernel"},
		{"TS3105", KindError, "the fix changes code that is not part of the running kernel", "code of boot, realmode, vdso, purgatory and tools cannot be patched live"},
		{"TS3106", KindError, "the fix reaches too many objects", "move the change from the header into the .c files that need it, or raise the limit"},
		{"TS3107", KindError, "Kbuild could not be evaluated", "the target is not prepared as the distribution built it: remove and add it again"},
		{"TS3108", KindError, "no command was recorded for an object", "remove the target and add it again"},
		{"TS3109", KindError, "the fix changes nothing in any object of this target", "nothing needs patching: the verdict is not-affected"},
		{"TS3110", KindError, "the module does not build", "look at the messages of the build"},
		{"TS3111", KindError, "nothing that the fix touches is built for this target", "nothing needs patching: the verdict is not-affected"},
		// TS4xxx: refusals of the differ
		// TS5xxx: the module
		{"TS5901", KindError, "the module signature is malformed", "strip the signature (strip or objcopy) and sign again"},
		{"TS5902", KindError, "the module signature does not verify", "sign the module with the key that belongs to this certificate"},
		{"TS5903", KindError, "the signing key cannot be used", "give an RSA or ECDSA private key in PEM form and its own X.509 certificate"},
		{"TS5904", KindError, "the module carries no signature", "sign the module, or load it where signatures are not enforced"},
		// TS6xxx: virtual machine and proof
		{"TS6001", KindError, "QEMU cannot be started", "install qemu-system-x86"},
		{"TS6002", KindError, "busybox cannot be used", "install busybox-static"},
		{"TS6003", KindError, "a program that the virtual machine needs cannot be used", "install the package that has it; mkfs.ext4 is in e2fsprogs"},
		{"TS6004", KindError, "the program for process 1 of the virtual machine is not a static executable", "build it with CGO_ENABLED=0"},
		{"TS6005", KindError, "a kernel module cannot be given to the virtual machine", "check the module's name against the target's modules"},
		{"TS6006", KindError, "the kernel image cannot be read", "add the target again"},
		{"TS6007", KindError, "QEMU ended before the kernel said anything", "look at QEMU's message; the kernel image may be damaged"},
		// TS7xxx: the artifact
		// TS8xxx: risks
		// TS9xxx: the machine Tsugi runs on
		{"TS9101", KindError, "a program that is needed is missing", "install the package that holds it"},
		{"TS9102", KindError, "interrupted", "run the command again; what was finished is kept"},
		{"TS9103", KindError, "the disk is full", "free some space and run the command again; what was finished is kept"},
	}
}
