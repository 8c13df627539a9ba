// SPDX-License-Identifier: Apache-2.0

package code

// userland are the problems of making live patches of libraries and programs.
func userland() []Entry {
	return []Entry{
		// TS3501-3509: the payload, and placing it in the ELF file
		{"TS3501", KindError, "the payload for processes is malformed", "get the live patch again, or build it again with this version of Tsugi"},
		{"TS3502", KindError, "the payload can't be put where it was to go", "report this with the process's /proc/PID/maps"},
		{"TS3503", KindRefusal, "the code refers to something in a way that a payload can't carry", "write the change without it, or restart the processes with the fixed package"},
		{"TS3504", KindRefusal, "a symbol that the change needs is not in the target", "define it in the fix, or write the fix without it"},
		{"TS3505", KindRefusal, "the change needs thread-local storage that the target has no entry for", "write the fix without this variable, or restart the processes with the fixed package"},
		{"TS3506", KindRefusal, "the function has no room for a jump", "change its callers instead, or restart the processes with the fixed package"},
		{"TS3507", KindError, "what is to be packed contradicts the ELF file", "report this: the place of a function or of data is not what its bytes say"},
		// TS3510-3529, TS4050-4069: objects, differences and verdicts
		{"TS3510", KindError, "a changed function is not found in the file that is to be patched", "the target's symbols do not tell where it lies: prepare the target again, so that it is built again with proof"},
		{"TS3511", KindError, "the compiled source is not the code that runs", "the target is not prepared as the distribution built it: another compiler, other flags, or another source"},
		{"TS3512", KindError, "nobody can tell what the fix reaches", "the build of the target recorded no command for this file: prepare the target again"},
		{"TS3514", KindRefusal, "the fix changes how the package is built, or what its sources are made of", "a live patch runs no generators and no build files: leave those hunks out if the code does not need them, or restart"},
		{"TS4050", KindRefusal, "the fix adds a thread-local variable", "threads that run have no place for it: use what exists, or a table by thread id"},
		{"TS4051", KindRefusal, "the fix adds an indirect function (IFUNC)", "only a loader would choose its implementation, and none runs: call one by its own name"},
		{"TS4052", KindRefusal, "the fix uses the kernel's callbacks", "programs have none: leave tsugi/livepatch.h out"},
		{"TS4054", KindRefusal, "an exception or a cancellation may stop in the changed function", "the program's unwinder would not know the new code: move the change into a function that none passes, or restart"},
		{"TS4055", KindRefusal, "two changed copies of one function differ", "let every source file have the same definition"},
		{"TS4056", KindRefusal, "calls of the changed function may end in another file's", "its copies in other files stay as they are: restart"},
		{"TS4057", KindRefusal, "an exception may pass through the changed function", "the program's unwinder would not know the new code and end the process: accept it if you know that nothing which the function calls throws what others catch, or restart"},
		// TS3530-3549: targets, sources, building them again
		{"TS3530", KindError, "not a package that can be patched", "name a package of amd64 and its exact version: debian:libssl3=3.0.20-1~deb12u2"},
		{"TS3531", KindError, "the package sources of this machine can't be used", "name the archive in /etc/apt with a deb line or stanza, and run apt-get update"},
		{"TS3532", KindError, "the source package could not be downloaded", "look at apt's message; the archive may no longer have the source of this version"},
		{"TS3533", KindError, "the build dependencies can't be found", "look at apt's message; the archive must be that of the package's own release"},
		{"TS3534", KindError, "the build root could not be made", "see the cause; prepare the target again: tsugictl target rm and target add"},
		{"TS3535", KindError, "the source package could not be unpacked", "look at the messages of dpkg-source"},
		{"TS3536", KindError, "the source package could not be built", "look at the log of the build"},
		{"TS3537", KindError, "the commands of the build were not recorded", "report the package and its version; its build calls its compilers in a way that Tsugi does not know"},
		{"TS3538", KindError, "a build root can't be entered here", "run as root, or allow unprivileged user namespaces and overlayfs in them"},
		{"TS3539", KindError, "the package ships no file that can be patched", "name the package that holds the library or the program: files with a build-id"},
		{"TS3540", KindError, "the symbols of a file can't be read", "remove the target (tsugictl target rm) and add it again"},
		{"TS3541", KindError, "a package of the target is not on this machine any more", "prepare it again: tsugictl target rm and target add"},
	}
}
